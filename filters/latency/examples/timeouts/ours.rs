//! The crate's way, wired as a filter would wire it, with one thread.

use std::collections::HashMap;
use std::time::Duration;

use kilocard_latency::baseline::{Basis, Family};
use kilocard_latency::breaker::Gate;
use kilocard_latency::hazard::{Hazard, InFlight};
use kilocard_latency::learner::{Learner, Tally, View};
use kilocard_latency::outcome::Outcome;
use kilocard_latency::pool::{self, Delta, EndpointId, Pool};
use kilocard_latency::retry::{self, Attempt, Budget, Decision, Failure};
use kilocard_latency::timeout;
use kilocard_latency::window::{Epoch, Window};

use super::way::{Answer, Way};

struct Call {
    flight: InFlight,
    timeout: Duration,
    is_left_to_run: bool,
    is_probe: bool,
}

pub(crate) struct Ours {
    timeouts: timeout::Settings,
    pools: pool::Settings,
    retries: retry::Settings,
    pool: Pool,
    learner: Learner,
    window: Window,
    family: Family,
    hazard: Option<Hazard>,
    budget: Budget,
    calls: HashMap<usize, (usize, Call)>,
    deltas: Vec<Delta>,
    tally: Tally,
    tallied: Duration,
    draws: fastrand::Rng,
    was_probe: bool,
}

impl Ours {
    pub(crate) fn new(endpoints: usize, seed: u64) -> Self {
        let timeouts = timeout::Settings {
            ceiling: Duration::from_secs(30),
            ..timeout::Settings::default()
        };
        Self {
            learner: Learner::new(None, &timeouts),
            timeouts,
            pools: pool::Settings::default(),
            retries: retry::Settings::default(),
            pool: Pool::default(),
            window: Window::default(),
            family: Family::default(),
            hazard: None,
            budget: Budget::default(),
            calls: HashMap::new(),
            deltas: (0..endpoints).map(|id| Delta::new(EndpointId(id as u64))).collect(),
            tally: Tally::default(),
            tallied: Duration::ZERO,
            draws: fastrand::Rng::with_seed(seed ^ 0x0525),
            was_probe: false,
        }
    }

    fn teaches(&self, endpoint: usize) -> bool {
        self.pool.teaches(EndpointId(endpoint as u64))
    }

    fn learn(&mut self, now: Duration, load: f64) {
        let epoch = Epoch::at(now);
        self.family
            .absorb(epoch.before(), self.window.slot(epoch.before()), epoch);
        let total = self.window.total(now);
        let view = View {
            window: &total,
            shape: self.family.shape().unwrap_or_default(),
            load,
            is_frozen: self.pool.is_frozen(now),
            fleet: None,
        };
        let step = self.learner.step(now, &view, &self.timeouts);
        if step.is_some_and(|step| step.basis.is_some_and(|basis| basis != Basis::Prior)) {
            self.hazard = Hazard::of(&total).or(self.hazard.take());
        }
    }
}

impl Way for Ours {
    fn name(&self) -> &'static str {
        "ours"
    }

    fn share(&self, endpoint: usize) -> f64 {
        let id = EndpointId(endpoint as u64);
        let standing = self
            .pool
            .standings(&self.pools)
            .find(|standing| standing.endpoint == id);
        standing.map_or(1.0, |standing| standing.share)
    }

    fn gate(&mut self, endpoint: usize, draw: f64, now: Duration) -> bool {
        let wait = self.learner.timeout();
        let gate = self
            .pool
            .gate(EndpointId(endpoint as u64), draw, now, wait, &self.pools);
        self.was_probe = gate == Gate::Probe;
        gate != Gate::Refuse
    }

    fn arrived(&mut self, now: Duration) {
        self.budget.first_attempts(1, now);
    }

    fn begin(&mut self, id: usize, endpoint: usize, draw: f64, now: Duration) -> Duration {
        let (timeout, base) = (self.learner.timeout(), self.learner.base());
        let applied = self.timeouts.apply(timeout, base, draw, None);
        let call = Call {
            flight: InFlight::begin(now),
            timeout: applied.timeout,
            is_left_to_run: self.timeouts.is_probe(self.draws.f64(), 0.0),
            is_probe: self.was_probe,
        };
        self.calls.insert(id, (endpoint, call));
        applied.timeout
    }

    fn answered(&mut self, answer: &Answer, now: Duration) {
        let Some((endpoint, mut call)) = self.calls.remove(&answer.id) else {
            return;
        };
        let teaches = self.teaches(endpoint);
        let delta = &mut self.deltas[endpoint];
        delta.expected += self
            .hazard
            .as_ref()
            .map_or(0.0, |hazard| call.flight.advance(hazard, now));
        let outcome = Outcome::of_status(if answer.is_failure { 14 } else { 0 });
        delta.end(outcome);
        if call.is_probe && !answer.was_cut {
            delta.probes.passed += u16::from(!answer.is_failure);
            delta.probes.failed += u16::from(answer.is_failure);
        }
        if teaches && outcome.is_sample() {
            if let Some(survival) = self.window.at(now) {
                survival.record(answer.took.min(self.timeouts.ceiling));
            }
            self.tally.ended += u32::from(!answer.was_cut);
        }
    }

    fn timed_out(&mut self, id: usize, endpoint: usize, now: Duration) {
        let teaches = self.teaches(endpoint);
        self.tally.timed_out += u32::from(teaches);
        let Some((_, call)) = self.calls.get_mut(&id) else {
            return;
        };
        let delta = &mut self.deltas[endpoint];
        delta.probes.failed += u16::from(call.is_probe);
        if call.is_left_to_run {
            return;
        }
        delta.expected += self
            .hazard
            .as_ref()
            .map_or(0.0, |hazard| call.flight.advance(hazard, now));
        let timeout = call.timeout;
        self.calls.remove(&id);
        if teaches && let Some(survival) = self.window.at(now) {
            survival.record_censored(timeout);
        }
    }

    fn retries(&mut self, attempts: u32, is_answer: bool, now: Duration) -> bool {
        let failure = if is_answer {
            Failure::Status(14)
        } else {
            Failure::FirstMessage
        };
        let attempt = Attempt {
            failure,
            has_begun: false,
            attempts,
            remaining: None,
            usual: None,
        };
        self.retries.decide(&attempt, &mut self.budget, now) == Decision::Retry
    }

    fn tick(&mut self, now: Duration, load: f64) {
        let ceiling = self.timeouts.ceiling;
        if let Some(hazard) = &self.hazard {
            for (endpoint, call) in self.calls.values_mut() {
                self.deltas[*endpoint].expected += call.flight.advance(hazard, now);
            }
        }
        // What was left to run is cut at the ceiling.
        let (window, pool) = (&mut self.window, &self.pool);
        self.calls.retain(|_, (endpoint, call)| {
            let is_over = now.saturating_sub(call.flight.began()) >= ceiling;
            if is_over
                && pool.teaches(EndpointId(*endpoint as u64))
                && let Some(survival) = window.at(now)
            {
                survival.record_censored(ceiling);
            }
            !is_over
        });
        self.pool.absorb(&self.deltas, now, &self.pools);
        for delta in &mut self.deltas {
            *delta = Delta::new(delta.endpoint);
        }
        let draws = &mut self.draws;
        self.pool.step(now, &mut || draws.f64(), &self.pools);
        if now.saturating_sub(self.tallied) >= Duration::from_secs(1) {
            self.tallied = now;
            self.learner.tally(std::mem::take(&mut self.tally), now, &self.timeouts);
        }
        self.learn(now, load);
    }
}
