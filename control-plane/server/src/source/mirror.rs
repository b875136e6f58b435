//! A copy of what etcd holds under the prefix, and the rules for keeping it true. Pure.
//!
//! Watches have been known to lose events, to go back in time and to skip deletions around compactions (etcd issues
//! 15271, 17529, 18089), so revisions are checked and a full listing is compared from time to time.

use crate::model::inventory::{Change, Stored};
use kilocard_registry::layout::PolicyId;
use kilocard_registry::policy_status::PolicyError;
use std::collections::BTreeMap;

/// The copy.
#[derive(Clone, Debug, Default)]
pub struct Mirror {
    revision: i64,
    entries: BTreeMap<Vec<u8>, Stored>,
}

/// Everything under the prefix at one revision.
#[derive(Debug, Default)]
pub struct Listing {
    /// The revision.
    pub revision: i64,
    /// What stood there.
    pub entries: BTreeMap<Vec<u8>, Stored>,
    /// Which store it was: etcd's cluster id; 0 where there is none.
    pub cluster: u64,
    /// What the source has to say about what it could not read.
    pub remarks: Remarks,
}

/// What a source could not read at all, and so could not list. What it had read there before is still listed.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Remarks {
    /// Policies whose newest text is no document.
    pub unreadable: BTreeMap<PolicyId, PolicyError>,
    /// Files or keys, with the reason.
    pub refused: BTreeMap<String, String>,
}

/// A message of a watch.
#[derive(Debug, Default)]
pub struct Message {
    /// The watch was cancelled by the server.
    pub cancelled: bool,
    /// Non-zero when it was cancelled because its start revision was compacted; the oldest revision still had.
    pub compact_revision: i64,
    /// Why it was cancelled.
    pub reason: String,
    /// Set by a periodic progress notification: every event up to this revision was delivered.
    pub complete_to: Option<i64>,
    /// Events, each with the revision at which it happened.
    pub changes: Vec<(i64, Change)>,
}

/// What a message amounts to.
#[derive(Debug, PartialEq, Eq)]
pub enum Reaction {
    /// These keys changed (possibly none).
    Changed(Vec<Change>),
    /// The copy can no longer be trusted to follow: list again.
    Relist(Relist),
}

/// Why everything is listed again.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Relist {
    /// The first listing, or the first after a lost connection: etcd may have been restored to an older state.
    Connected,
    /// Events that were not delivered yet have been compacted.
    Compacted,
    /// An event came with a revision that had passed already.
    OutOfOrder,
    /// The server cancelled the watch for another reason.
    Cancelled,
    /// The safety net.
    Periodic,
}

impl Relist {
    /// Label in metrics and logs.
    pub const fn label(self) -> &'static str {
        match self {
            Self::Connected => "connected",
            Self::Compacted => "compacted",
            Self::OutOfOrder => "out_of_order",
            Self::Cancelled => "cancelled",
            Self::Periodic => "periodic",
        }
    }
}

impl Mirror {
    /// Newest revision that was taken in.
    pub fn revision(&self) -> i64 {
        self.revision
    }

    /// Everything that stands there.
    pub fn entries(&self) -> &BTreeMap<Vec<u8>, Stored> {
        &self.entries
    }

    /// The records below `prefix` that the listing lacks, by the rest of their keys.
    pub fn workers_missing(&self, listing: &Listing, prefix: &str) -> BTreeMap<String, Stored> {
        let missing = self
            .below(prefix)
            .filter(|(key, _)| !listing.entries.contains_key(*key));
        missing.filter_map(|(key, stored)| named(key, prefix, stored)).collect()
    }

    /// The records below `prefix` that the message deletes, by the rest of their keys.
    pub fn workers_deleted(&self, message: &Message, prefix: &str) -> BTreeMap<String, Stored> {
        let deleted = message.changes.iter().filter(|(_, change)| change.stored.is_none());
        let stood = deleted.filter_map(|(_, Change { key, .. })| Some((key, self.entries.get(key)?)));
        stood.filter_map(|(key, stored)| named(key, prefix, stored)).collect()
    }

    fn below(&self, prefix: &str) -> impl Iterator<Item = (&Vec<u8>, &Stored)> {
        let from = prefix.as_bytes().to_vec();
        self.entries
            .range(from.clone()..)
            .take_while(move |(key, _)| key.starts_with(&from))
    }

    /// How many of the keys below `prefix` the listing lacks, and how many there are.
    pub fn losses(&self, listing: &Listing, prefix: &str) -> (usize, usize) {
        self.below(prefix).fold((0, 0), |(lost, all), (key, _)| {
            (lost + usize::from(!listing.entries.contains_key(key)), all + 1)
        })
    }

    /// Takes a full listing and gives what is different from before.
    pub fn replace(&mut self, listing: Listing) -> Vec<Change> {
        let gone = self.entries.keys().filter(|key| !listing.entries.contains_key(*key));
        let mut changes: Vec<Change> = gone
            .map(|key| Change {
                key: key.clone(),
                stored: None,
            })
            .collect();
        let new = listing
            .entries
            .iter()
            .filter(|(key, stored)| self.entries.get(*key) != Some(*stored));
        changes.extend(new.map(|(key, stored)| Change {
            key: key.clone(),
            stored: Some(stored.clone()),
        }));
        self.revision = listing.revision;
        self.entries = listing.entries;
        changes
    }

    /// Takes a message of the watch that began right after [`Mirror::revision`].
    pub fn react(&mut self, message: Message) -> Reaction {
        if message.compact_revision != 0 {
            return Reaction::Relist(Relist::Compacted);
        }
        if message.cancelled {
            // Older servers give the reason in words only.
            let compacted = message.reason.contains("compacted");
            return Reaction::Relist(if compacted {
                Relist::Compacted
            } else {
                Relist::Cancelled
            });
        }
        let mut newest = self.revision;
        for (revision, _) in &message.changes {
            // Events of one transaction share a revision and come in one message; none may repeat an earlier message.
            if *revision <= self.revision || *revision < newest {
                return Reaction::Relist(Relist::OutOfOrder);
            }
            newest = *revision;
        }
        let changes: Vec<Change> = message.changes.into_iter().map(|(_, change)| change).collect();
        for Change { key, stored } in &changes {
            match stored {
                Some(stored) => self.entries.insert(key.clone(), stored.clone()),
                None => self.entries.remove(key),
            };
        }
        self.revision = newest.max(message.complete_to.unwrap_or(0));
        Reaction::Changed(changes)
    }
}

/// A record by the rest of its key, if it stands below the prefix.
fn named(key: &[u8], prefix: &str, stored: &Stored) -> Option<(String, Stored)> {
    let name = std::str::from_utf8(key).ok()?.strip_prefix(prefix)?;
    Some((name.to_owned(), stored.clone()))
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    fn stored(revision: i64, value: &str) -> Stored {
        Stored {
            created: 1,
            modified: revision,
            value: value.as_bytes().into(),
        }
    }

    fn put(revision: i64, key: &str) -> (i64, Change) {
        (
            revision,
            Change {
                key: key.into(),
                stored: Some(stored(revision, "v")),
            },
        )
    }

    fn delete(revision: i64, key: &str) -> (i64, Change) {
        (
            revision,
            Change {
                key: key.into(),
                stored: None,
            },
        )
    }

    fn listing(revision: i64, entries: &[(&str, i64)]) -> Listing {
        let entries = entries
            .iter()
            .map(|(key, at)| (key.as_bytes().to_vec(), stored(*at, "v")))
            .collect();
        Listing {
            revision,
            entries,
            ..Listing::default()
        }
    }

    fn events(changes: Vec<(i64, Change)>) -> Message {
        Message {
            changes,
            ..Message::default()
        }
    }

    #[test]
    fn a_relisting_gives_only_what_is_different() {
        let mut mirror = Mirror::default();
        assert_eq!(mirror.replace(listing(5, &[("/a", 1), ("/b", 2)])).len(), 2);
        assert!(mirror.replace(listing(9, &[("/a", 1), ("/b", 2)])).is_empty());
        assert_eq!(mirror.revision(), 9);
        let changes = mirror.replace(listing(12, &[("/b", 11), ("/c", 12)]));
        let keys: Vec<_> = changes.iter().map(|c| (c.key.as_slice(), c.stored.is_some())).collect();
        assert_eq!(
            keys,
            [
                (b"/a".as_slice(), false),
                (b"/b".as_slice(), true),
                (b"/c".as_slice(), true)
            ]
        );
    }

    #[test]
    fn a_store_that_was_restored_to_an_older_state_is_followed_back() {
        let mut mirror = Mirror::default();
        mirror.replace(listing(50, &[("/a", 50)]));
        assert_eq!(mirror.replace(listing(7, &[("/a", 3)])).len(), 1);
        assert_eq!(mirror.revision(), 7);
    }

    #[test]
    fn compaction_leads_to_a_relisting_however_the_server_says_it() {
        let mut mirror = Mirror::default();
        let by_number = Message {
            cancelled: true,
            compact_revision: 9,
            ..Message::default()
        };
        assert_eq!(mirror.react(by_number), Reaction::Relist(Relist::Compacted));
        let reason = "etcdserver: mvcc: required revision has been compacted".to_owned();
        let by_word = Message {
            cancelled: true,
            reason,
            ..Message::default()
        };
        assert_eq!(mirror.react(by_word), Reaction::Relist(Relist::Compacted));
        let other = Message {
            cancelled: true,
            reason: "no leader".to_owned(),
            ..Message::default()
        };
        assert_eq!(mirror.react(other), Reaction::Relist(Relist::Cancelled));
    }

    #[test]
    fn an_event_from_the_past_is_never_applied() {
        let mut mirror = Mirror::default();
        mirror.replace(listing(5, &[("/a", 5)]));
        assert_eq!(
            mirror.react(events(vec![delete(5, "/a")])),
            Reaction::Relist(Relist::OutOfOrder)
        );
        assert_eq!(
            mirror.react(events(vec![put(7, "/b"), put(6, "/c")])),
            Reaction::Relist(Relist::OutOfOrder)
        );
        assert_eq!(mirror.entries.len(), 1);
    }

    #[test]
    fn events_of_one_transaction_share_their_revision() {
        let mut mirror = Mirror::default();
        let reaction = mirror.react(events(vec![put(6, "/a"), put(6, "/b"), delete(7, "/a")]));
        assert!(matches!(reaction, Reaction::Changed(changes) if changes.len() == 3));
        assert_eq!((mirror.revision(), mirror.entries.len()), (7, 1));
    }

    #[test]
    fn progress_moves_the_revision_without_changes() {
        let mut mirror = Mirror::default();
        let progress = Message {
            complete_to: Some(40),
            ..Message::default()
        };
        assert_eq!(mirror.react(progress), Reaction::Changed(vec![]));
        assert_eq!(mirror.revision(), 40);
    }

    #[test]
    fn losses_are_counted_below_the_prefix_only() {
        let mut mirror = Mirror::default();
        mirror.replace(listing(5, &[("/w/a", 1), ("/w/b", 2), ("/p/a", 3)]));
        assert_eq!(mirror.losses(&listing(6, &[("/w/b", 2)]), "/w/"), (1, 2));
    }

    proptest! {
        /// The changes that come out are all that a follower needs: it never differs from the copy.
        #[test]
        fn whoever_applies_the_changes_holds_what_the_mirror_holds(
            steps in prop::collection::vec((any::<bool>(), prop::collection::vec((0u8..6, any::<bool>()), 0..5)), 0..20),
        ) {
            let (mut mirror, mut follower) = (Mirror::default(), BTreeMap::new());
            for (relist, keys) in steps {
                let revision = mirror.revision() + 1;
                let changes = if relist {
                    let entries = keys.iter().map(|(key, _)| (vec![*key], stored(revision, "x"))).collect();
                    mirror.replace(Listing { revision, entries, ..Listing::default() })
                } else {
                    let changes = keys.iter().map(|(key, put)| {
                        (revision, Change { key: vec![*key], stored: put.then(|| stored(revision, "y")) })
                    });
                    match mirror.react(events(changes.collect())) {
                        Reaction::Changed(changes) => changes,
                        Reaction::Relist(reason) => return Err(TestCaseError::fail(reason.label())),
                    }
                };
                for Change { key, stored } in changes {
                    match stored {
                        Some(stored) => follower.insert(key, stored),
                        None => follower.remove(&key),
                    };
                }
                prop_assert_eq!(&follower, &mirror.entries);
            }
        }
    }
}
