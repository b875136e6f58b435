//! The discrete-event loop, and what it counts.

use std::cmp::{Ordering, Reverse};
use std::collections::BinaryHeap;
use std::time::Duration;

use super::law::Scenario;
use super::way::{Answer, Way};

/// Simulated time begins an hour into the monotonic clock.
pub(crate) fn clock(at: f64) -> Duration {
    Duration::from_secs_f64(3600.0 + at)
}

const TICK: f64 = 0.1;

/// An attempt in flight.
#[derive(Clone, Copy, Debug)]
struct Attempt {
    endpoint: usize,
    begins: f64,
    /// Attempts of its request, this one included.
    number: u32,
    is_failure: bool,
    is_over: bool,
}

#[derive(Clone, Copy, Debug, PartialEq)]
enum Happening {
    Arrival,
    Answer(usize),
    Timeout(usize),
    Tick,
}

#[derive(Clone, Copy, Debug, PartialEq)]
struct At(f64, Happening);

impl Eq for At {}

impl PartialOrd for At {
    fn partial_cmp(&self, other: &Self) -> Option<Ordering> {
        Some(self.cmp(other))
    }
}

impl Ord for At {
    fn cmp(&self, other: &Self) -> Ordering {
        self.0.total_cmp(&other.0)
    }
}

/// What was counted from one time to another.
#[derive(Clone, Copy, Debug, Default)]
pub(crate) struct Span {
    pub(crate) from: f64,
    pub(crate) until: f64,
    pub(crate) requests: u64,
    pub(crate) attempts: u64,
    /// Attempts that a timeout cut at an endpoint that was not at fault.
    pub(crate) false_timeouts: u64,
    /// Requests all of whose attempts failed.
    pub(crate) lost: u64,
}

impl Span {
    pub(crate) fn of(from: f64, until: f64) -> Self {
        Self {
            from,
            until,
            ..Self::default()
        }
    }

    /// Per cent.
    pub(crate) fn false_percent(&self) -> f64 {
        100.0 * self.false_timeouts as f64 / self.attempts.max(1) as f64
    }
}

/// What came of it.
#[derive(Clone, Debug, Default)]
pub(crate) struct Report {
    pub(crate) spans: Vec<Span>,
    /// How long endpoints that were not at fault were out of the pool, in seconds, and how often that began.
    pub(crate) wrongly_out: f64,
    pub(crate) wrong_ejections: u64,
    /// Seconds from the fault until the endpoint gets less than half of its requests.
    pub(crate) detected: Option<f64>,
}

pub(crate) struct World<'s> {
    scenario: &'s Scenario,
    heap: BinaryHeap<Reverse<At>>,
    attempts: Vec<Attempt>,
    /// Arrivals, and all that the way draws; latencies are drawn by request, so that all ways see the same.
    arrivals: fastrand::Rng,
    draws: fastrand::Rng,
    was_out: Vec<bool>,
    report: Report,
}

impl<'s> World<'s> {
    /// Runs a way through a scenario, and counts over the spans.
    pub(crate) fn run(scenario: &'s Scenario, spans: &[Span], way: &mut dyn Way) -> Report {
        let mut world = Self {
            scenario,
            heap: BinaryHeap::new(),
            attempts: Vec::new(),
            arrivals: fastrand::Rng::with_seed(scenario.seed),
            draws: fastrand::Rng::with_seed(scenario.seed ^ 0xa5a5),
            was_out: vec![false; scenario.endpoints],
            report: Report {
                spans: spans.to_vec(),
                ..Report::default()
            },
        };
        world.push(0.0, Happening::Arrival);
        world.push(TICK, Happening::Tick);
        while let Some(Reverse(At(now, happening))) = world.heap.pop() {
            if now > scenario.lasts {
                break;
            }
            match happening {
                Happening::Arrival => world.arrive(now, way),
                Happening::Answer(attempt) => world.answer(attempt, now, way),
                Happening::Timeout(attempt) => world.time_out(attempt, now, way),
                Happening::Tick => world.tick(now, way),
            }
        }
        world.report
    }

    fn push(&mut self, at: f64, happening: Happening) {
        self.heap.push(Reverse(At(at, happening)));
    }

    fn count(&mut self, at: f64, count: impl Fn(&mut Span)) {
        let within = self.report.spans.iter_mut();
        within
            .filter(|span| (span.from..span.until).contains(&at))
            .for_each(count);
    }

    fn arrive(&mut self, now: f64, way: &mut dyn Way) {
        let rate = self.scenario.rate * self.scenario.endpoints as f64;
        let gap = -(1.0 - self.arrivals.f64()).ln() / rate;
        self.push(now + gap, Happening::Arrival);
        self.count(now, |span| span.requests += 1);
        way.arrived(clock(now));
        self.attempt(1, now, way);
    }

    fn attempt(&mut self, number: u32, now: f64, way: &mut dyn Way) {
        let mut endpoint = self.draws.usize(0..self.scenario.endpoints);
        for _ in 0..20 {
            if way.gate(endpoint, self.draws.f64(), clock(now)) {
                break;
            }
            endpoint = self.draws.usize(0..self.scenario.endpoints);
        }
        let id = self.attempts.len();
        let mut rng = fastrand::Rng::with_seed(self.scenario.seed.wrapping_mul(31).wrapping_add(id as u64));
        let drawn = self.scenario.law.draw(&mut rng);
        let (ends, is_failure) = self.scenario.answered(endpoint, now, drawn);
        self.attempts.push(Attempt {
            endpoint,
            begins: now,
            number,
            is_failure,
            is_over: false,
        });
        let timeout = way.begin(id, endpoint, self.draws.f64(), clock(now)).as_secs_f64();
        self.count(now, |span| span.attempts += 1);
        // An attempt that is cut is left to run for whoever wants to know how long it would have taken.
        self.push(ends, Happening::Answer(id));
        if ends > now + timeout {
            self.push(now + timeout, Happening::Timeout(id));
        }
    }

    fn answer(&mut self, id: usize, now: f64, way: &mut dyn Way) {
        let attempt = self.attempts[id];
        let answer = Answer {
            id,
            endpoint: attempt.endpoint,
            took: Duration::from_secs_f64(now - attempt.begins),
            is_failure: attempt.is_failure,
            was_cut: attempt.is_over,
        };
        way.answered(&answer, clock(now));
        if attempt.is_over {
            return;
        }
        self.attempts[id].is_over = true;
        if attempt.is_failure {
            self.fail(attempt, now, way);
        }
    }

    fn time_out(&mut self, id: usize, now: f64, way: &mut dyn Way) {
        let attempt = self.attempts[id];
        if attempt.is_over {
            return;
        }
        self.attempts[id].is_over = true;
        way.timed_out(id, attempt.endpoint, clock(now));
        if !self.scenario.is_at_fault(attempt.endpoint, attempt.begins, now) {
            self.count(attempt.begins, |span| span.false_timeouts += 1);
        }
        self.fail(attempt, now, way);
    }

    fn fail(&mut self, attempt: Attempt, now: f64, way: &mut dyn Way) {
        if way.retries(attempt.number, attempt.is_failure, clock(now)) {
            self.attempt(attempt.number + 1, now, way);
        } else {
            self.count(attempt.begins, |span| span.lost += 1);
        }
    }

    fn tick(&mut self, now: f64, way: &mut dyn Way) {
        way.tick(clock(now), (self.scenario.load)(now));
        for endpoint in 0..self.scenario.endpoints {
            let share = way.share(endpoint);
            // Ten minutes after a fault, nobody ought to be out because of it any more.
            if self.scenario.is_at_fault(endpoint, now - 600.0, now) {
                let (_, from, _) = self.scenario.event.unwrap_or((super::law::Event::Hang, 0.0, 0.0));
                if share < 0.5 && endpoint == 0 && now >= from {
                    self.report.detected.get_or_insert(now - from);
                }
            } else {
                self.report.wrongly_out += TICK * (1.0 - share);
                self.report.wrong_ejections += u64::from(share < 1.0 && !self.was_out[endpoint]);
            }
            self.was_out[endpoint] = share < 1.0;
        }
        self.push(now + TICK, Happening::Tick);
    }
}
