//! A tick of a pool: detectors, the findings on all endpoints, and what the breakers make of them.

use std::time::Duration;

use super::endpoint::Finding;
use super::{Endpoint, FORGOTTEN_AFTER, Pool, Settings, TICK, Transition};
use crate::breaker::{Change, Reason, State};
use crate::detector::Peers;

/// No tick counts as longer, seconds: what is older has faded anyway.
const LONGEST_TICK: f64 = 600.0;

impl Pool {
    /// Steps detectors and breakers if a tick's time has passed since anybody did. `draw` gives numbers of 0 … 1 for the
    /// jitter of backoffs. A tick that comes late counts for the whole time.
    pub fn step(&mut self, now: Duration, draw: &mut dyn FnMut() -> f64, settings: &Settings) -> Vec<Transition> {
        if self.stepped > now.saturating_add(TICK) || self.stepped.is_zero() {
            // Stored under another clock, or for the first time.
            self.stepped = now;
            return Vec::new();
        }
        let elapsed = now.saturating_sub(self.stepped);
        if elapsed < TICK {
            return Vec::new();
        }
        self.stepped = now;
        self.detect(elapsed.as_secs_f64().min(LONGEST_TICK));
        let findings = self.find_signs(now, settings);
        let may_open = self.may_open(&findings, now);
        let mut transitions = Vec::new();
        for (endpoint, finding) in self.endpoints.iter_mut().zip(findings) {
            let changes = endpoint.conclude(finding, may_open, now, (draw(), settings));
            let transition = |change| Transition {
                endpoint: endpoint.id,
                at: now,
                change,
            };
            transitions.extend(changes.into_iter().flatten().map(transition));
            endpoint.clear();
        }
        self.endpoints.retain(|endpoint| {
            let is_forgotten = now.saturating_sub(endpoint.seen) > FORGOTTEN_AFTER;
            !(is_forgotten && endpoint.breaker.state() == State::Closed)
        });
        transitions
    }

    fn detect(&mut self, seconds: f64) {
        for endpoint in self.endpoints.iter_mut().filter(|endpoint| endpoint.is_in()) {
            endpoint.detector.observe(endpoint.tally(), seconds);
        }
        let lateness = Medians::of(self.endpoints.iter().filter(|e| e.is_in()), |e| e.detector.lateness());
        let failures = Medians::of(self.endpoints.iter().filter(|e| e.is_in()), |e| {
            e.detector.failure_rate()
        });
        for endpoint in &mut self.endpoints {
            let is_in = endpoint.is_in();
            let own = |value: Option<f64>| value.filter(|_| is_in);
            let peers = Peers {
                lateness: lateness.without(own(endpoint.detector.lateness())).unwrap_or(1.0),
                failure_rate: failures.without(own(endpoint.detector.failure_rate())).unwrap_or(0.0),
            };
            let may_learn = endpoint.breaker.state() == State::Closed;
            if endpoint.breaker.state() != State::Open {
                endpoint.detector.judge(endpoint.tally(), peers, seconds, may_learn);
            }
        }
    }

    fn find_signs(&mut self, now: Duration, settings: &Settings) -> Vec<Finding> {
        let sums = Medians::of(self.endpoints.iter().filter(|e| e.is_in()), |e| Some(e.detector.late()));
        let missing = |endpoint: &&Endpoint| endpoint.misses_heartbeats(now, settings) == Some(true);
        let all = self
            .endpoints
            .iter()
            .filter(|e| e.misses_heartbeats(now, settings).is_some())
            .count();
        // All hearts do not stop at once: then it is what they are heard by that has.
        let are_heard = self.endpoints.iter().filter(missing).count() * 2 <= all || all == 1;
        let findings = self.endpoints.iter_mut().map(|endpoint| {
            let own = endpoint.is_in().then(|| endpoint.detector.late());
            let peers_late = sums.without(own).unwrap_or(0.0);
            endpoint.flags.is_suspect = endpoint.is_in() && endpoint.detector.is_suspect(peers_late);
            endpoint.find(peers_late, are_heard && missing(&&*endpoint))
        });
        findings.collect()
    }

    /// Whether all that are found to be faulty may be put out: at most half of the pool may be, by number and by capacity. If
    /// it would be more, none is, and the fault counts as shared.
    fn may_open(&mut self, findings: &[Finding], now: Duration) -> bool {
        let (mut number, mut capacity, mut are_new) = (0, 0, false);
        for (endpoint, finding) in self.endpoints.iter().zip(findings) {
            let is_new = !endpoint.breaker.state().is_out() && matches!(finding, Finding::Open(_));
            if is_new || endpoint.breaker.state().is_out() {
                number += 1;
                capacity += u64::from(endpoint.capacity);
            }
            are_new |= is_new;
        }
        let whole: u64 = self.endpoints.iter().map(|endpoint| u64::from(endpoint.capacity)).sum();
        let is_within = number * 2 <= self.endpoints.len() && capacity * 2 <= whole;
        let is_shared = are_new && !is_within;
        self.shared = is_shared.then(|| self.shared.unwrap_or(now));
        !is_shared
    }
}

impl Endpoint {
    /// What the breaker makes of a finding and of its probes' results.
    fn conclude(
        &mut self,
        finding: Finding,
        may_open: bool,
        now: Duration,
        (draw, settings): (f64, &Settings),
    ) -> [Option<Change>; 2] {
        let breaker = &settings.breaker;
        let is_held = matches!(
            finding,
            Finding::Open(Reason::NotServing | Reason::Heartbeats) | Finding::Derate(Reason::Heartbeats)
        );
        let by_time = self.breaker.advance(now, is_held, breaker);
        let is_out = self.breaker.state().is_out();
        let by_sign = match finding {
            Finding::Open(reason) if may_open || is_out => self.breaker.open(reason, now, draw, breaker),
            Finding::Derate(reason) => self.breaker.derate(reason, now, breaker),
            Finding::Open(_) | Finding::Nothing => None,
        };
        let by_probe = match by_sign {
            None => self.breaker.probed(self.probes, now, draw, breaker),
            Some(_) => None,
        };
        let state_changes = [by_time, by_sign, by_probe];
        if state_changes.iter().flatten().any(|change| change.from != change.to) {
            // A derated one is judged on: its sums have not led to this.
            if self.breaker.state() != State::Derated {
                self.detector.acquit();
            }
        } else if !may_open {
            self.detector.hold();
        }
        [by_time, by_sign.or(by_probe)]
    }
}

/// Values of endpoints, of which the median can be had without one of them.
struct Medians {
    sorted: Vec<f64>,
}

impl Medians {
    fn of<'e>(endpoints: impl Iterator<Item = &'e Endpoint>, value: impl Fn(&Endpoint) -> Option<f64>) -> Self {
        let mut sorted: Vec<_> = endpoints.filter_map(value).collect();
        sorted.sort_unstable_by(f64::total_cmp);
        Self { sorted }
    }

    /// The lower median of the others; nothing if there are none.
    fn without(&self, own: Option<f64>) -> Option<f64> {
        let removed = own.map(|own| self.sorted.partition_point(|value| value.total_cmp(&own).is_lt()));
        let others = self.sorted.len().checked_sub(removed.is_some().into())?;
        let middle = others.checked_sub(1)? / 2;
        let at = middle + usize::from(removed.is_some_and(|removed| removed <= middle));
        self.sorted.get(at).copied()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_median_of_the_others_leaves_one_out() {
        let medians = Medians {
            sorted: vec![1.0, 2.0, 3.0, 9.0],
        };
        assert_eq!(medians.without(Some(9.0)), Some(2.0));
        assert_eq!(medians.without(Some(1.0)), Some(3.0));
        assert_eq!(medians.without(Some(2.0)), Some(3.0));
        assert_eq!(medians.without(None), Some(2.0));
        let one = Medians { sorted: vec![1.0] };
        assert_eq!((one.without(Some(1.0)), one.without(None)), (None, Some(1.0)));
    }
}
