//! All types of one stream, and the order among them. The rules are in the crate's documentation and are cited by number.

use crate::ledger::{Plan, Removals};
use crate::report::{Members, ResourceReport, TypeReport};
use crate::snapshot::{Resource, ResourceType, Snapshot, Version};
use crate::substream::Substream;
use std::collections::{BTreeMap, BTreeSet};
use std::sync::Arc;

/// What clusters and endpoints must be in place for.
const REFERRERS: [ResourceType; 3] = [ResourceType::Listener, ResourceType::Route, ResourceType::Extension];

/// The substreams of one stream.
#[derive(Debug, Default)]
pub(crate) struct Multiplex {
    substreams: BTreeMap<ResourceType, Substream>,
    nonces: u64,
    /// Clusters sent on this stream whose endpoints have not been sent since, with the names of these.
    warming: BTreeMap<String, String>,
    opening: Opening,
}

/// What a response says.
#[derive(Debug)]
pub(crate) struct Contents<'a> {
    pub(crate) resources: &'a [Arc<Resource>],
    pub(crate) removed: &'a [String],
    /// Mentioned without their bodies.
    pub(crate) heartbeats: &'a [Arc<Resource>],
    /// Whether there is more to come.
    pub(crate) partial: bool,
}

/// Whether a type that has not been asked for may yet turn out to be in use.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
enum Opening {
    /// The client is new, as far as is known: it uses nothing that it has not asked for.
    #[default]
    New,
    /// It holds something from an earlier stream, so it may hold of any type.
    Resuming,
    /// What it has not asked for by now it does not use.
    Over,
}

impl Multiplex {
    /// The substream of a type, and whether this is the first request for it.
    pub(crate) fn open(&mut self, kind: ResourceType, removals: Removals) -> (&mut Substream, bool) {
        let first = !self.substreams.contains_key(&kind);
        (
            self.substreams.entry(kind).or_insert_with(|| Substream::new(removals)),
            first,
        )
    }

    pub(crate) fn get(&self, kind: ResourceType) -> Option<&Substream> {
        self.substreams.get(&kind)
    }

    pub(crate) fn get_mut(&mut self, kind: ResourceType) -> Option<&mut Substream> {
        self.substreams.get_mut(&kind)
    }

    /// The client has brought something along.
    pub(crate) fn resume(&mut self) {
        if self.opening == Opening::New {
            self.opening = Opening::Resuming;
        }
    }

    /// The client has had the time to ask for all it uses.
    pub(crate) fn end_opening(&mut self) {
        self.opening = Opening::Over;
    }

    /// Clients have to be reminded of what they would drop otherwise.
    pub(crate) fn refresh(&mut self, snapshot: &Snapshot) {
        for (kind, substream) in &mut self.substreams {
            if snapshot.set(*kind).is_some_and(|set| set.ttl().is_some()) {
                substream.refresh();
            }
        }
    }

    /// Whether the endpoints of that name are awaited by a cluster, whatever version of them the client holds.
    pub(crate) fn awaited(&self, name: &str) -> bool {
        self.warming.values().any(|awaited| awaited == name)
    }

    /// The next type with something to send, and what.
    pub(crate) fn next(&mut self, snapshot: &Snapshot) -> Option<(ResourceType, Plan)> {
        for (kind, substream) in &mut self.substreams {
            if let Some(set) = snapshot.set(*kind) {
                substream.observe(set);
            }
        }
        ResourceType::ALL.into_iter().find_map(|kind| {
            let set = snapshot.set(kind)?;
            let substream = self.get(kind)?;
            if substream.in_flight() || substream.idle() || !self.may_send(kind, snapshot) {
                return None;
            }
            let hold = !self.may_remove(kind, snapshot);
            Some((kind, self.get_mut(kind)?.plan(set, hold)?))
        })
    }

    /// Rules 1 to 3. Types are visited in order, so an earlier type has something unsent only if it is in flight.
    fn may_send(&self, kind: ResourceType, snapshot: &Snapshot) -> bool {
        if !REFERRERS.contains(&kind) {
            return true;
        }
        !self.in_flight(ResourceType::Cluster)
            && !self.in_flight(ResourceType::Endpoints)
            && REFERRERS
                .into_iter()
                .take_while(|earlier| *earlier != kind)
                .all(|earlier| !self.unsent(earlier, snapshot))
    }

    /// Rule 4.
    fn may_remove(&self, kind: ResourceType, snapshot: &Snapshot) -> bool {
        let referrers_accepted = || {
            REFERRERS.into_iter().all(|referrer| match self.get(referrer) {
                None => self.opening != Opening::Resuming,
                Some(substream) => {
                    let refused = substream.ledger.stands_refused();
                    !refused && !substream.in_flight() && !self.unsent(referrer, snapshot)
                }
            })
        };
        match kind {
            ResourceType::Cluster => referrers_accepted(),
            ResourceType::Endpoints => !self.in_flight(ResourceType::Cluster) && referrers_accepted(),
            // Visited before clusters, so what is to be said of these may not be on its way yet.
            ResourceType::Secret => {
                !self.in_flight(ResourceType::Cluster)
                    && !self.unsent(ResourceType::Cluster, snapshot)
                    && referrers_accepted()
            }
            ResourceType::Runtime | ResourceType::Listener | ResourceType::Route | ResourceType::Extension => true,
        }
    }

    fn in_flight(&self, kind: ResourceType) -> bool {
        self.get(kind).is_some_and(Substream::in_flight)
    }

    fn unsent(&self, kind: ResourceType, snapshot: &Snapshot) -> bool {
        match (self.get(kind), snapshot.set(kind)) {
            (Some(substream), Some(set)) => substream.unsent(set),
            _ => false,
        }
    }

    /// A response goes out; returns its nonce. "The nonce is valid only in the context of an individual xDS stream": a
    /// counter will do.
    pub(crate) fn commit(
        &mut self,
        kind: ResourceType,
        version: Version,
        Contents {
            resources,
            removed,
            heartbeats,
            partial,
        }: Contents<'_>,
        snapshot: &Snapshot,
    ) -> String {
        self.nonces += 1;
        let nonce = self.nonces.to_string();
        match kind {
            ResourceType::Cluster => self.warm(resources, removed, snapshot),
            ResourceType::Endpoints => {
                let sent: BTreeSet<&str> = resources.iter().map(|resource| resource.name.as_str()).collect();
                self.warming.retain(|_, awaited| !sent.contains(awaited.as_str()));
            }
            _ => {}
        }
        let members: Members = resources
            .iter()
            .map(|resource| (resource.name.clone(), Some(resource.version.clone())))
            .chain(removed.iter().map(|name| (name.clone(), None)))
            .collect();
        if let Some(substream) = self.get_mut(kind) {
            let heartbeats = heartbeats.iter().map(|resource| resource.name.clone()).collect();
            substream.commit(nonce.clone(), version, (members, heartbeats), partial);
        }
        nonce
    }

    /// A cluster that is new or changed is warm only once its endpoints have come after it. Those of a new one will be asked
    /// for, unless another cluster shares them and they were asked for already: a client says that once. So what the client
    /// holds of them is sent again.
    fn warm(&mut self, clusters: &[Arc<Resource>], removed: &[String], snapshot: &Snapshot) {
        for name in removed {
            self.warming.remove(name);
        }
        let cold: Vec<(String, String)> = self.get(ResourceType::Cluster).map_or_else(Vec::new, |substream| {
            let cold = clusters.iter().filter(|cluster| !substream.ledger.is_current(cluster));
            cold.map(|cluster| (cluster.name.clone(), cluster.awaits().to_owned()))
                .collect()
        });
        let endpoints = self.substreams.get_mut(&ResourceType::Endpoints);
        if let (Some(endpoints), Some(set)) = (endpoints, snapshot.set(ResourceType::Endpoints)) {
            for (_, awaited) in &cold {
                if endpoints.interest.wants(awaited) && set.get(awaited).is_some() {
                    endpoints.renew(awaited);
                }
            }
        }
        self.warming.extend(cold);
    }

    /// How far the client is, type by type in sending order.
    pub(crate) fn report(&self) -> Vec<TypeReport> {
        let reports = self.substreams.iter();
        reports.map(|(kind, substream)| substream.report(*kind)).collect()
    }

    /// How far each resource is, by type and name.
    pub(crate) fn inspect(&self, snapshot: &Snapshot) -> Vec<ResourceReport> {
        let mut all = Vec::new();
        for (kind, substream) in &self.substreams {
            if let Some(set) = snapshot.set(*kind) {
                all.extend(substream.inspect(*kind, set));
            }
        }
        all
    }
}
