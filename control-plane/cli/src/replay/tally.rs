//! Requests that fare alike, counted.

use serde_json::{Value, json};
use std::collections::{BTreeMap, HashSet};
use std::rc::Rc;

/// Most examples of a group that are kept.
const EXAMPLES: usize = 3;

/// Where a captured request was found, and who sent it.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) struct Origin {
    /// The file.
    pub(super) file: Rc<str>,
    /// Its line, from 1.
    pub(super) line: u64,
    /// The digest of the user, else of the tenant or the session, if the request has any.
    pub(super) who: Option<u64>,
}

impl Origin {
    /// `access.log:17`.
    pub(super) fn place(&self) -> String {
        format!("{}:{}", self.file, self.line)
    }

    /// As captures write it: `#0123456789abcdef`.
    pub(super) fn who(&self) -> Option<String> {
        self.who.map(|digest| format!("#{digest:016x}"))
    }
}

/// Requests that fare alike.
#[derive(Debug, Default)]
pub(super) struct Group {
    pub(super) requests: u64,
    who: HashSet<u64>,
    examples: Vec<(Origin, String)>,
}

impl Group {
    fn add(&mut self, origin: &Origin, note: impl FnOnce() -> String) {
        self.requests += 1;
        self.who.extend(origin.who);
        if self.examples.len() < EXAMPLES {
            self.examples.push((origin.clone(), note()));
        }
    }

    /// How many distinct users, tenants and sessions.
    pub(super) fn users(&self) -> usize {
        self.who.len()
    }

    /// One of them, in words.
    pub(super) fn example(&self) -> String {
        let Some((origin, note)) = self.examples.first() else {
            return String::new();
        };
        let who = origin.who().map_or(String::new(), |who| format!(" {who}"));
        let note = if note.is_empty() {
            String::new()
        } else {
            format!(" {note}")
        };
        format!("{}{who}{note}", origin.place())
    }

    fn to_json(&self) -> Value {
        let example = |(origin, note): &(Origin, String)| json!({"file": &*origin.file, "line": origin.line, "user": origin.who(), "note": note});
        json!({
            "requests": self.requests, "users": self.users(),
            "examples": self.examples.iter().map(example).collect::<Value>(),
        })
    }
}

/// Groups by what they have in common: as many as policies can tell apart, whatever the requests hold.
#[derive(Debug)]
pub(super) struct Groups<K>(BTreeMap<K, Group>);

impl<K> Default for Groups<K> {
    fn default() -> Self {
        Self(BTreeMap::new())
    }
}

impl<K: Ord> Groups<K> {
    /// Counts a request; `note` is what is particular about it, asked for only if it is kept as an example.
    pub(super) fn add(&mut self, key: K, origin: &Origin, note: impl FnOnce() -> String) {
        self.0.entry(key).or_default().add(origin, note);
    }

    pub(super) fn is_empty(&self) -> bool {
        self.0.is_empty()
    }

    /// Requests of all groups.
    pub(super) fn requests(&self) -> u64 {
        self.0.values().map(|group| group.requests).sum()
    }

    /// Distinct users of all groups.
    pub(super) fn users(&self) -> usize {
        self.0
            .values()
            .flat_map(|group| &group.who)
            .collect::<HashSet<_>>()
            .len()
    }

    /// The largest first.
    pub(super) fn largest_first(&self) -> Vec<(&K, &Group)> {
        let mut groups: Vec<_> = self.0.iter().collect();
        groups.sort_by_key(|(_, group)| std::cmp::Reverse(group.requests));
        groups
    }

    /// Each group with the fields of its key.
    pub(super) fn to_json(&self, fields: impl Fn(&K) -> Value) -> Value {
        let one = |(key, group): (&K, &Group)| {
            let (mut value, of_group) = (fields(key), group.to_json());
            if let (Value::Object(value), Value::Object(of_group)) = (&mut value, of_group) {
                value.extend(of_group);
            }
            value
        };
        self.largest_first().into_iter().map(one).collect()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn requests_are_counted_users_once_and_few_examples_kept() {
        let mut groups = Groups::default();
        for line in 1..=10 {
            let origin = Origin {
                file: "a.log".into(),
                line,
                who: Some(line % 4),
            };
            groups.add(if line < 3 { "small" } else { "large" }, &origin, || {
                format!("note {line}")
            });
        }
        let told = groups.largest_first();
        assert_eq!((*told[0].0, told[0].1.requests, told[0].1.users()), ("large", 8, 4));
        assert_eq!(told[0].1.example(), "a.log:3 #0000000000000003 note 3");
        assert_eq!((groups.requests(), groups.users()), (10, 4));
        let json = groups.to_json(|key| json!({"key": key}));
        assert_eq!(
            (&json[0]["key"], &json[1]["examples"][1]["line"]),
            (&json!("large"), &json!(2))
        );
    }
}
