//! From changes of keys to the mesh: mirror, records and admission as one. Pure.

use crate::admission::{Admission, Candidate, Wanted};
use crate::model::Mesh;
use crate::model::inventory::{Change, Inventory, RecordedStatus};
use crate::source::mirror::{Listing, Message, Mirror, Reaction, Relist};
use kilocard_registry::layout::{Key, Layout, PolicyId};
use std::collections::BTreeMap;
use std::sync::Arc;

/// Workers that vanish from a listing at once, from which on it is not believed without a second look: a share of all…
const SUSPICIOUS_SHARE: f64 = 0.3;
/// … and a number, since of three workers one is a third.
const SUSPICIOUS_COUNT: usize = 3;

/// Everything known, and what follows from it.
#[derive(Debug)]
pub struct Ledger {
    layout: Layout,
    mirror: Mirror,
    inventory: Inventory,
    admission: Admission,
}

impl Ledger {
    /// An empty one.
    pub fn new(layout: Layout) -> Self {
        let inventory = Inventory::new(layout.clone());
        Self {
            layout,
            mirror: Mirror::default(),
            inventory,
            admission: Admission::default(),
        }
    }

    /// Newest revision that was taken in.
    pub fn revision(&self) -> i64 {
        self.mirror.revision()
    }

    /// Whether so many workers are missing from the listing that it should be read a second time.
    pub fn is_suspicious(&self, listing: &Listing) -> bool {
        let (lost, all) = self.mirror.losses(listing, &self.layout.workers());
        lost >= SUSPICIOUS_COUNT && lost as f64 > all as f64 * SUSPICIOUS_SHARE
    }

    /// Takes the very first listing. The judge is not asked yet: first come [`Ledger::wanted`] and [`Ledger::recover`].
    pub fn begin(&mut self, listing: Listing) {
        for change in self.mirror.replace(listing) {
            self.inventory.apply(&change);
        }
    }

    /// Documents that were in force before this process began and have to be fetched from etcd's history.
    pub fn wanted(&self) -> Vec<Wanted> {
        Admission::wanted(&self.inventory.candidates, &self.inventory.statuses)
    }

    /// Takes up what was in force before this process began, then judges; see [`Admission::recover`].
    pub fn recover(&mut self, past: &BTreeMap<PolicyId, Option<Candidate>>) {
        self.admission
            .recover(&self.inventory.candidates, &self.inventory.statuses, past);
        self.admission.judge(&self.inventory.candidates);
    }

    /// Takes a later listing.
    pub fn replace(&mut self, listing: Listing) {
        let changes = self.mirror.replace(listing);
        self.take(&changes);
    }

    /// Takes a message of the watch.
    ///
    /// # Errors
    /// The reason for which everything must be listed again.
    pub fn react(&mut self, message: Message) -> Result<(), Relist> {
        match self.mirror.react(message) {
            Reaction::Changed(changes) => {
                self.take(&changes);
                Ok(())
            }
            Reaction::Relist(reason) => Err(reason),
        }
    }

    /// The mesh as it follows from everything known; it shares what did not change with the one given out before.
    pub fn mesh(&self) -> Mesh {
        Mesh {
            revision: self.mirror.revision(),
            workers: Arc::clone(&self.inventory.workers),
            devices: Arc::clone(&self.inventory.devices),
            policies: Arc::clone(self.admission.in_force()),
            verdicts: Arc::clone(self.admission.verdicts()),
            rejected: Arc::clone(&self.inventory.rejected),
        }
    }

    /// The verdicts that stand in etcd.
    pub fn statuses(&self) -> &Arc<BTreeMap<PolicyId, RecordedStatus>> {
        &self.inventory.statuses
    }

    fn take(&mut self, changes: &[Change]) {
        for change in changes {
            self.inventory.apply(change);
        }
        let is_policy = |change: &Change| matches!(self.layout.parse(&change.key), Some(Key::Policy(_)));
        if changes.iter().any(is_policy) {
            self.admission.judge(&self.inventory.candidates);
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::model::inventory::Stored;
    use kilocard_registry::policy_status::PolicyState;

    const POLICY: &str = "/kilocard/v1/policies/RoutingPolicy/m";
    const STATUS: &str = "/kilocard/v1/status/policies/RoutingPolicy/m";
    const GOOD: &str = r#"{"api_version": "kilocard/v1", "kind": "RoutingPolicy", "metadata": {"name": "m"},
        "spec": {"model": "m", "versions": [{"version": "v1", "weight": 100}]}}"#;

    fn stored(revision: i64, value: &str) -> Stored {
        Stored {
            created: 1,
            modified: revision,
            value: value.as_bytes().into(),
        }
    }

    fn listing(revision: i64, entries: &[(&str, &str)]) -> Listing {
        let entries = entries
            .iter()
            .map(|(key, value)| (key.as_bytes().to_vec(), stored(revision, value)));
        Listing {
            revision,
            entries: entries.collect(),
        }
    }

    fn begun(entries: &[(&str, &str)]) -> Ledger {
        let mut ledger = Ledger::new(Layout::default());
        ledger.begin(listing(5, entries));
        ledger.recover(&BTreeMap::new());
        ledger
    }

    fn put(revision: i64, key: &str, value: &str) -> Message {
        let change = Change {
            key: key.into(),
            stored: Some(stored(revision, value)),
        };
        Message {
            changes: vec![(revision, change)],
            ..Message::default()
        }
    }

    #[test]
    fn a_change_of_a_verdict_in_etcd_does_not_change_the_mesh() {
        let mut ledger = begun(&[(POLICY, GOOD)]);
        let before = ledger.mesh();
        ledger.react(put(6, STATUS, "{}")).unwrap();
        assert_eq!(ledger.mesh(), before);
        assert_eq!(ledger.statuses().len(), 1);
    }

    #[test]
    fn a_mesh_shares_what_did_not_change() {
        let worker =
            r#"{"id": "w", "address": "10.0.0.7:1", "node": "n", "models": [{"model": "m", "version": "v1"}]}"#;
        let mut ledger = begun(&[(POLICY, GOOD), ("/kilocard/v1/workers/w", worker)]);
        let before = ledger.mesh();
        assert!(ledger.mesh().is(&before));
        ledger.react(put(6, "/kilocard/v1/workers/w", worker)).unwrap();
        assert!(ledger.mesh().is(&before), "written anew and the same");
        ledger
            .react(put(7, "/kilocard/v1/workers/w", &worker.replace(":1", ":2")))
            .unwrap();
        let after = ledger.mesh();
        assert!(!after.is(&before));
        assert!(Arc::ptr_eq(&after.policies, &before.policies) && Arc::ptr_eq(&after.verdicts, &before.verdicts));
    }

    #[test]
    fn a_bad_policy_over_the_watch_leaves_the_good_one_in_the_mesh() {
        let mut ledger = begun(&[(POLICY, GOOD)]);
        ledger.react(put(6, POLICY, "{}")).unwrap();
        let mesh = ledger.mesh();
        assert_eq!(mesh.policies.len(), 1);
        assert_eq!(mesh.verdicts.values().next().unwrap().state, PolicyState::Rejected);
    }

    #[test]
    fn a_listing_without_a_third_of_many_workers_is_suspicious_and_one_without_a_single_one_is_not() {
        let keys: Vec<String> = (0..6).map(|n| format!("/kilocard/v1/workers/{n}")).collect();
        let all: Vec<(&str, &str)> = keys.iter().map(|key| (key.as_str(), "{}")).collect();
        let ledger = begun(&all);
        assert!(ledger.is_suspicious(&listing(6, &all[3..])));
        assert!(!ledger.is_suspicious(&listing(6, &all[2..])));
        assert!(!begun(&all[..1]).is_suspicious(&listing(6, &[])));
    }
}
