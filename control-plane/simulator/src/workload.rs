//! Requests as they arrive. Every balancer of one seed gets the very same ones.

use crate::chance::{exponential, lognormal, stream};
use crate::moment::Moment;
use crate::scenario::{Arrivals, Scenario};
use fastrand::Rng;

/// Rate of a lively and of a quiet spell, against the mean.
const SPELLS: [f64; 2] = [1.5, 0.5];
/// Mean length of a spell, seconds.
const SPELL_S: f64 = 1.0;

/// A request before anybody has picked a card for it.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct Arrival {
    /// When.
    pub at: Moment,
    /// At which gateway.
    pub gateway: usize,
    /// On which of its threads.
    pub thread: usize,
    /// See [`crate::card::Job::work`].
    pub work: f64,
}

/// An endless stream of arrivals.
#[derive(Debug)]
pub struct Workload {
    rng: Rng,
    rate: f64,
    mean_work: f64,
    sigma: f64,
    gateways: usize,
    threads: usize,
    now: f64,
    /// The spell's rate against the mean, and when it ends; none when arrivals are not bursty.
    spell: Option<(usize, f64)>,
}

impl Workload {
    /// The scenario's traffic from its beginning.
    pub fn new(scenario: &Scenario, seed: u64) -> Self {
        Self {
            rng: stream(seed, 1),
            rate: scenario.rate(),
            mean_work: scenario.traffic.work.as_secs_f64(),
            sigma: scenario.traffic.sigma,
            gateways: scenario.gateways,
            threads: scenario.threads,
            now: 0.0,
            spell: (scenario.traffic.arrivals == Arrivals::Bursty).then_some((0, 0.0)),
        }
    }

    /// Lets time pass to the next arrival. An exponential gap has no memory, so one that reaches into the next spell is
    /// drawn anew from there, at that spell's rate.
    fn pass(&mut self) {
        let Some((mut kind, mut until)) = self.spell else {
            self.now += exponential(&mut self.rng, 1.0 / self.rate);
            return;
        };
        loop {
            let rate = self.rate * SPELLS.get(kind).copied().unwrap_or(1.0);
            let next = self.now + exponential(&mut self.rng, 1.0 / rate);
            if next <= until {
                self.now = next;
                break;
            }
            self.now = until;
            kind = 1 - kind;
            until += exponential(&mut self.rng, SPELL_S);
        }
        self.spell = Some((kind, until));
    }
}

impl Iterator for Workload {
    type Item = Arrival;

    fn next(&mut self) -> Option<Arrival> {
        self.pass();
        Some(Arrival {
            at: Moment::at_secs(self.now),
            gateway: self.rng.usize(..self.gateways),
            thread: self.rng.usize(..self.threads),
            work: lognormal(&mut self.rng, self.mean_work, self.sigma),
        })
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::scenario::tests::scenario;

    #[test]
    fn both_kinds_of_arrivals_offer_the_load_that_was_asked_for() {
        for arrivals in [Arrivals::Poisson, Arrivals::Bursty] {
            let mut scenario = scenario();
            scenario.traffic.arrivals = arrivals;
            let until = 2000.0;
            let requests = Workload::new(&scenario, 5).take_while(|arrival| arrival.at.as_secs() < until);
            let work: f64 = requests.map(|arrival| arrival.work).sum();
            let load = work / until / 3.5;
            assert!((load - 0.7).abs() < 0.02, "{arrivals:?}: {load}");
        }
    }
}
