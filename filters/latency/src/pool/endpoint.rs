//! One endpoint of a pool.

use std::time::Duration;

use super::{Delta, EndpointId, Settings};
use crate::breaker::{Breaker, Probes, Reason, State};
use crate::detector::{Detector, Tally};

/// A unit of expected ends, so that threads add up exactly.
const PER_END: f64 = 1e6;

#[derive(Clone, Copy, Debug, PartialEq)]
pub(crate) struct Endpoint {
    pub(super) id: EndpointId,
    pub(super) capacity: u32,
    pub(super) seen: Duration,
    /// Since the last step: expected ends in millionths, answers, failures among them.
    pub(super) expected: u64,
    pub(super) answered: u32,
    pub(super) failed: u32,
    pub(super) probes: Probes,
    pub(super) flags: Flags,
    /// The last connection error; zero if there was none.
    pub(super) connection_error: Duration,
    /// The last heartbeat; zero if there are none.
    pub(super) heartbeat: Duration,
    pub(super) detector: Detector,
    pub(super) breaker: Breaker,
}

/// Signs that are or are not.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(super) struct Flags {
    /// Two connection errors shortly after each other, since the last step.
    pub(super) is_broken: bool,
    pub(super) is_not_serving: bool,
    pub(super) is_slow: bool,
    /// At the last step it looked as if it were late.
    pub(super) is_suspect: bool,
}

/// What the signs together say.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Finding {
    Nothing,
    Derate(Reason),
    Open(Reason),
}

impl Endpoint {
    pub(super) fn new(id: EndpointId, now: Duration) -> Self {
        Self {
            id,
            capacity: 1,
            seen: now,
            expected: 0,
            answered: 0,
            failed: 0,
            probes: Probes::default(),
            flags: Flags::default(),
            connection_error: Duration::ZERO,
            heartbeat: Duration::ZERO,
            detector: Detector::default(),
            breaker: Breaker::default(),
        }
    }

    pub(super) fn absorb(&mut self, delta: &Delta, now: Duration, settings: &Settings) {
        let expected = if delta.expected.is_finite() {
            delta.expected.max(0.0)
        } else {
            0.0
        };
        self.expected = self.expected.saturating_add((expected * PER_END) as u64);
        self.answered = self.answered.saturating_add(delta.answered);
        self.failed = self.failed.saturating_add(delta.failed);
        self.probes.passed = self.probes.passed.saturating_add(delta.probes.passed);
        self.probes.failed = self.probes.failed.saturating_add(delta.probes.failed);
        self.flags.is_not_serving = delta.is_serving.map_or(self.flags.is_not_serving, |serves| !serves);
        self.flags.is_slow = delta.is_slow.unwrap_or(self.flags.is_slow);
        // One from the future would keep its endpoint alive for as long.
        self.heartbeat = delta.heartbeat.unwrap_or_default().min(now).max(self.heartbeat);
        if let Some(errors) = delta.connections {
            let had_one = !self.connection_error.is_zero();
            let to_before = errors.first.abs_diff(self.connection_error);
            let least = if had_one {
                errors.least.min(to_before)
            } else {
                errors.least
            };
            self.flags.is_broken |= least <= settings.signs.connection_errors_within;
            self.connection_error = errors.last.max(self.connection_error);
        }
    }

    /// What was seen since the last step.
    pub(super) fn tally(&self) -> Tally {
        Tally {
            expected: self.expected as f64 / PER_END,
            answered: self.answered,
            failed: self.failed,
        }
    }

    /// Begins a new tick.
    pub(super) fn clear(&mut self) {
        (self.expected, self.answered, self.failed) = (0, 0, 0);
        self.probes = Probes::default();
        self.flags.is_broken = false;
    }

    /// Whether a heartbeat is overdue; nothing where there are none.
    pub(super) fn misses_heartbeats(&self, now: Duration, settings: &Settings) -> Option<bool> {
        let signs = settings.signs;
        let patience = signs.heartbeat.saturating_mul(signs.missed_heartbeats);
        (!self.heartbeat.is_zero()).then(|| now.saturating_sub(self.heartbeat) > patience)
    }

    /// Weighs the signs, the strongest first. `peers_late` is the sum that the peers' detectors stand at.
    pub(super) fn find(&self, peers_late: f64, misses_heartbeats: bool) -> Finding {
        if self.flags.is_broken {
            Finding::Open(Reason::ConnectionErrors)
        } else if self.flags.is_not_serving {
            Finding::Open(Reason::NotServing)
        } else if self.detector.is_late(peers_late) {
            Finding::Open(Reason::Late)
        } else if self.detector.is_faulty() {
            Finding::Open(Reason::Failures)
        } else if misses_heartbeats && self.flags.is_suspect {
            // Neither is enough by itself; they have no cause in common but the endpoint.
            Finding::Open(Reason::Heartbeats)
        } else if misses_heartbeats {
            Finding::Derate(Reason::Heartbeats)
        } else if self.flags.is_slow {
            Finding::Derate(Reason::Slow)
        } else {
            Finding::Nothing
        }
    }

    /// Whether it is closed or derated: what it does is compared with what is expected.
    pub(super) fn is_in(&self) -> bool {
        matches!(self.breaker.state(), State::Closed | State::Derated)
    }
}
