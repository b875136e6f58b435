//! What a thread has seen of an endpoint since it last told the pool.

use std::time::Duration;

use super::EndpointId;
use crate::breaker::Probes;
use crate::outcome::Outcome;

/// A thread's part. All of it adds up, in any order.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct Delta {
    /// Of which endpoint.
    pub endpoint: EndpointId,
    /// Ends that were expected of the requests in flight, by [`InFlight::advance`](crate::hazard::InFlight::advance).
    pub expected: f64,
    pub(super) answered: u32,
    pub(super) failed: u32,
    pub(super) connections: Option<Connections>,
    /// What probes have shown.
    pub probes: Probes,
    /// What its health says, where something does.
    pub is_serving: Option<bool>,
    /// When its last heartbeat came, where it sends any.
    pub heartbeat: Option<Duration>,
    /// Whether the [slow rule](crate::slow::Slow) holds, where somebody judged it.
    pub is_slow: Option<bool>,
}

/// Connection errors: the first, the last, and the least time between two.
#[derive(Clone, Copy, Debug, PartialEq)]
pub(super) struct Connections {
    pub(super) first: Duration,
    pub(super) last: Duration,
    pub(super) least: Duration,
}

impl Delta {
    /// Nothing seen yet.
    pub fn new(endpoint: EndpointId) -> Self {
        Self {
            endpoint,
            expected: 0.0,
            answered: 0,
            failed: 0,
            connections: None,
            probes: Probes::default(),
            is_serving: None,
            heartbeat: None,
            is_slow: None,
        }
    }

    /// Whether there is anything to tell.
    pub fn is_empty(&self) -> bool {
        *self == Self::new(self.endpoint)
    }

    /// A call has ended.
    pub fn end(&mut self, outcome: Outcome) {
        self.answered = self.answered.saturating_add(outcome.is_answer().into());
        self.failed = self.failed.saturating_add((outcome == Outcome::Failed).into());
    }

    /// A connection could not be made, or was reset with requests in flight. The calls that this ended are no answers.
    pub fn connection_error(&mut self, now: Duration) {
        self.connections = Some(match self.connections {
            None => Connections {
                first: now,
                last: now,
                least: Duration::MAX,
            },
            Some(before) => Connections {
                first: before.first,
                last: now,
                least: before.least.min(now.abs_diff(before.last)),
            },
        });
    }
}
