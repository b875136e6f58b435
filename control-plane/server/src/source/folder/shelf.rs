//! From files to a listing with revisions, as etcd would have given it. Pure: time is given.
//!
//! A revision says when a record became what it is: the time at which its file was written, in milliseconds since 1970, or
//! the next number where that would not rise. So the order of two documents in conflict, of which the older one wins,
//! survives a restart, and replicas that see the same files agree on it. What changed within one file has one revision, as
//! within one transaction of etcd.

use crate::model::inventory::Stored;
use crate::saved::{Saved, to_unix_ms};
use crate::source::folder::documents::Record;
use crate::source::mirror::{Listing, Remarks};
use kilocard_registry::layout::{Key, Layout};
use kilocard_registry::policy_status::PolicyError;
use std::collections::{BTreeMap, BTreeSet};
use std::time::SystemTime;

/// What a file holds.
#[derive(Clone, Debug)]
pub(super) struct Held {
    /// When it was last written.
    pub(super) modified: SystemTime,
    /// Its records, or why it has none.
    pub(super) records: Result<Vec<Record>, String>,
}

/// The records as they were last listed.
#[derive(Debug)]
pub(super) struct Shelf {
    layout: Layout,
    revision: i64,
    entries: BTreeMap<Vec<u8>, Stored>,
    /// Which records each file held when it could last be read.
    held: BTreeMap<String, BTreeSet<Vec<u8>>>,
}

impl Shelf {
    pub(super) fn new(layout: Layout) -> Self {
        Self {
            layout,
            revision: 0,
            entries: BTreeMap::new(),
            held: BTreeMap::new(),
        }
    }

    /// Takes up what an earlier process listed, so that what has not changed keeps its revision, and what cannot be read
    /// now its last good text.
    pub(super) fn seed(&mut self, saved: &Saved) {
        self.revision = saved.revision;
        self.entries.clone_from(&saved.entries);
    }

    /// The listing that these files amount to; of two that hold the same record the first by name counts.
    pub(super) fn list<'a>(&mut self, files: impl Iterator<Item = (&'a str, &'a Held)>, now: SystemTime) -> Listing {
        let mut files: Vec<(&str, &Held)> = files.collect();
        let mut remarks = Remarks::default();
        let mut owners: BTreeMap<Vec<u8>, &str> = BTreeMap::new();
        for (path, held) in &files {
            match &held.records {
                Ok(records) => {
                    for (key, _) in records {
                        let owner = owners.entry(self.key(key)).or_insert(path);
                        if owner != path {
                            let reason = format!("{} stands already in {owner}, which counts", self.layout.key(key));
                            remarks.refused.insert((*path).to_owned(), reason);
                        }
                    }
                }
                Err(reason) => drop(remarks.refused.insert((*path).to_owned(), reason.clone())),
            }
        }
        // The older file first, for the order of revisions.
        files.sort_by_key(|(path, held)| (held.modified, *path));
        let mut entries = BTreeMap::new();
        for (path, held) in &files {
            let Ok(records) = &held.records else { continue };
            let ours = records.iter().map(|(key, value)| (self.key(key), value));
            let ours: Vec<_> = ours.filter(|(key, _)| owners.get(key) == Some(path)).collect();
            self.held
                .insert((*path).to_owned(), ours.iter().map(|(key, _)| key.clone()).collect());
            let changed = ours
                .iter()
                .any(|(key, value)| self.stands(key).is_none_or(|stored| stored.value != **value));
            if changed {
                self.advance(held.modified.min(now));
            }
            for (key, value) in ours {
                let stands = self.stands(&key);
                let stored = match stands.filter(|stored| stored.value == *value) {
                    Some(stored) => stored.clone(),
                    None => Stored {
                        created: stands.map_or(self.revision, |stored| stored.created),
                        modified: self.revision,
                        value: value.clone(),
                    },
                };
                entries.insert(key, stored);
            }
        }
        self.keep_unreadable(&files, &mut entries, &mut remarks);
        self.held.retain(|path, _| files.iter().any(|(there, _)| there == path));
        if self.entries.keys().any(|key| !entries.contains_key(key)) {
            self.advance(SystemTime::UNIX_EPOCH);
        }
        self.entries = entries.clone();
        Listing {
            revision: self.revision,
            entries,
            cluster: 0,
            remarks,
        }
    }

    /// What files that cannot be read held before stays; of one that this process has never read nobody knows what it
    /// held, so everything that no other file holds stays.
    fn keep_unreadable(&self, files: &[(&str, &Held)], entries: &mut BTreeMap<Vec<u8>, Stored>, remarks: &mut Remarks) {
        for (path, held) in files {
            let Err(reason) = &held.records else { continue };
            let known = self.held.get(*path);
            for (key, stored) in &self.entries {
                let of_this_file = known.map_or(self.may_be_of(path, key), |known| known.contains(key));
                if !of_this_file || entries.contains_key(key) {
                    continue;
                }
                if let Some(Key::Policy(id)) = self.layout.parse(key) {
                    let error = PolicyError {
                        path: String::new(),
                        message: format!("{path} {reason}"),
                    };
                    remarks.unreadable.insert(id, error);
                }
                entries.insert(key.clone(), stored.clone());
            }
        }
    }

    /// Whether a file at this path may have held the record.
    fn may_be_of(&self, path: &str, key: &[u8]) -> bool {
        let stem = path.rsplit_once('.').map_or(path, |(stem, _)| stem);
        match self.layout.parse(key) {
            Some(Key::Policy(_)) => path.starts_with("policies/"),
            Some(Key::Worker(_) | Key::Device(_)) => key == format!("{}{stem}", self.layout.root()).as_bytes(),
            _ => false,
        }
    }

    fn key(&self, key: &Key) -> Vec<u8> {
        self.layout.key(key).into_bytes()
    }

    fn stands(&self, key: &[u8]) -> Option<&Stored> {
        self.entries.get(key)
    }

    fn advance(&mut self, written: SystemTime) {
        let written = i64::try_from(to_unix_ms(written)).unwrap_or(0);
        self.revision = written.max(self.revision.saturating_add(1));
    }
}

#[cfg(test)]
mod tests;
