//! The state-of-the-world protocol: every request names all that is wanted; for clusters and listeners every response names
//! all that there is.

use crate::interest::{ProtocolError, WILDCARD};
use crate::ledger::{Plan, Removals};
use crate::multiplex::{Contents, Multiplex};
use crate::report::{Answer, ResourceReport, TypeReport};
use crate::snapshot::{Resource, ResourceSet, ResourceType, Snapshot, Version};
use std::collections::{BTreeMap, BTreeSet};
use std::sync::Arc;

/// What a client says.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Request {
    /// The type it is about.
    pub kind: ResourceType,
    /// The version it uses; empty for none. Counts in the first request of a type only, see [`Stream::on_request`].
    pub version: String,
    /// Nonce of the response that it answers; empty for the first request.
    pub nonce: String,
    /// All names it is interested in, `*` for all.
    pub names: Vec<String>,
    /// Why it refuses the response, in its own words.
    pub error: Option<String>,
}

impl Request {
    /// A first request without names.
    pub fn new(kind: ResourceType) -> Self {
        Self {
            kind,
            version: String::new(),
            nonce: String::new(),
            names: Vec::new(),
            error: None,
        }
    }
}

/// What goes to the client.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Response {
    /// The type it is about.
    pub kind: ResourceType,
    /// Content hash over all that this client is to hold of the type.
    pub version: Version,
    /// To be repeated in the answer.
    pub nonce: String,
    /// Clusters, listeners: everything, and what is missing is removed. Others: what is new or changed, and what has a TTL that
    /// is to be renewed.
    pub resources: Vec<Arc<Resource>>,
}

/// One stream. See the crate's documentation for the order in which it speaks.
#[derive(Debug, Default)]
pub struct Stream {
    multiplex: Multiplex,
    /// Versions that the client brought along, not compared with a snapshot yet.
    claims: BTreeMap<ResourceType, String>,
    /// What the last full response named, for removals that have to wait.
    served: BTreeMap<ResourceType, BTreeMap<String, Arc<Resource>>>,
    /// Types for which names have been given: an empty list means "nothing" from then on.
    named: BTreeSet<ResourceType>,
}

impl Stream {
    /// A stream on which nothing has been said.
    pub fn new() -> Self {
        Self::default()
    }

    /// Takes a request and says how it answered an earlier response.
    ///
    /// A version without a nonce comes from an earlier stream. "Servers may decide to optimize by not resending resources
    /// that the client had already seen on the previous stream, but only if they know that the client is not subscribing to
    /// a new resource [...] it is generally safe for servers to do this optimization for LDS and CDS when the only
    /// subscription is a wildcard subscription": done then, and then only. All else, endpoints above all, is sent again:
    /// a cluster may be waiting for it.
    ///
    /// # Errors
    ///
    /// [`ProtocolError`]: the subscription is larger than what is served; the stream has to end.
    pub fn on_request(&mut self, request: Request) -> Result<Answer, ProtocolError> {
        let Request {
            kind,
            version,
            nonce,
            names,
            error,
        } = request;
        let removals = if kind.full_state() {
            Removals::ByAbsence
        } else {
            Removals::Untold
        };
        let (substream, first) = self.multiplex.open(kind, removals);
        let mut wanted: BTreeSet<String> = names.into_iter().collect();
        let gone: Vec<String> = substream.interest.names().difference(&wanted).cloned().collect();
        let new: Vec<String> = wanted.difference(substream.interest.names()).cloned().collect();
        substream.interest.check_growth(kind, new.iter())?;
        let answer = substream.answer(&nonce, error);
        if !wanted.is_empty() {
            self.named.insert(kind);
        }
        let wildcard = wanted.remove(WILDCARD) || !self.named.contains(&kind);
        for name in gone {
            substream.unsubscribe(&name);
        }
        // "When the client sends a new request that changes the set of resources being requested, the server must resend any
        // newly requested resources, even if it previously sent those resources without having been asked for them."
        for name in new.into_iter().filter(|name| name != WILDCARD) {
            substream.subscribe(name);
        }
        match (substream.interest.wildcard(), wildcard) {
            (false, true) => substream.subscribe(WILDCARD.to_owned()),
            (true, false) => substream.unsubscribe(WILDCARD),
            _ => {}
        }
        if first && nonce.is_empty() && !version.is_empty() && kind.full_state() && substream.interest.only_wildcard() {
            self.claims.insert(kind, version);
        }
        Ok(answer)
    }

    /// The next response, if there is one to send now. To be asked until it says `None`, after every request and for every
    /// new snapshot. For an unchanged snapshot it costs a comparison a type.
    pub fn next_response(&mut self, snapshot: &Snapshot) -> Option<Response> {
        self.check_claims(snapshot);
        let (kind, plan, version, resources) = loop {
            let (kind, mut plan) = self.multiplex.next(snapshot)?;
            let (version, mut resources) = self.contents(kind, snapshot.set(kind)?, &plan);
            let substream = self.multiplex.get_mut(kind)?;
            if kind.full_state() && plan.send.is_empty() && substream.has_refused(&version) {
                // A removal that is told by absence: the response that was refused told it already.
                substream.refused_too(plan.remove);
                substream.forgo_refresh();
                continue;
            }
            if !kind.full_state() {
                // With their bodies, though the spec would do without: a client that has dropped one, because it or the network
                // was held up for longer than the TTL, takes a mention without a body for news of the TTL and nothing else, and
                // here cannot say that it has nothing of that name.
                resources.append(&mut plan.refresh);
            }
            break (kind, plan, version, resources);
        };
        let contents = Contents {
            resources: &resources,
            removed: &plan.remove,
            heartbeats: &[],
            partial: false,
        };
        let nonce = self.multiplex.commit(kind, version.clone(), contents, snapshot);
        if kind.full_state() {
            let served = resources
                .iter()
                .map(|resource| (resource.name.clone(), Arc::clone(resource)))
                .collect();
            self.served.insert(kind, served);
        }
        Some(Response {
            kind,
            version,
            nonce,
            resources,
        })
    }

    /// Resources with a TTL are to be mentioned again, see [`Snapshot::ttl`]; when, is for whoever has a clock.
    pub fn refresh(&mut self, snapshot: &Snapshot) {
        self.multiplex.refresh(snapshot);
    }

    /// Compares what clients brought along with what is served.
    fn check_claims(&mut self, snapshot: &Snapshot) {
        for (kind, claim) in std::mem::take(&mut self.claims) {
            let (Some(set), Some(substream)) = (snapshot.set(kind), self.multiplex.get_mut(kind)) else {
                continue;
            };
            if claim == set.version().as_str() {
                substream.adopt(set);
                let served = set
                    .iter()
                    .map(|resource| (resource.name.clone(), Arc::clone(resource)))
                    .collect();
                self.served.insert(kind, served);
            }
        }
    }

    /// The version and the resources of a response.
    fn contents(&self, kind: ResourceType, set: &ResourceSet, plan: &Plan) -> (Version, Vec<Arc<Resource>>) {
        let interest = self.multiplex.get(kind).map(|substream| &substream.interest);
        let wanted = || {
            set.iter()
                .filter(|resource| interest.is_some_and(|interest| interest.wants(&resource.name)))
        };
        if !kind.full_state() {
            return (Version::over(wanted()), plan.send.clone());
        }
        // "The server must include the complete state of the world, meaning that all resources of the relevant type that are
        // needed by the client must be included, even if they did not change since the last response."
        let served = self.served.get(&kind);
        let held = plan.held.iter().filter_map(|name| served?.get(name));
        let all: BTreeMap<&str, &Arc<Resource>> = wanted()
            .chain(held)
            .map(|resource| (resource.name.as_str(), resource))
            .collect();
        (
            Version::over(all.values().copied()),
            all.into_values().cloned().collect(),
        )
    }

    /// How far the client is: the types it has asked for, in sending order.
    pub fn report(&self) -> Vec<TypeReport> {
        self.multiplex.report()
    }

    /// How far each resource is, by type and name.
    pub fn inspect(&self, snapshot: &Snapshot) -> Vec<ResourceReport> {
        self.multiplex.inspect(snapshot)
    }
}
