//! The incremental protocol ("delta"): resources come and go by name.

use crate::interest::{MAX_NAMES, ProtocolError, WILDCARD};
use crate::ledger::Removals;
use crate::multiplex::{Contents, Multiplex};
use crate::report::{Answer, ResourceReport, TypeReport};
use crate::snapshot::{Resource, ResourceType, Snapshot, Version};
use std::collections::BTreeMap;
use std::sync::Arc;

/// How large a response may become before it is split, in bytes: below the 4 MiB that gRPC clients take by default.
/// "The server sends each resource in its own response": how many go together is the server's choice.
pub const MAX_RESPONSE_BYTES: usize = 3 << 20;

/// What a client says.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Request {
    /// The type it is about.
    pub kind: ResourceType,
    /// Nonce of the response that it answers; empty for a first or spontaneous request.
    pub nonce: String,
    /// Names to add to the subscription; `*` for all.
    pub subscribe: Vec<String>,
    /// Names to take from the subscription.
    pub unsubscribe: Vec<String>,
    /// What the client holds from an earlier stream, by name; counts in the first request of a type only.
    pub initial_versions: BTreeMap<String, Version>,
    /// Why it refuses the response, in its own words.
    pub error: Option<String>,
}

impl Request {
    /// A request that says nothing yet.
    pub fn new(kind: ResourceType) -> Self {
        Self {
            kind,
            nonce: String::new(),
            subscribe: Vec::new(),
            unsubscribe: Vec::new(),
            initial_versions: BTreeMap::new(),
            error: None,
        }
    }
}

/// What goes to the client.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Response {
    /// The type it is about.
    pub kind: ResourceType,
    /// To be repeated in the answer.
    pub nonce: String,
    /// Version of the whole type, "present for debugging purposes only".
    pub system_version: Version,
    /// New and changed resources, each name once.
    pub resources: Vec<Arc<Resource>>,
    /// Names that do not exist, or no longer.
    pub removed: Vec<String>,
    /// What the client holds and is reminded of: to be sent "with the resource unset and version matching the most recently
    /// sent version", which "will not be treated as resource updates, but only as TTL updates".
    pub heartbeats: Vec<Arc<Resource>>,
}

/// One stream. See the crate's documentation for the order in which it speaks.
#[derive(Debug)]
pub struct Stream {
    multiplex: Multiplex,
    max_response_bytes: usize,
}

impl Default for Stream {
    fn default() -> Self {
        Self::limited(MAX_RESPONSE_BYTES)
    }
}

impl Stream {
    /// A stream on which nothing has been said.
    pub fn new() -> Self {
        Self::default()
    }

    /// A stream whose responses are split at so many bytes. A resource that is larger goes alone.
    pub fn limited(max_response_bytes: usize) -> Self {
        Self {
            multiplex: Multiplex::default(),
            max_response_bytes,
        }
    }

    /// Takes a request and says how it answered an earlier response.
    ///
    /// # Errors
    ///
    /// [`ProtocolError`]: the subscription is larger than what is served; the stream has to end.
    pub fn on_request(&mut self, request: Request) -> Result<Answer, ProtocolError> {
        let Request {
            kind,
            nonce,
            subscribe,
            unsubscribe,
            initial_versions,
            error,
        } = request;
        if initial_versions.len() > MAX_NAMES {
            let names = initial_versions.len();
            return Err(ProtocolError::TooManyVersions { kind, names });
        }
        // A version brought along says nothing about a cluster that has come or changed since and waits for its endpoints.
        let names = initial_versions.keys().filter(|_| kind == ResourceType::Endpoints);
        let awaited: Vec<String> = names.filter(|name| self.multiplex.awaited(name)).cloned().collect();
        let (substream, first) = self.multiplex.open(kind, Removals::Named);
        substream.interest.check_growth(kind, subscribe.iter())?;
        let answer = substream.answer(&nonce, error);
        // "The server must honor changes to the subscription state even if the nonce is stale."
        if first && subscribe.is_empty() && unsubscribe.is_empty() {
            // "... having never sent a request on the stream for that resource type with a non-empty
            // resource_names_subscribe field, the server should treat that identically to how it would treat the client
            // having explicitly subscribed to "*"." A later request without names says nothing new, and after the wildcard
            // has been unsubscribed "it is not interpreted as a wildcard subscription", hence the first only.
            substream.subscribe(WILDCARD.to_owned());
        }
        for name in &unsubscribe {
            let explicit = substream.interest.names().contains(name);
            substream.unsubscribe(name);
            if explicit && substream.interest.wildcard() {
                // "The server must send a response that includes the specific resource in either the removed_resources
                // field (if it is not included in the wildcard) or in the resources field (if it is included)."
                substream.owe(name);
            }
        }
        for name in subscribe {
            substream.subscribe(name);
        }
        if first && !initial_versions.is_empty() {
            // "The Incremental xDS client may tell the server of its known resources to avoid resending them."
            substream.brought_along();
            for (name, version) in initial_versions {
                if substream.interest.wants(&name) {
                    substream.ledger.recall(name, version);
                }
            }
            awaited.iter().for_each(|name| substream.renew(name));
            self.multiplex.resume();
        }
        Ok(answer)
    }

    /// No more first requests are to be expected. For a client that brought versions along removals of clusters and
    /// endpoints wait until it has asked for listeners, routes and extensions (rule 4); one that will not ask for all of
    /// these must be released by whoever has a clock.
    pub fn end_opening(&mut self) {
        self.multiplex.end_opening();
    }

    /// The next response, if there is one to send now. To be asked until it says `None`, after every request and for every
    /// new snapshot. For an unchanged snapshot it costs a comparison a type.
    pub fn next_response(&mut self, snapshot: &Snapshot) -> Option<Response> {
        let (kind, mut plan) = self.multiplex.next(snapshot)?;
        plan.limit(self.max_response_bytes);
        let system_version = snapshot.set(kind)?.version().clone();
        let contents = Contents {
            resources: &plan.send,
            removed: &plan.remove,
            heartbeats: &plan.refresh,
            partial: plan.partial,
        };
        let nonce = self.multiplex.commit(kind, system_version.clone(), contents, snapshot);
        Some(Response {
            kind,
            nonce,
            system_version,
            resources: plan.send,
            removed: plan.remove,
            heartbeats: plan.refresh,
        })
    }

    /// Resources with a TTL are to be mentioned again, see [`Snapshot::ttl`]; when, is for whoever has a clock.
    pub fn refresh(&mut self, snapshot: &Snapshot) {
        self.multiplex.refresh(snapshot);
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
