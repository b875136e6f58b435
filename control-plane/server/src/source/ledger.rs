//! From changes of keys to the mesh: mirror, records, admission and hold as one. Pure: time is given.

use crate::admission::{Admission, Candidate, Wanted};
use crate::model::inventory::{Change, Inventory, RecordedStatus, Stored};
use crate::model::{Mesh, Worker};
use crate::saved::{HeldRecord, Saved};
use crate::source::hold::{Ended, Gone, Hold, is_crowd};
use crate::source::mirror::{Listing, Message, Mirror, Reaction, Relist, Remarks};
use kilocard_registry::layout::{Key, Layout, PolicyId};
use kilocard_registry::policy_status::{PolicyState, PolicyStatus};
use std::collections::BTreeMap;
use std::sync::Arc;
use std::time::{Duration, Instant, SystemTime};

/// Everything known, and what follows from it.
#[derive(Clone, Debug)]
pub struct Ledger {
    layout: Layout,
    mirror: Mirror,
    inventory: Inventory,
    admission: Admission,
    hold: Hold,
    remarks: Remarks,
    /// The last good documents of an earlier process, for when the store's history no longer has them.
    remembered: BTreeMap<PolicyId, Candidate>,
    /// Workers as they are given out: those that are there, and those that are held.
    workers: Arc<BTreeMap<String, Arc<Worker>>>,
    verdicts: Arc<BTreeMap<PolicyId, PolicyStatus>>,
    rejected: Arc<BTreeMap<String, String>>,
}

impl Ledger {
    /// An empty one that holds workers for at most `hold_for`, see [`Hold`].
    pub fn new(layout: Layout, hold_for: Duration) -> Self {
        let inventory = Inventory::new(layout.clone());
        Self {
            layout,
            mirror: Mirror::default(),
            workers: Arc::clone(&inventory.workers),
            verdicts: Arc::default(),
            rejected: Arc::clone(&inventory.rejected),
            inventory,
            admission: Admission::default(),
            hold: Hold::new(hold_for),
            remarks: Remarks::default(),
            remembered: BTreeMap::new(),
        }
    }

    /// The state as an earlier process left it on disk, `age` ago: its records, the policies that were in force, and those
    /// workers that were held.
    pub fn restore(layout: Layout, hold_for: Duration, saved: Saved, (now, unix): (Instant, SystemTime)) -> Self {
        let mut ledger = Self::new(layout, hold_for);
        ledger.remember(&saved);
        let listing = Listing {
            revision: saved.revision,
            entries: saved.entries,
            ..Listing::default()
        };
        for change in ledger.mirror.replace(listing) {
            ledger.inventory.apply(&change);
        }
        if let Some(since) = saved.held_since {
            let ago = unix.duration_since(since).unwrap_or_default();
            let since = now.checked_sub(ago).unwrap_or(now);
            let held = saved.held.iter().filter_map(|held| held.read(since));
            ledger
                .hold
                .resume(held.map(|gone| (gone.worker.id.clone(), gone)).collect(), since);
            ledger.hold.tick(now);
        }
        ledger.admission.readmit(&ledger.remembered);
        ledger.judge();
        ledger.merge();
        ledger
    }

    /// Keeps an earlier process's last good documents in mind, without serving them yet.
    pub fn remember(&mut self, saved: &Saved) {
        self.remembered.clone_from(&saved.documents);
    }

    /// Newest revision that was taken in.
    pub fn revision(&self) -> i64 {
        self.mirror.revision()
    }

    /// Whether so many workers are missing from the listing that it should be read a second time.
    pub fn is_suspicious(&self, listing: &Listing) -> bool {
        let (lost, all) = self.mirror.losses(listing, &self.layout.workers());
        is_crowd(lost, all)
    }

    /// Takes this process's first listing. The judge is not asked yet: first come [`Ledger::wanted`] and
    /// [`Ledger::recover`].
    pub fn begin(&mut self, listing: Listing, now: Instant) -> Option<Ended> {
        self.remarks = listing.remarks.clone();
        let workers = self.mirror.workers_missing(&listing, &self.layout.workers());
        let changes = self.mirror.replace(listing);
        self.apply(&changes, &workers, now)
    }

    /// Documents that were in force before this process began and have to be fetched from etcd's history.
    pub fn wanted(&self) -> Vec<Wanted> {
        Admission::wanted(&self.inventory.candidates, &self.inventory.statuses)
    }

    /// Takes up what was in force before this process began, then judges; see [`Admission::recover`]. What history has
    /// lost comes from what [`Ledger::remember`] was told, and so does what no verdict in the store speaks of.
    pub fn recover(&mut self, past: &BTreeMap<PolicyId, Option<Candidate>>) {
        let (candidates, statuses) = (&self.inventory.candidates, &self.inventory.statuses);
        let mut past = past.clone();
        let mut unspoken = BTreeMap::new();
        for (id, document) in std::mem::take(&mut self.remembered) {
            let serving = statuses.get(&id).and_then(|recorded| recorded.status.as_ref());
            match serving.and_then(|status| status.serving_revision) {
                Some(revision) if revision == document.revision => {
                    let found = past.entry(id).or_default();
                    found.get_or_insert(document);
                }
                Some(_) => {}
                // One that was deleted meanwhile goes when the judge finds that nobody refers to it.
                None => drop(unspoken.insert(id, document)),
            }
        }
        self.admission = Admission::default();
        self.admission.recover(candidates, statuses, &past);
        self.admission.readmit(&unspoken);
        self.judge();
        self.merge();
    }

    /// Takes a later listing; tells if a hold ended by it.
    pub fn replace(&mut self, listing: Listing, now: Instant) -> Option<Ended> {
        let remarked = self.remarks != listing.remarks;
        self.remarks = listing.remarks.clone();
        let workers = self.mirror.workers_missing(&listing, &self.layout.workers());
        let changes = self.mirror.replace(listing);
        let ended = self.take(&changes, &workers, now);
        if remarked {
            self.judge();
            self.merge();
        }
        ended
    }

    /// Takes a message of the watch; tells if a hold ended by it.
    ///
    /// # Errors
    /// The reason for which everything must be listed again.
    pub fn react(&mut self, message: Message, now: Instant) -> Result<Option<Ended>, Relist> {
        let prefix = self.layout.workers();
        let workers = self.mirror.workers_deleted(&message, &prefix);
        match self.mirror.react(message) {
            Reaction::Changed(changes) => Ok(self.take(&changes, &workers, now)),
            Reaction::Relist(reason) => Err(reason),
        }
    }

    /// Ends a hold if it is time to.
    pub fn tick(&mut self, now: Instant) -> Option<Ended> {
        let ended = self.hold.tick(now);
        if ended.is_some() {
            self.merge();
        }
        ended
    }

    /// Lets go of whoever is held; how many there were.
    pub fn release(&mut self) -> usize {
        let released = self.hold.release();
        self.merge();
        released
    }

    /// Who is held, and when it ends.
    pub fn hold(&self) -> &Hold {
        &self.hold
    }

    /// The mesh as it follows from everything known; it shares what did not change with the one given out before.
    pub fn mesh(&self) -> Mesh {
        Mesh {
            revision: self.mirror.revision(),
            workers: Arc::clone(&self.workers),
            devices: Arc::clone(&self.inventory.devices),
            policies: Arc::clone(self.admission.in_force()),
            verdicts: Arc::clone(&self.verdicts),
            rejected: Arc::clone(&self.rejected),
        }
    }

    /// The verdicts that stand in etcd.
    pub fn statuses(&self) -> &Arc<BTreeMap<PolicyId, RecordedStatus>> {
        &self.inventory.statuses
    }

    /// What a later process would need in order to go on from here; the caller adds where and when.
    pub fn save(&self, (now, unix): (Instant, SystemTime)) -> Saved {
        let documents = self.admission.in_force().iter().filter_map(|(id, policy)| {
            let json = serde_json::to_vec(&*policy.document).ok()?.into();
            let revision = policy.revision;
            Some((id.clone(), Candidate { revision, json }))
        });
        let active = self.hold.active();
        Saved {
            revision: self.mirror.revision(),
            entries: self.mirror.entries().clone(),
            documents: documents.collect(),
            held_since: active.map(|active| unix - now.duration_since(active.since)),
            held: active
                .into_iter()
                .flat_map(|active| active.workers.values().map(HeldRecord::of))
                .collect(),
        }
    }

    fn take(&mut self, changes: &[Change], vanished: &BTreeMap<String, Stored>, now: Instant) -> Option<Ended> {
        let ended = self.apply(changes, vanished, now);
        let is_policy = |change: &Change| matches!(self.layout.parse(&change.key), Some(Key::Policy(_)));
        if changes.iter().any(is_policy) {
            self.judge();
        }
        if !changes.is_empty() || ended.is_some() {
            self.merge();
        }
        ended
    }

    /// Takes the changes into the inventory, and those workers that are gone with them into the hold.
    fn apply(&mut self, changes: &[Change], vanished: &BTreeMap<String, Stored>, now: Instant) -> Option<Ended> {
        let (mut gone, mut accounted) = (BTreeMap::new(), Vec::new());
        for change in changes {
            let Some(Key::Worker(id)) = self.layout.parse(&change.key) else {
                self.inventory.apply(change);
                continue;
            };
            let before = self.inventory.workers.get(&id).cloned();
            self.inventory.apply(change);
            match (before, self.inventory.workers.get(&id)) {
                // A record that has turned bad counts as gone too: it may be all workers' after an upgrade.
                (Some(worker), None) if !worker.draining => {
                    let record = vanished.get(&id).or(change.stored.as_ref()).cloned();
                    if let Some(record) = record {
                        gone.insert(
                            id,
                            Gone {
                                worker,
                                record,
                                at: now,
                            },
                        );
                    }
                }
                (_, Some(_)) => {
                    gone.remove(&id);
                    accounted.push(id);
                }
                _ => {}
            }
        }
        if gone.is_empty() && accounted.is_empty() {
            return None;
        }
        let present = self.inventory.workers.len();
        let gone = gone.into_values().collect();
        self.hold.take(gone, accounted.iter().map(String::as_str), present, now)
    }

    fn judge(&mut self) {
        self.admission.judge(&self.inventory.candidates);
        self.verdicts = Arc::clone(self.admission.verdicts());
        if self.remarks.unreadable.is_empty() {
            return;
        }
        let in_force = Arc::clone(self.admission.in_force());
        let verdicts = Arc::make_mut(&mut self.verdicts);
        for (id, error) in &self.remarks.unreadable {
            let revision = self
                .inventory
                .candidates
                .get(id)
                .map_or(0, |candidate| candidate.revision);
            let verdict = verdicts.entry(id.clone()).or_insert_with(|| PolicyStatus {
                state: PolicyState::Rejected,
                revision,
                serving_revision: in_force.get(id).map(|policy| policy.revision),
                errors: Vec::new(),
            });
            verdict.state = PolicyState::Rejected;
            verdict.errors.insert(0, error.clone());
        }
    }

    /// Puts together what is given out, sharing what nothing has to be added to.
    fn merge(&mut self) {
        self.workers = match self.hold.active() {
            None => Arc::clone(&self.inventory.workers),
            Some(active) => {
                let mut workers = (*self.inventory.workers).clone();
                for (id, gone) in &active.workers {
                    workers.entry(id.clone()).or_insert_with(|| Arc::clone(&gone.worker));
                }
                Arc::new(workers)
            }
        };
        self.rejected = if self.remarks.refused.is_empty() {
            Arc::clone(&self.inventory.rejected)
        } else {
            let mut rejected = (*self.inventory.rejected).clone();
            rejected.extend(self.remarks.refused.clone());
            Arc::new(rejected)
        };
    }
}

#[cfg(test)]
mod tests;
