//! The endpoints of one version, as one value of the store that the threads of a proxy change by compare-and-swap.
//!
//! Each thread [absorbs](Pool::absorb) what it has seen into the value, a few times a second. Whichever comes first after a
//! tick's time [steps](Pool::step) the detectors and the breakers; since every other thread then reads when that was done, one
//! of them does it. What a step changed, it answers as values, which only the thread whose swap succeeded may count and log.
//!
//! As bytes: form u8, number u16, last step u64, shared since u64, and [`ENDPOINT_BYTES`] for each endpoint; 12 endpoints are
//! 1.4 KiB, [at most](MAX_BYTES) 60 KiB. Bytes of another form are an empty pool: breakers closed, everything to be learnt.

use std::time::Duration;

use crate::breaker::{self, Change, Gate, State};

mod bytes;
mod delta;
mod endpoint;
mod step;

pub use bytes::{ENDPOINT_BYTES, MAX_BYTES};
pub use delta::Delta;
pub(crate) use endpoint::Endpoint;

/// Endpoints in a pool; what is sent to more is not watched.
pub const MAX_ENDPOINTS: usize = 512;
/// How often detectors are stepped.
pub const TICK: Duration = Duration::from_millis(100);
/// Not heard of for so long, an endpoint leaves the pool.
const FORGOTTEN_AFTER: Duration = Duration::from_secs(600);
/// After an endpoint was opened, learning rests so long, as the requests that it held up end elsewhere or not at all.
const UNSETTLED: Duration = Duration::from_secs(30);

/// An endpoint: a hash of its address.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct EndpointId(pub u64);

/// The constants of detection and breakers.
#[derive(Clone, Copy, Debug, Default, PartialEq)]
pub struct Settings {
    /// Of the breakers.
    pub breaker: breaker::Settings,
    /// Of the other signs.
    pub signs: Signs,
}

/// When the lesser signs count.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct Signs {
    /// Two connection errors within this open a breaker.
    pub connection_errors_within: Duration,
    /// Heartbeats are expected at this interval.
    pub heartbeat: Duration,
    /// So many missed in a row are a sign.
    pub missed_heartbeats: u32,
}

impl Default for Signs {
    fn default() -> Self {
        Self {
            connection_errors_within: Duration::from_secs(1),
            heartbeat: Duration::from_millis(250),
            missed_heartbeats: 3,
        }
    }
}

/// A change of one endpoint's breaker.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Transition {
    /// Whose.
    pub endpoint: EndpointId,
    /// When.
    pub at: Duration,
    /// What.
    pub change: Change,
}

/// How it stands with a pool.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Condition {
    /// All breakers are closed.
    Healthy,
    /// Some endpoints are derated or out.
    Impaired,
    /// More than half would have to be out: it is no fault of single endpoints, and no further breaker opens.
    Shared {
        /// Since when.
        since: Duration,
    },
}

/// One endpoint, to be shown.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct Standing {
    /// Which.
    pub endpoint: EndpointId,
    /// Its breaker.
    pub breaker: breaker::Breaker,
    /// The share of its usual requests that it is to get.
    pub share: f64,
    /// The sum that tells whether it is late.
    pub late: f64,
    /// The sum that tells whether it is faulty.
    pub faulty: f64,
    /// Its pace against the baseline's.
    pub pace: f64,
    /// Ends expected lately: how much a verdict on it weighs.
    pub exposure: f64,
}

/// The pool.
#[derive(Clone, Debug, Default, PartialEq)]
pub struct Pool {
    endpoints: Vec<Endpoint>,
    stepped: Duration,
    /// Since when more than half would have to be out.
    shared: Option<Duration>,
}

impl Pool {
    /// Takes in what a thread has seen since it last did. Endpoints that are new join, up to [`MAX_ENDPOINTS`]. How many
    /// found no room.
    pub fn absorb(&mut self, deltas: &[Delta], now: Duration, settings: &Settings) -> usize {
        let mut without_room = 0;
        for delta in deltas {
            match self.join(delta.endpoint, now) {
                Some(endpoint) => endpoint.absorb(delta, now, settings),
                None => without_room += 1,
            }
        }
        without_room
    }

    /// Says which endpoints there are, with their capacities in any unit; others leave. Where it is never said, endpoints
    /// join by being sent to, all of one capacity.
    pub fn set_members(&mut self, members: &[(EndpointId, u32)], now: Duration) {
        self.endpoints
            .retain(|endpoint| members.iter().any(|(id, _)| *id == endpoint.id));
        for (id, capacity) in members {
            if let Some(endpoint) = self.join(*id, now) {
                endpoint.capacity = (*capacity).max(1);
            }
        }
    }

    fn join(&mut self, id: EndpointId, now: Duration) -> Option<&mut Endpoint> {
        let at = match self.endpoints.iter().position(|endpoint| endpoint.id == id) {
            Some(at) => at,
            None if self.endpoints.len() < MAX_ENDPOINTS => {
                self.endpoints.push(Endpoint::new(id, now));
                self.endpoints.len() - 1
            }
            None => return None,
        };
        let endpoint = self.endpoints.get_mut(at)?;
        endpoint.seen = now;
        Some(endpoint)
    }

    /// Whether a request that was meant for an endpoint may go there, by a draw of 0 … 1. Whoever sets weights by
    /// [`Standing::share`] asks only for half-open ones. The result of a probe is told in a [`Delta`].
    pub fn gate(&mut self, id: EndpointId, draw: f64, now: Duration, wait: Duration, settings: &Settings) -> Gate {
        let endpoint = self.endpoints.iter_mut().find(|endpoint| endpoint.id == id);
        endpoint.map_or(Gate::Pass, |endpoint| {
            endpoint.breaker.gate(draw, now, wait, &settings.breaker)
        })
    }

    /// Whether [`gate`](Self::gate) would pass a request without changing anything, so that nothing has to be swapped.
    pub fn is_closed(&self, id: EndpointId) -> bool {
        self.find(id)
            .is_none_or(|endpoint| endpoint.breaker.state() == State::Closed)
    }

    /// Whether the requests of an endpoint may teach what is usual: its breaker is closed, and it is under no suspicion.
    pub fn teaches(&self, id: EndpointId) -> bool {
        let found = self.find(id);
        found.is_none_or(|endpoint| endpoint.breaker.state() == State::Closed && !endpoint.flags.is_suspect)
    }

    /// Whether learning has to rest: an endpoint is under suspicion, or has been opened a short while ago. What befalls the
    /// whole pool alike is learnt, as long as anything ends at all.
    pub fn is_frozen(&self, now: Duration) -> bool {
        if self.shared.is_some() {
            return !self.endpoints.iter().any(|endpoint| endpoint.detector.has_ends());
        }
        self.endpoints.iter().any(|endpoint| {
            let is_fresh = now.saturating_sub(endpoint.breaker.since()) < UNSETTLED;
            endpoint.flags.is_suspect || (endpoint.breaker.state() == State::Open && is_fresh)
        })
    }

    /// How it stands with the whole.
    pub fn condition(&self) -> Condition {
        if let Some(since) = self.shared {
            return Condition::Shared { since };
        }
        let is_healthy = self
            .endpoints
            .iter()
            .all(|endpoint| endpoint.breaker.state() == State::Closed);
        if is_healthy {
            Condition::Healthy
        } else {
            Condition::Impaired
        }
    }

    /// How it stands with each endpoint.
    pub fn standings<'p>(&'p self, settings: &'p Settings) -> impl Iterator<Item = Standing> + 'p {
        self.endpoints.iter().map(|endpoint| Standing {
            endpoint: endpoint.id,
            breaker: endpoint.breaker,
            share: endpoint.breaker.share(&settings.breaker),
            late: endpoint.detector.late(),
            faulty: endpoint.detector.faulty(),
            pace: endpoint.detector.pace(),
            exposure: endpoint.detector.exposure(),
        })
    }

    /// When detectors were last stepped.
    pub fn stepped(&self) -> Duration {
        self.stepped
    }

    fn find(&self, id: EndpointId) -> Option<&Endpoint> {
        self.endpoints.iter().find(|endpoint| endpoint.id == id)
    }
}

#[cfg(test)]
mod tests;
