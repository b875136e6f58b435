//! The breaker of one endpoint: closed → derated → open → half-open, and back.
//!
//! Time never wedges it. An open one becomes half-open when its backoff is over; a half-open one lets probes through, each
//! leased for a time, and a lease that nobody gives back ends by itself (resilience4j #903: permits that leaked kept breakers
//! half-open for good).

use std::time::Duration;

mod reason;

pub use reason::Reason;

/// The constants.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct Settings {
    /// Share of its usual requests that a derated endpoint gets.
    pub derated: f64,
    /// How long a derated one stays so after the last sign.
    pub derated_for: Duration,
    /// First backoff; doubled each time.
    pub backoff: Duration,
    /// Longest backoff.
    pub most_backoff: Duration,
    /// What is added to a backoff, as a part of it: from none to this.
    pub jitter: f64,
    /// Closed for so long, the backoff begins anew.
    pub forgets_after: Duration,
    /// Shares of its usual requests that a half-open endpoint gets, one after the other.
    pub stages: [f64; 4],
    /// So many successes lead from one to the next.
    pub successes: u8,
    /// However small the share, one probe in so long.
    pub probe_every: Duration,
    /// No lease of a probe is longer.
    pub most_wait: Duration,
}

impl Default for Settings {
    fn default() -> Self {
        Self {
            derated: 0.25,
            derated_for: Duration::from_secs(5),
            backoff: Duration::from_secs(1),
            most_backoff: Duration::from_secs(30),
            jitter: 0.2,
            forgets_after: Duration::from_secs(60),
            stages: [0.01, 0.05, 0.25, 1.0],
            successes: 5,
            probe_every: Duration::from_millis(500),
            most_wait: Duration::from_secs(30),
        }
    }
}

/// A breaker's state.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum State {
    /// Requests pass.
    #[default]
    Closed,
    /// A part of them passes.
    Derated,
    /// None passes.
    Open,
    /// Probes pass.
    HalfOpen,
}

impl State {
    /// A stable name.
    pub fn label(self) -> &'static str {
        match self {
            Self::Closed => "closed",
            Self::Derated => "derated",
            Self::Open => "open",
            Self::HalfOpen => "half-open",
        }
    }

    /// Whether its endpoint is out of the pool, but for probes.
    pub fn is_out(self) -> bool {
        matches!(self, Self::Open | Self::HalfOpen)
    }
}

/// A step from one state to another, or from one stage of half-open to the next.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Change {
    /// The state before.
    pub from: State,
    /// The state now.
    pub to: State,
    /// Why.
    pub reason: Reason,
}

/// What is to be done with a request for the endpoint.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Gate {
    /// It passes.
    Pass,
    /// It passes as a probe, whose result is to be [told](Breaker::probed).
    Probe,
    /// It goes elsewhere.
    Refuse,
}

/// What probes have shown.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Probes {
    /// Answered in time.
    pub passed: u16,
    /// Failed, or not answered in time.
    pub failed: u16,
}

/// One endpoint's breaker.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Breaker {
    pub(crate) state: State,
    pub(crate) reason: Reason,
    /// Of half-open: which share.
    pub(crate) stage: u8,
    pub(crate) successes: u8,
    pub(crate) leases: u8,
    /// How often it was opened without having been closed for long.
    pub(crate) attempts: u8,
    pub(crate) since: Duration,
    /// Open: until then. Half-open: when the last lease ends. Derated: when it ends without another sign.
    pub(crate) until: Duration,
    pub(crate) probed: Duration,
}

impl Breaker {
    /// The state.
    pub fn state(&self) -> State {
        self.state
    }

    /// Why it is in it.
    pub fn reason(&self) -> Reason {
        self.reason
    }

    /// Since when.
    pub fn since(&self) -> Duration {
        self.since
    }

    /// The share of its usual requests that the endpoint is to get: a factor on its weight.
    pub fn share(&self, settings: &Settings) -> f64 {
        match self.state {
            State::Closed => 1.0,
            State::Derated => settings.derated,
            State::Open => 0.0,
            State::HalfOpen => settings.stages.get(usize::from(self.stage)).copied().unwrap_or(1.0),
        }
    }

    /// Whether a request that was meant for it may go there, by a draw of 0 … 1. `wait` is how long the result of a probe
    /// may take, usually the timeout.
    pub fn gate(&mut self, draw: f64, now: Duration, wait: Duration, settings: &Settings) -> Gate {
        let is_drawn = draw < self.share(settings);
        match self.state {
            State::Closed => Gate::Pass,
            State::Derated if is_drawn => Gate::Pass,
            State::Derated | State::Open => Gate::Refuse,
            State::HalfOpen => {
                if now >= self.until {
                    // Nobody told the results: a thread was reloaded, or a client went away.
                    self.leases = 0;
                }
                let is_full = self.leases >= settings.successes;
                let is_time = now.saturating_sub(self.probed) >= settings.probe_every;
                if is_full || !(is_drawn || is_time) {
                    return Gate::Refuse;
                }
                self.leases = self.leases.saturating_add(1);
                self.probed = now;
                self.until = now.saturating_add(wait.min(settings.most_wait));
                Gate::Probe
            }
        }
    }

    /// Takes in the results of probes. One that failed opens it again, for longer.
    pub fn probed(&mut self, probes: Probes, now: Duration, draw: f64, settings: &Settings) -> Option<Change> {
        if self.state != State::HalfOpen {
            return None;
        }
        if probes.failed > 0 {
            return self.open(Reason::ProbeFailed, now, draw, settings);
        }
        let passed = u8::try_from(probes.passed).unwrap_or(u8::MAX);
        self.leases = self.leases.saturating_sub(passed);
        self.successes = self.successes.saturating_add(passed);
        if self.successes < settings.successes {
            return None;
        }
        self.successes = 0;
        self.stage += 1;
        if usize::from(self.stage) < settings.stages.len() {
            return Some(Change {
                from: State::HalfOpen,
                to: State::HalfOpen,
                reason: Reason::ProbesPassed,
            });
        }
        Some(self.enter(State::Closed, Reason::ProbesPassed, now))
    }

    /// Opens it for a backoff that doubles from one time to the next, with jitter by a draw of 0 … 1.
    pub fn open(&mut self, reason: Reason, now: Duration, draw: f64, settings: &Settings) -> Option<Change> {
        if self.state == State::Open {
            return None;
        }
        let was_well = !self.state.is_out() && now.saturating_sub(self.since) >= settings.forgets_after;
        let attempts = if was_well { 0 } else { self.attempts };
        let backoff = settings.backoff.saturating_mul(1_u32 << attempts.min(20));
        let draw = if draw.is_nan() { 0.0 } else { draw.clamp(0.0, 1.0) };
        let backoff = backoff.min(settings.most_backoff).mul_f64(1.0 + settings.jitter * draw);
        let change = self.enter(State::Open, reason, now);
        self.until = now.saturating_add(backoff);
        self.attempts = attempts.saturating_add(1);
        Some(change)
    }

    /// Derates a closed one; one that is derated stays so for longer.
    pub fn derate(&mut self, reason: Reason, now: Duration, settings: &Settings) -> Option<Change> {
        let until = now.saturating_add(settings.derated_for);
        match self.state {
            State::Closed => {
                let change = self.enter(State::Derated, reason, now);
                self.until = until;
                Some(change)
            }
            State::Derated => {
                self.until = until;
                None
            }
            State::Open | State::HalfOpen => None,
        }
    }

    /// What time alone changes. An open one whose fault is still plain to see is `held` open.
    pub fn advance(&mut self, now: Duration, is_held: bool, settings: &Settings) -> Option<Change> {
        // A clock that has gone back by more than any wait: nothing is waited for.
        let is_over = now >= self.until || self.until > now.saturating_add(settings.most_backoff.saturating_mul(2));
        match self.state {
            State::Open if is_over && !is_held => Some(self.enter(State::HalfOpen, Reason::BackoffOver, now)),
            State::Derated if is_over => Some(self.enter(State::Closed, Reason::Recovered, now)),
            _ => None,
        }
    }

    fn enter(&mut self, state: State, reason: Reason, now: Duration) -> Change {
        let change = Change {
            from: self.state,
            to: state,
            reason,
        };
        *self = Self {
            state,
            reason,
            attempts: self.attempts,
            since: now,
            until: now,
            ..Self::default()
        };
        change
    }
}

#[cfg(test)]
mod tests;
