//! What one client holds of one type, what it is owed, and what it refused.

use crate::interest::Interest;
use crate::report::{Members, Refusal, ResourceStatus};
use crate::snapshot::{Resource, ResourceSet, Version};
use std::collections::{BTreeMap, BTreeSet};
use std::sync::Arc;

/// How the protocol tells a client that a resource is gone.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Removals {
    /// Delta: "the server signals the client that a resource should be deleted via the removed_resources field".
    Named,
    /// State of the world, clusters and listeners: "if a previously seen resource is not present in a new response, that
    /// indicates that the resource has been removed".
    ByAbsence,
    /// State of the world, all others: "the API provides no mechanism for the server to tell the client that resources have
    /// been deleted".
    Untold,
}

/// What the client holds under a name.
#[derive(Clone, Debug, PartialEq, Eq)]
enum Holding {
    /// That version: sent, or brought along from an earlier stream.
    Version(Version),
    /// Something, or nothing: it refused a response with this name in it, or asked for everything anew.
    Unknown,
    /// Nothing, and it has been told that there is nothing.
    Nothing,
}

/// What there is to send.
#[derive(Debug, Default)]
pub(crate) struct Plan {
    pub(crate) send: Vec<Arc<Resource>>,
    pub(crate) remove: Vec<String>,
    /// Names whose removal waits for other types.
    pub(crate) held: Vec<String>,
    /// What the client holds, to be reminded of before it drops it.
    pub(crate) refresh: Vec<Arc<Resource>>,
    /// Whether there is more than this.
    pub(crate) partial: bool,
}

impl Plan {
    pub(crate) fn is_empty(&self) -> bool {
        self.send.is_empty() && self.remove.is_empty() && self.refresh.is_empty()
    }

    /// Cuts it down to what fits into so many bytes, at least one resource or name. What is removed goes with the last part:
    /// make before break.
    pub(crate) fn limit(&mut self, bytes: usize) {
        let mut room = bytes;
        let mut fits = |size: usize| {
            let first = room == bytes;
            let fits = size <= room || first;
            room = if fits { room.saturating_sub(size.max(1)) } else { 0 };
            fits
        };
        let send = self.send.iter().take_while(|resource| fits(resource.size())).count();
        let remove = if send < self.send.len() {
            0
        } else {
            self.remove
                .iter()
                .take_while(|name| fits(name.len() + NAME_OVERHEAD))
                .count()
        };
        self.partial = send < self.send.len() || remove < self.remove.len();
        self.send.truncate(send);
        self.remove.truncate(remove);
        if self.partial {
            self.refresh.clear();
        }
    }
}

/// Bytes that a name takes on the wire besides its own, at most.
const NAME_OVERHEAD: usize = 6;

/// The ledger of one type on one stream.
#[derive(Debug)]
pub(crate) struct Ledger {
    removals: Removals,
    holdings: BTreeMap<String, Holding>,
    /// Names that get an answer whatever the client already holds.
    owed: BTreeSet<String>,
    /// Refused responses of which nothing has changed since. A name is in one of them at most.
    refused: Vec<Arc<Refusal>>,
}

impl Ledger {
    pub(crate) fn new(removals: Removals) -> Self {
        Self {
            removals,
            holdings: BTreeMap::new(),
            owed: BTreeSet::new(),
            refused: Vec::new(),
        }
    }

    /// Whether a refusal stands: the client still uses something older than what is served.
    pub(crate) fn stands_refused(&self) -> bool {
        !self.refused.is_empty()
    }

    /// The refusals that stand.
    pub(crate) fn refusals(&self) -> &[Arc<Refusal>] {
        &self.refused
    }

    /// The name gets an answer whatever the client holds, and even if it refused it before.
    pub(crate) fn owe(&mut self, name: &str) {
        self.refused.retain(|refusal| !refusal.members.contains_key(name));
        self.owed.insert(name.to_owned());
    }

    /// What is held under the name has to be sent again, and even if it was refused before. Unlike [`Ledger::owe`] this
    /// answers no question: should it not exist any more, its removal waits like any other.
    pub(crate) fn renew(&mut self, name: &str) {
        self.refused.retain(|refusal| !refusal.members.contains_key(name));
        if self.holds(name) {
            self.holdings.insert(name.to_owned(), Holding::Unknown);
        }
    }

    /// Everything held has to be sent again.
    pub(crate) fn owe_everything(&mut self) {
        self.refused.clear();
        for holding in self
            .holdings
            .values_mut()
            .filter(|holding| **holding != Holding::Nothing)
        {
            *holding = Holding::Unknown;
        }
    }

    /// The client says that it holds this version.
    pub(crate) fn recall(&mut self, name: String, version: Version) {
        self.owed.remove(&name);
        self.holdings.insert(name, Holding::Version(version));
    }

    /// Whether something has been sent, or brought along, under that name.
    pub(crate) fn holds(&self, name: &str) -> bool {
        matches!(self.holdings.get(name), Some(Holding::Version(_) | Holding::Unknown))
    }

    /// Forgets a name the client has lost interest in.
    pub(crate) fn forget(&mut self, name: &str) {
        self.owed.remove(name);
        self.holdings.remove(name);
        for refusal in &mut self.refused {
            if refusal.members.contains_key(name) {
                Arc::make_mut(refusal).members.remove(name);
            }
        }
        self.refused.retain(|refusal| !refusal.members.is_empty());
    }

    /// Forgets all names the client has lost interest in.
    pub(crate) fn forget_unwanted(&mut self, interest: &Interest) {
        let unwanted: Vec<String> = self
            .holdings
            .keys()
            .chain(&self.owed)
            .filter(|name| !interest.wants(name))
            .cloned()
            .collect();
        for name in unwanted {
            self.forget(&name);
        }
    }

    /// Takes notice of a changed set: a refusal stands only while all that was refused is still what is served.
    pub(crate) fn observe(&mut self, set: &ResourceSet) {
        self.refused.retain(|refusal| {
            refusal
                .members
                .iter()
                .all(|(name, version)| set.get(name).map(|resource| &resource.version) == version.as_ref())
        });
        if self.removals == Removals::Untold {
            // Untold, the client may keep it or drop it; should the name come back, it is sent even if it is unchanged.
            self.holdings.retain(|name, _| set.get(name).is_some());
        }
    }

    /// What the client lacks of the set. `hold` keeps back the removal of what it still holds.
    pub(crate) fn plan(&self, interest: &Interest, set: &ResourceSet, hold: bool) -> Plan {
        let mut plan = Plan::default();
        let lacking = |resource: &&Arc<Resource>| {
            self.owed.contains(&resource.name) || !(self.is_current(resource) || self.is_refused(&resource.name))
        };
        if interest.wildcard() {
            plan.send.extend(set.iter().filter(lacking).cloned());
        } else {
            plan.send.extend(
                interest
                    .names()
                    .iter()
                    .filter_map(|name| set.get(name))
                    .filter(lacking)
                    .cloned(),
            );
        }
        if self.removals != Removals::Untold {
            self.plan_removals(set, hold, &mut plan);
        }
        plan
    }

    fn plan_removals(&self, set: &ResourceSet, hold: bool, plan: &mut Plan) {
        for name in &self.owed {
            // "When a resource subscribed to by a client does not exist, the server will send a DeltaDiscoveryResponse
            // message that contains that resource's name in the removed_resources field."
            if set.get(name).is_none() {
                plan.remove.push(name.clone());
            }
        }
        for (name, holding) in &self.holdings {
            let gone = *holding != Holding::Nothing && set.get(name).is_none();
            if !gone || self.owed.contains(name) || self.is_refused(name) {
                continue;
            }
            if hold {
                plan.held.push(name.clone());
            } else {
                plan.remove.push(name.clone());
            }
        }
    }

    /// What the client would drop unless it hears of it, as far as it is not sent anew anyway.
    pub(crate) fn mortal(&self, interest: &Interest, set: &ResourceSet) -> Vec<Arc<Resource>> {
        if set.ttl().is_none() {
            return Vec::new();
        }
        let mortal = |resource: &&Arc<Resource>| {
            let lacking = self.owed.contains(&resource.name) || !self.is_current(resource);
            resource.ttl.is_some() && interest.wants(&resource.name) && !lacking
        };
        set.iter().filter(mortal).cloned().collect()
    }

    /// A response with these members is on its way: all that was owed is in it, unless there is more to come.
    pub(crate) fn commit(&mut self, interest: &Interest, members: &Members, partial: bool) {
        for (name, version) in members {
            self.forget(name);
            match version {
                Some(version) => {
                    self.holdings.insert(name.clone(), Holding::Version(version.clone()));
                }
                None if interest.names().contains(name) => {
                    self.holdings.insert(name.clone(), Holding::Nothing);
                }
                None => {}
            }
        }
        if !partial {
            self.owed.clear();
        }
    }

    /// There is nothing to say: what is owed and does not exist cannot be told (state of the world); should it be created
    /// it is sent, since the client does not hold it.
    pub(crate) fn settle(&mut self) {
        self.owed.clear();
    }

    /// The client refused a response with these members; those it has unsubscribed from since do not matter.
    pub(crate) fn refuse(&mut self, interest: &Interest, mut members: Members, message: Arc<str>) {
        members.retain(|name, _| interest.wants(name));
        for name in members.keys() {
            self.holdings.insert(name.clone(), Holding::Unknown);
        }
        if !members.is_empty() {
            self.refused.push(Arc::new(Refusal { message, members }));
        }
    }

    /// The response that was refused last told these removals as well.
    pub(crate) fn refused_too(&mut self, removed: Vec<String>) {
        match self.refused.last_mut() {
            Some(refusal) => {
                let members = &mut Arc::make_mut(refusal).members;
                members.extend(removed.into_iter().map(|name| (name, None)));
            }
            // The client has lost interest in all that was in it.
            None => removed.iter().for_each(|name| self.forget(name)),
        }
    }

    /// Whether the client waits for an answer about some name.
    pub(crate) fn is_asked(&self) -> bool {
        !self.owed.is_empty()
    }

    /// Whether the client holds this version of the resource.
    pub(crate) fn is_current(&self, resource: &Resource) -> bool {
        matches!(self.holdings.get(&resource.name), Some(Holding::Version(version)) if *version == resource.version)
    }

    fn is_refused(&self, name: &str) -> bool {
        self.refused.iter().any(|refusal| refusal.members.contains_key(name))
    }

    /// Every name that the client holds, waits for, has refused, or should get, with how far it is. `sent` is what is on its
    /// way.
    pub(crate) fn inspect(
        &self,
        interest: &Interest,
        set: &ResourceSet,
        sent: Option<&Members>,
    ) -> BTreeMap<String, (Option<Version>, ResourceStatus)> {
        let wanted = set.iter().filter(|resource| interest.wants(&resource.name));
        let mut all: BTreeMap<String, (Option<Version>, ResourceStatus)> = wanted
            .map(|resource| &resource.name)
            .chain(&self.owed)
            .map(|name| (name.clone(), (None, ResourceStatus::NotSent)))
            .collect();
        for (name, holding) in &self.holdings {
            let current = |version: &Version| set.get(name).is_some_and(|served| served.version == *version);
            let inspected = match holding {
                Holding::Version(version) if current(version) => (Some(version.clone()), ResourceStatus::Accepted),
                Holding::Version(version) => (Some(version.clone()), ResourceStatus::NotSent),
                Holding::Unknown => (None, ResourceStatus::NotSent),
                Holding::Nothing => (None, ResourceStatus::Absent),
            };
            all.insert(name.clone(), inspected);
        }
        for refusal in &self.refused {
            let refused = || ResourceStatus::Refused(Arc::clone(&refusal.message));
            let members = refusal.members.iter();
            all.extend(members.map(|(name, version)| (name.clone(), (version.clone(), refused()))));
        }
        let sent = sent.into_iter().flatten();
        all.extend(sent.map(|(name, version)| (name.clone(), (version.clone(), ResourceStatus::Sent))));
        all
    }
}
