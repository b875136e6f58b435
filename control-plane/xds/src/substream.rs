//! One resource type on one stream: "each resource type is treated as a separate logical stream within the aggregated
//! stream".

use crate::interest::{Interest, WILDCARD};
use crate::ledger::{Ledger, Plan, Removals};
use crate::report::{Answer, Members, Nack, ResourceReport, TypeReport};
use crate::snapshot::{ResourceSet, ResourceType, Version};

/// A response that the client has not answered.
#[derive(Debug)]
struct Outstanding {
    nonce: String,
    version: Version,
    members: Members,
    /// Names that were mentioned without their body.
    heartbeats: Vec<String>,
    /// Whether there is more to come before the client has all of the version.
    partial: bool,
}

/// The state of one type.
#[derive(Debug)]
pub(crate) struct Substream {
    pub(crate) interest: Interest,
    pub(crate) ledger: Ledger,
    outstanding: Option<Outstanding>,
    acked: Option<Version>,
    nack: Option<Nack>,
    /// The set that was last looked at.
    seen: Option<Version>,
    /// Whether there may be something to say. False only if a look at `seen` found nothing.
    dirty: bool,
    /// Whether removals wait for other types.
    holding: bool,
    /// The next response goes even if it is empty.
    must_answer: bool,
    /// The client brought versions along, and it is not known yet whether they are what is served.
    resuming: bool,
    /// The client has to be reminded of what it would drop otherwise.
    refreshing: bool,
}

impl Substream {
    pub(crate) fn new(removals: Removals) -> Self {
        Self {
            interest: Interest::default(),
            ledger: Ledger::new(removals),
            outstanding: None,
            acked: None,
            nack: None,
            seen: None,
            dirty: true,
            holding: false,
            must_answer: false,
            resuming: false,
            refreshing: false,
        }
    }

    /// Subscribes to a name. "The server must still provide those resources in the response; due to implementation details
    /// hidden from the server, the client may have "forgotten" those resources despite apparently remaining subscribed."
    pub(crate) fn subscribe(&mut self, name: String) {
        self.dirty = true;
        if name == WILDCARD {
            self.interest.set_wildcard(true);
            self.ledger.owe_everything();
            // A client that starts waits for an answer, even if it is that there is nothing.
            self.must_answer = true;
        } else {
            self.ledger.owe(&name);
            self.interest.insert(name);
        }
    }

    /// Ends the subscription to a name. "It can simply ignore these phantom unsubscriptions."
    pub(crate) fn unsubscribe(&mut self, name: &str) {
        self.dirty = true;
        if name == WILDCARD {
            self.interest.set_wildcard(false);
            self.must_answer = false;
            self.ledger.forget_unwanted(&self.interest);
        } else if self.interest.remove(name) && !self.interest.wildcard() {
            self.ledger.forget(name);
        }
    }

    /// The client brought versions along; there is nothing that it waits for.
    pub(crate) fn brought_along(&mut self) {
        self.must_answer = false;
        self.resuming = true;
    }

    /// The client holds exactly this set, and says so by its version.
    pub(crate) fn adopt(&mut self, set: &ResourceSet) {
        for resource in set.iter() {
            self.ledger.recall(resource.name.clone(), resource.version.clone());
        }
        self.acked = Some(set.version().clone());
        self.must_answer = false;
    }

    /// The name gets an answer whatever the client holds.
    pub(crate) fn owe(&mut self, name: &str) {
        self.ledger.owe(name);
        self.dirty = true;
    }

    /// What the client holds under the name has to be sent again.
    pub(crate) fn renew(&mut self, name: &str) {
        self.ledger.renew(name);
        self.dirty = true;
    }

    /// Takes what a request says about the outstanding response. "ACK or NACK is determined by the absence or presence of
    /// error_detail", never by comparing versions. Any other nonce is stale and says nothing.
    pub(crate) fn answer(&mut self, nonce: &str, error: Option<String>) -> Answer {
        let Some(outstanding) = self.outstanding.take_if(|outstanding| outstanding.nonce == nonce) else {
            return Answer::None;
        };
        let Some(message) = error else {
            self.nack = None;
            if !outstanding.partial {
                self.acked = Some(outstanding.version.clone());
            }
            return Answer::Ack(outstanding.version);
        };
        self.ledger
            .refuse(&self.interest, outstanding.members, message.as_str().into());
        // Only who holds a resource can take news of its TTL: this client may have dropped it.
        outstanding.heartbeats.iter().for_each(|name| self.renew(name));
        // What was refused may have been replaced meanwhile: compare again.
        self.seen = None;
        let nack = Nack {
            version: outstanding.version,
            message,
        };
        self.nack = Some(nack.clone());
        Answer::Nack(nack)
    }

    /// The client is to be reminded of what it would drop otherwise.
    pub(crate) fn refresh(&mut self) {
        self.refreshing = true;
        self.dirty = true;
    }

    /// There is no need to, or no way.
    pub(crate) fn forgo_refresh(&mut self) {
        self.refreshing = false;
    }

    /// Whether the client's last answer refused this version, and it has not asked for anything since.
    pub(crate) fn has_refused(&self, version: &Version) -> bool {
        let refused = self.nack.as_ref().is_some_and(|nack| nack.version == *version);
        refused && !self.must_answer && !self.ledger.is_asked()
    }

    /// The refused response told these removals as well.
    pub(crate) fn refused_too(&mut self, removed: Vec<String>) {
        self.ledger.refused_too(removed);
    }

    /// Takes notice of the set served now. Costs one comparison when it has not changed.
    pub(crate) fn observe(&mut self, set: &ResourceSet) {
        if self.seen.as_ref() != Some(set.version()) {
            self.seen = Some(set.version().clone());
            self.dirty = true;
            self.ledger.observe(set);
        }
    }

    /// Whether a look is worth it.
    pub(crate) fn idle(&self) -> bool {
        !self.dirty && !self.holding
    }

    /// Whether the client lacks something of the set, or holds what is no longer in it.
    pub(crate) fn unsent(&self, set: &ResourceSet) -> bool {
        !self.idle() && (self.must_answer || !self.ledger.plan(&self.interest, set, false).is_empty())
    }

    /// What to send now; `None` if there is nothing.
    pub(crate) fn plan(&mut self, set: &ResourceSet, hold: bool) -> Option<Plan> {
        let mut plan = self.ledger.plan(&self.interest, set, hold);
        self.holding = !plan.held.is_empty();
        if self.refreshing {
            plan.refresh = self.ledger.mortal(&self.interest, set);
        }
        if plan.is_empty() && !self.must_answer {
            if self.resuming && !self.holding {
                // What it brought along is what is served.
                self.acked = Some(set.version().clone());
            }
            (self.resuming, self.refreshing) = (false, false);
            self.ledger.settle();
            self.dirty = false;
            return None;
        }
        Some(plan)
    }

    /// A response goes out, all of what there is to send or a part of it.
    pub(crate) fn commit(
        &mut self,
        nonce: String,
        version: Version,
        (members, heartbeats): (Members, Vec<String>),
        partial: bool,
    ) {
        self.ledger.commit(&self.interest, &members, partial);
        self.outstanding = Some(Outstanding {
            nonce,
            version,
            members,
            heartbeats,
            partial,
        });
        self.must_answer = false;
        self.resuming = false;
        self.refreshing &= partial;
        self.dirty = partial;
    }

    /// Whether a response has not been answered.
    pub(crate) fn in_flight(&self) -> bool {
        self.outstanding.is_some()
    }

    /// How far the client is.
    pub(crate) fn report(&self, kind: ResourceType) -> TypeReport {
        let waiting = self.in_flight() || self.dirty || self.holding;
        let behind = waiting || self.seen.is_none() || self.ledger.stands_refused();
        let acked = self.acked.as_ref();
        let acked = acked.map(|acked| self.seen.as_ref().filter(|_| !behind).unwrap_or(acked));
        TypeReport {
            kind,
            acked_version: acked.cloned(),
            served_version: self.seen.clone(),
            behind,
            in_flight: self.in_flight(),
            nack: self.nack.clone(),
            refused: self.ledger.refusals().to_vec(),
        }
    }

    /// How far each resource is.
    pub(crate) fn inspect(&self, kind: ResourceType, set: &ResourceSet) -> impl Iterator<Item = ResourceReport> {
        let sent = self.outstanding.as_ref().map(|outstanding| &outstanding.members);
        let all = self.ledger.inspect(&self.interest, set, sent).into_iter();
        all.map(move |(name, (version, status))| ResourceReport {
            kind,
            name,
            version,
            status,
        })
    }
}
