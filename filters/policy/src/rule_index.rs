//! Finds the rules that apply to a request, at a cost that does not grow with the rules that do not.
//!
//! A rule applies to subjects (the models of a validation rule, the tenants of a routing rule) and to methods; a side that
//! lists nothing means every one. Rules are hashed by pairs of subject and method, so a request asks for at most six lists:
//! its subject or any, times its method, its service or any. Their union in declared order is what applies.

use std::borrow::Borrow;
use std::collections::HashMap;
use std::hash::{BuildHasherDefault, Hash, Hasher};

use xxhash_rust::xxh3::xxh3_64_with_seed;

#[cfg(test)]
mod tests;

/// Whom a rule is for.
#[derive(Clone, Debug)]
pub(crate) struct Scope<'r, S> {
    /// Empty: every subject, and requests without one.
    pub(crate) subjects: Vec<S>,
    /// `/package.Service/Method`, or `/package.Service/` for every method of a service. Empty: every path.
    pub(crate) methods: Vec<&'r str>,
}

/// Positions of rules by subject and method. A subject is the bytes of a name, or whatever else can be hashed.
#[derive(Clone, Debug)]
pub(crate) struct RuleIndex<S = Vec<u8>> {
    subjects: Map<S, u32>,
    /// Methods and services; a service ends in `/`, a method never does.
    methods: Map<Box<[u8]>, u32>,
    /// Ascending positions of rules, by [`pair`].
    lists: Map<u64, Vec<u32>>,
    /// What is left to check of the rules that stand in the lists of one side only.
    wide: Map<u32, Wide>,
}

/// A rule with many subjects and many methods would need a list entry for every pair of them, which a hostile document
/// could turn into gigabytes: beyond this many it stands under its longer side, and the other is checked when it is found.
const MAX_PAIRS: usize = 64;

/// The id of "every subject" and of "every method".
const ANY: u32 = 0;

/// The sorted ids of the side under which a rule does not stand.
#[derive(Clone, Debug)]
enum Wide {
    Subjects(Vec<u32>),
    Methods(Vec<u32>),
}

impl<S: Hash + Eq> RuleIndex<S> {
    /// Rules are numbered from 0, in order.
    pub(crate) fn build<'r>(rules: impl IntoIterator<Item = Scope<'r, S>>) -> Self {
        let mut index = Self::default();
        for (rule, scope) in (0..).zip(rules) {
            index.add(rule, scope);
        }
        index
    }

    fn add(&mut self, rule: u32, scope: Scope<'_, S>) {
        let mut subjects: Vec<_> = scope
            .subjects
            .into_iter()
            .map(|it| intern(&mut self.subjects, it))
            .collect();
        let mut methods: Vec<_> = scope
            .methods
            .into_iter()
            .map(|method| intern(&mut self.methods, method.as_bytes().into()))
            .collect();
        for ids in [&mut subjects, &mut methods] {
            if ids.is_empty() {
                ids.push(ANY);
            }
            ids.sort_unstable();
            ids.dedup();
        }
        if subjects.len().saturating_mul(methods.len()) > MAX_PAIRS && subjects.len() > 1 && methods.len() > 1 {
            let any = vec![ANY];
            let check = if subjects.len() < methods.len() {
                Wide::Subjects(std::mem::replace(&mut subjects, any))
            } else {
                Wide::Methods(std::mem::replace(&mut methods, any))
            };
            self.wide.insert(rule, check);
        }
        for subject in &subjects {
            for method in &methods {
                self.lists.entry(pair(*subject, *method)).or_default().push(rule);
            }
        }
    }

    /// The rules for a subject (`None`: the request has none) and a path, ascending, each once. Allocates nothing.
    pub(crate) fn find<Q>(&self, subject: Option<&Q>, path: &[u8]) -> Matches<'_>
    where
        S: Borrow<Q>,
        Q: Hash + Eq + ?Sized,
    {
        let mut found = Matches {
            lists: [&[]; 6],
            wide: &self.wide,
            asked: Asked::default(),
        };
        if self.lists.is_empty() {
            return found;
        }
        if !self.subjects.is_empty() {
            found.asked.subject = subject.and_then(|subject| self.subjects.get(subject)).copied();
        }
        if !self.methods.is_empty() {
            found.asked.method = self.methods.get(path).copied();
            found.asked.service = service(path).and_then(|service| self.methods.get(service)).copied();
        }
        let Asked {
            subject,
            method,
            service,
        } = found.asked;
        let subjects = [Some(ANY), subject];
        let pairs = subjects
            .into_iter()
            .flat_map(|subject| [Some(ANY), method, service].map(|method| Some(pair(subject?, method?))));
        for (list, pair) in found.lists.iter_mut().zip(pairs) {
            *list = pair.and_then(|pair| self.lists.get(&pair)).map_or(&[], Vec::as_slice);
        }
        found
    }
}

impl<S> Default for RuleIndex<S> {
    fn default() -> Self {
        Self {
            subjects: Map::default(),
            methods: Map::default(),
            lists: Map::default(),
            wide: Map::default(),
        }
    }
}

/// The rules that apply to one request, ascending.
#[derive(Clone, Debug)]
pub(crate) struct Matches<'i> {
    lists: [&'i [u32]; 6],
    wide: &'i Map<u32, Wide>,
    asked: Asked,
}

/// The ids of what a request has; `None` where no rule names it.
#[derive(Clone, Copy, Debug, Default)]
struct Asked {
    subject: Option<u32>,
    method: Option<u32>,
    service: Option<u32>,
}

impl Matches<'_> {
    fn next_in_lists(&mut self) -> Option<u32> {
        let rule = *self.lists.iter().filter_map(|list| list.first()).min()?;
        for list in &mut self.lists {
            // A rule that names a method and its whole service stands in two lists.
            if let [first, rest @ ..] = list
                && *first == rule
            {
                *list = rest;
            }
        }
        Some(rule)
    }

    fn applies(&self, rule: u32) -> bool {
        let among = |ids: &[u32], id: Option<u32>| id.is_some_and(|id| ids.binary_search(&id).is_ok());
        match self.wide.get(&rule) {
            None => true,
            Some(Wide::Subjects(ids)) => among(ids, self.asked.subject),
            Some(Wide::Methods(ids)) => among(ids, self.asked.method) || among(ids, self.asked.service),
        }
    }
}

impl Iterator for Matches<'_> {
    type Item = usize;

    fn next(&mut self) -> Option<usize> {
        loop {
            let rule = self.next_in_lists()?;
            if self.wide.is_empty() || self.applies(rule) {
                return usize::try_from(rule).ok();
            }
        }
    }
}

/// `/package.Service/` of `/package.Service/Method`.
fn service(path: &[u8]) -> Option<&[u8]> {
    let rest = path.strip_prefix(b"/")?;
    let slash = rest.iter().position(|byte| *byte == b'/')?;
    path.get(..slash + 2)
}

fn pair(subject: u32, method: u32) -> u64 {
    u64::from(subject) << 32 | u64::from(method)
}

/// The id of a key, from 1 on.
fn intern<K: Hash + Eq>(ids: &mut Map<K, u32>, key: K) -> u32 {
    // A document is too short for 2^32 names.
    let next = ids.len() as u32 + 1;
    *ids.entry(key).or_insert(next)
}

type Map<K, V> = HashMap<K, V, BuildHasherDefault<Xxh3>>;

/// One-shot xxh3 a write. No secret is needed: only operators put keys into these maps.
#[derive(Clone, Copy, Debug, Default)]
struct Xxh3(u64);

impl Hasher for Xxh3 {
    fn write(&mut self, bytes: &[u8]) {
        self.0 = xxh3_64_with_seed(bytes, self.0);
    }

    fn finish(&self) -> u64 {
        self.0
    }

    /// Text ends its bytes with a 0xff, and slices begin with their length; neither needs a hash of its own.
    fn write_u8(&mut self, byte: u8) {
        self.0 ^= u64::from(byte);
    }

    fn write_usize(&mut self, number: usize) {
        self.0 ^= number as u64;
    }
}
