//! The records as they stand, kept up one change at a time. A change costs reading the one record, and a copy of the one map
//! that it is in (of names and pointers) when that map has been given out; a change that changes nothing costs no copy.

use crate::admission::Candidate;
use crate::model::{Worker, record};
use kilocard_registry::device::DeviceRecord;
use kilocard_registry::layout::{DeviceId, Key, Layout, PolicyId};
use kilocard_registry::policy_status::PolicyStatus;
use std::collections::BTreeMap;
use std::sync::Arc;

/// A value as it stands under a key.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Stored {
    /// Revision at which the key appeared.
    pub created: i64,
    /// Revision of this value.
    pub modified: i64,
    /// The value.
    pub value: Arc<[u8]>,
}

/// One key's new value; `None` when it is gone.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Change {
    /// The key in full.
    pub key: Vec<u8>,
    /// What stands there now.
    pub stored: Option<Stored>,
}

/// The verdict that stands in etcd about a policy.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct RecordedStatus {
    /// Revision of the status record itself.
    pub modified: i64,
    /// What it says; `None` when it cannot be read and has to be written anew.
    pub status: Option<PolicyStatus>,
}

/// All records under the prefix, parsed.
#[derive(Clone, Debug)]
pub struct Inventory {
    layout: Layout,
    /// Workers by id.
    pub workers: Arc<BTreeMap<String, Arc<Worker>>>,
    /// Cards.
    pub devices: Arc<BTreeMap<DeviceId, Arc<DeviceRecord>>>,
    /// The newest document of each policy, not judged yet.
    pub candidates: BTreeMap<PolicyId, Candidate>,
    /// The verdicts that stand in etcd.
    pub statuses: Arc<BTreeMap<PolicyId, RecordedStatus>>,
    /// Ignored records: key to reason.
    pub rejected: Arc<BTreeMap<String, String>>,
}

impl Inventory {
    /// An empty one.
    pub fn new(layout: Layout) -> Self {
        Self {
            layout,
            workers: Arc::default(),
            devices: Arc::default(),
            candidates: BTreeMap::new(),
            statuses: Arc::default(),
            rejected: Arc::default(),
        }
    }

    /// Takes one change in.
    pub fn apply(&mut self, change: &Change) {
        let name = String::from_utf8_lossy(&change.key).into_owned();
        let reason = match self.layout.parse(&change.key) {
            Some(key) => self.place(key, change.stored.as_ref()),
            None if self.ought_to_be_ours(&name) => Some("not a key of this layout: see docs/etcd.md".to_owned()),
            None => None,
        };
        set(&mut self.rejected, name, reason.filter(|_| change.stored.is_some()));
    }

    /// Puts the value in its place; gives the reason when it is refused.
    fn place(&mut self, key: Key, stored: Option<&Stored>) -> Option<String> {
        let mut reason = None;
        let mut refuse = |why: record::InvalidRecord| reason = Some(why.to_string());
        match key {
            Key::Worker(id) => {
                let read = stored.map(|stored| record::worker(&id, &stored.value, stored.created));
                let worker = read.and_then(|read| read.map_err(&mut refuse).ok());
                set(&mut self.workers, id, worker.map(Arc::new));
            }
            Key::Device(id) => {
                let read = stored.map(|stored| record::device(&stored.value));
                let device = read.and_then(|read| read.map_err(&mut refuse).ok());
                set(&mut self.devices, id, device.map(Arc::new));
            }
            Key::Policy(id) => {
                let candidate = stored.map(|stored| Candidate {
                    revision: stored.modified,
                    json: stored.value.clone(),
                });
                match candidate {
                    Some(candidate) => drop(self.candidates.insert(id, candidate)),
                    None => drop(self.candidates.remove(&id)),
                }
            }
            Key::PolicyStatus(id) => {
                let status = stored.map(|stored| RecordedStatus {
                    modified: stored.modified,
                    status: serde_json::from_slice(&stored.value).ok(),
                });
                set(&mut self.statuses, id, status);
            }
        }
        reason
    }

    /// Keys that someone meant for us and misspelled, as against keys of a later release elsewhere under the prefix.
    fn ought_to_be_ours(&self, key: &str) -> bool {
        [self.layout.workers(), self.layout.devices(), self.layout.policies()]
            .iter()
            .any(|part| key.starts_with(part))
    }
}

/// Sets or removes an entry; a map that has it so already is left alone, and stays shared.
fn set<K: Ord + Clone, V: PartialEq + Clone>(map: &mut Arc<BTreeMap<K, V>>, key: K, value: Option<V>) {
    if map.get(&key) == value.as_ref() {
        return;
    }
    let map = Arc::make_mut(map);
    match value {
        Some(value) => drop(map.insert(key, value)),
        None => drop(map.remove(&key)),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn put(key: &str, value: &str) -> Change {
        let stored = Stored {
            created: 1,
            modified: 2,
            value: value.as_bytes().into(),
        };
        Change {
            key: key.into(),
            stored: Some(stored),
        }
    }

    fn gone(key: &str) -> Change {
        Change {
            key: key.into(),
            stored: None,
        }
    }

    const WORKER: &str =
        r#"{"id": "w", "address": "10.0.0.7:1", "node": "n", "models": [{"model": "m", "version": "v1"}]}"#;

    #[test]
    fn a_record_that_turns_bad_is_ignored_and_one_that_turns_good_again_counts() {
        let mut inventory = Inventory::new(Layout::default());
        let key = "/kilocard/v1/workers/w";
        inventory.apply(&put(key, WORKER));
        assert_eq!(inventory.workers.len(), 1);
        inventory.apply(&put(key, "{}"));
        assert!(inventory.workers.is_empty());
        assert!(inventory.rejected[key].contains("missing field"));
        inventory.apply(&put(key, WORKER));
        assert!(inventory.rejected.is_empty());
        inventory.apply(&gone(key));
        assert!(inventory.workers.is_empty());
    }

    #[test]
    fn a_bad_record_that_is_deleted_is_no_longer_reported() {
        let mut inventory = Inventory::new(Layout::default());
        inventory.apply(&put("/kilocard/v1/devices/gpu/n/0", "{}"));
        assert_eq!(inventory.rejected.len(), 1);
        inventory.apply(&gone("/kilocard/v1/devices/gpu/n/0"));
        assert!(inventory.rejected.is_empty());
    }

    #[test]
    fn misspelled_keys_are_reported_and_foreign_ones_left_alone() {
        let mut inventory = Inventory::new(Layout::default());
        inventory.apply(&put("/kilocard/v1/workers/a/b", WORKER));
        inventory.apply(&put("/kilocard/v1/leader/x", "?"));
        assert_eq!(
            inventory.rejected.keys().collect::<Vec<_>>(),
            ["/kilocard/v1/workers/a/b"]
        );
    }

    #[test]
    fn a_status_that_cannot_be_read_is_known_to_stand_there() {
        let mut inventory = Inventory::new(Layout::default());
        inventory.apply(&put("/kilocard/v1/status/policies/RoutingPolicy/m", "?"));
        let id = PolicyId::new("RoutingPolicy", "m");
        assert_eq!(
            inventory.statuses[&id],
            RecordedStatus {
                modified: 2,
                status: None
            }
        );
    }
}
