//! The records as they stand, kept up one change at a time, so that a change costs what it touches and not the mesh.

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
#[derive(Debug)]
pub struct Inventory {
    layout: Layout,
    /// Workers by id.
    pub workers: BTreeMap<String, Arc<Worker>>,
    /// Cards.
    pub devices: BTreeMap<DeviceId, Arc<DeviceRecord>>,
    /// The newest document of each policy, not judged yet.
    pub candidates: BTreeMap<PolicyId, Candidate>,
    /// The verdicts that stand in etcd.
    pub statuses: BTreeMap<PolicyId, RecordedStatus>,
    /// Ignored records: key to reason.
    pub rejected: BTreeMap<String, String>,
}

impl Inventory {
    /// An empty one.
    pub fn new(layout: Layout) -> Self {
        Self {
            layout,
            workers: BTreeMap::new(),
            devices: BTreeMap::new(),
            candidates: BTreeMap::new(),
            statuses: BTreeMap::new(),
            rejected: BTreeMap::new(),
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
        match reason {
            Some(reason) if change.stored.is_some() => self.rejected.insert(name, reason),
            _ => self.rejected.remove(&name),
        };
    }

    /// Puts the value in its place; gives the reason when it is refused.
    fn place(&mut self, key: Key, stored: Option<&Stored>) -> Option<String> {
        match (key, stored) {
            (Key::Worker(id), Some(stored)) => match record::worker(&id, &stored.value, stored.created) {
                Ok(worker) => drop(self.workers.insert(id, Arc::new(worker))),
                Err(reason) => {
                    self.workers.remove(&id);
                    return Some(reason.to_string());
                }
            },
            (Key::Device(id), Some(stored)) => match record::device(&stored.value) {
                Ok(device) => drop(self.devices.insert(id, Arc::new(device))),
                Err(reason) => {
                    self.devices.remove(&id);
                    return Some(reason.to_string());
                }
            },
            (Key::Policy(id), Some(stored)) => {
                self.candidates.insert(
                    id,
                    Candidate {
                        revision: stored.modified,
                        json: stored.value.clone(),
                    },
                );
            }
            (Key::PolicyStatus(id), Some(stored)) => {
                let status = serde_json::from_slice(&stored.value).ok();
                self.statuses.insert(
                    id,
                    RecordedStatus {
                        modified: stored.modified,
                        status,
                    },
                );
            }
            (Key::Worker(id), None) => drop(self.workers.remove(&id)),
            (Key::Device(id), None) => drop(self.devices.remove(&id)),
            (Key::Policy(id), None) => drop(self.candidates.remove(&id)),
            (Key::PolicyStatus(id), None) => drop(self.statuses.remove(&id)),
        }
        None
    }

    /// Keys that someone meant for us and misspelled, as against keys of a later release elsewhere under the prefix.
    fn ought_to_be_ours(&self, key: &str) -> bool {
        [self.layout.workers(), self.layout.devices(), self.layout.policies()]
            .iter()
            .any(|part| key.starts_with(part))
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
