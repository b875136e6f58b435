use proptest::prelude::*;

use super::*;
use crate::breaker::{Probes, Reason};
use crate::outcome::Outcome;

const fn ms(value: u64) -> Duration {
    Duration::from_millis(value)
}

/// What an endpoint does in a tick of 100 ms.
#[derive(Clone, Copy)]
enum Does {
    /// One request ends, of one expected.
    Well,
    /// None ends, of one expected.
    Hangs,
    /// One ends, of one expected, by failing.
    Fails,
}

struct Bench {
    pool: Pool,
    now: Duration,
    settings: Settings,
    transitions: Vec<Transition>,
}

impl Bench {
    fn of(endpoints: u64) -> Self {
        let mut bench = Self {
            pool: Pool::default(),
            now: ms(1_000_000),
            settings: Settings::default(),
            transitions: Vec::new(),
        };
        for _ in 0..1200 {
            bench.tick(&vec![Does::Well; endpoints as usize]);
        }
        assert!(bench.transitions.is_empty());
        bench
    }

    fn tick(&mut self, does: &[Does]) {
        let deltas: Vec<_> = does
            .iter()
            .enumerate()
            .map(|(at, does)| delta(at as u64, *does))
            .collect();
        self.absorb(&deltas);
        self.step(TICK);
    }

    fn absorb(&mut self, deltas: &[Delta]) {
        // Through the store each time, as between threads.
        let mut pool = Pool::from_bytes(&self.pool.to_bytes());
        assert_eq!(pool, self.pool);
        pool.absorb(deltas, self.now, &self.settings);
        self.pool = pool;
    }

    fn step(&mut self, after: Duration) {
        self.now += after;
        self.transitions
            .extend(self.pool.step(self.now, &mut || 0.0, &self.settings));
    }

    fn state(&self, id: u64) -> State {
        self.pool.find(EndpointId(id)).unwrap().breaker.state()
    }

    /// Ticks until the first transition, which it is.
    fn until_transition(&mut self, does: &[Does]) -> (u32, Transition) {
        for tick in 1..200 {
            self.tick(does);
            if let Some(first) = self.transitions.first() {
                return (tick, *first);
            }
        }
        panic!("nothing happened");
    }
}

fn delta(id: u64, does: Does) -> Delta {
    let mut delta = Delta::new(EndpointId(id));
    delta.expected = 1.0;
    match does {
        Does::Well => delta.end(Outcome::Answered),
        Does::Hangs => {}
        Does::Fails => delta.end(Outcome::Failed),
    }
    delta
}

#[test]
fn one_that_hangs_is_opened_and_comes_back_by_probes() {
    let mut bench = Bench::of(4);
    let does = [Does::Hangs, Does::Well, Does::Well, Does::Well];
    let (ticks, first) = bench.until_transition(&does);
    assert!((26..=29).contains(&ticks), "{ticks}");
    assert_eq!((first.endpoint, first.change.to), (EndpointId(0), State::Open));
    assert_eq!(first.change.reason, Reason::Late);
    assert_eq!(bench.pool.condition(), Condition::Impaired);
    assert!(bench.pool.is_frozen(bench.now) && !bench.pool.teaches(EndpointId(0)) && bench.pool.teaches(EndpointId(1)));
    for _ in 0..300 {
        if bench.pool.gate(EndpointId(0), 0.5, bench.now, ms(300), &bench.settings) == Gate::Probe {
            let mut result = Delta::new(EndpointId(0));
            result.probes = Probes { passed: 1, failed: 0 };
            bench.absorb(&[result]);
        }
        bench.tick(&[Does::Well; 4]);
    }
    assert_eq!(bench.state(0), State::Closed);
    assert_eq!(bench.pool.condition(), Condition::Healthy);
}

#[test]
fn what_slows_all_of_them_opens_none() {
    let mut bench = Bench::of(6);
    for _ in 0..3000 {
        // Three are expected for each one that ends, everywhere.
        let deltas: Vec<_> = (0..6)
            .map(|id| Delta {
                expected: 3.0,
                ..delta(id, Does::Well)
            })
            .collect();
        bench.absorb(&deltas);
        bench.step(TICK);
    }
    assert_eq!(bench.transitions, []);
    assert!(!bench.pool.is_frozen(bench.now), "it is what is usual now");
}

#[test]
fn at_most_half_are_opened_and_none_if_it_would_be_more() {
    let mut bench = Bench::of(4);
    for _ in 0..100 {
        bench.tick(&[Does::Fails, Does::Fails, Does::Well, Does::Well]);
    }
    assert_eq!(
        [0, 1, 2, 3].map(|id| bench.state(id).is_out()),
        [true, true, false, false]
    );
    let mut bench = Bench::of(4);
    let not_serving = |id| Delta {
        is_serving: Some(false),
        ..delta(id, Does::Well)
    };
    bench.absorb(&[0, 1, 2].map(not_serving));
    bench.step(TICK);
    assert_eq!(bench.transitions, []);
    assert!(matches!(bench.pool.condition(), Condition::Shared { since } if since == bench.now));
}

#[test]
fn half_is_meant_by_capacity_too() {
    let mut bench = Bench::of(4);
    let members = [(0, 9), (1, 1), (2, 1), (3, 1)].map(|(id, capacity)| (EndpointId(id), capacity));
    bench.pool.set_members(&members, bench.now);
    for _ in 0..100 {
        bench.tick(&[Does::Fails, Does::Well, Does::Well, Does::Well]);
    }
    assert!(!bench.state(0).is_out(), "it is three quarters of the pool");
}

#[test]
fn two_connection_errors_within_a_second_open_it_whoever_saw_them() {
    let error = |at: u64| {
        let mut delta = Delta::new(EndpointId(0));
        delta.connection_error(ms(1_000_000 + at));
        delta
    };
    for (second, opens) in [(1001, false), (1000, true), (3, true)] {
        let mut bench = Bench::of(2);
        bench.absorb(&[error(0)]);
        bench.step(TICK);
        bench.absorb(&[error(second)]);
        bench.step(TICK);
        assert_eq!(bench.state(0) == State::Open, opens, "{second} ms apart");
    }
    let mut both = error(0);
    both.connection_error(ms(1_000_400));
    let mut bench = Bench::of(2);
    bench.absorb(&[both]);
    bench.step(TICK);
    assert_eq!(bench.transitions[0].change.reason, Reason::ConnectionErrors);
}

#[test]
fn missed_heartbeats_derate_one_and_open_it_if_it_is_late_too() {
    let mut bench = Bench::of(3);
    let beat = |bench: &Bench, id| Delta {
        heartbeat: Some(bench.now),
        ..delta(id, Does::Well)
    };
    for _ in 0..10 {
        bench.absorb(&[0, 1, 2].map(|id| beat(&bench, id)));
        bench.step(TICK);
    }
    for _ in 0..9 {
        let last = [beat(&bench, 1), beat(&bench, 2), delta(0, Does::Well)];
        bench.absorb(&last);
        bench.step(TICK);
    }
    assert_eq!((bench.state(0), bench.transitions.len()), (State::Derated, 1));
    for _ in 0..20 {
        let last = [beat(&bench, 1), beat(&bench, 2), delta(0, Does::Hangs)];
        bench.absorb(&last);
        bench.step(TICK);
    }
    assert_eq!(bench.transitions.last().unwrap().change.reason, Reason::Heartbeats);
    assert_eq!(bench.state(0), State::Open);
}

#[test]
fn heartbeats_that_all_stop_are_the_control_planes_fault() {
    let mut bench = Bench::of(3);
    let last: Vec<_> = (0..3)
        .map(|id| Delta {
            heartbeat: Some(bench.now),
            ..delta(id, Does::Well)
        })
        .collect();
    bench.absorb(&last);
    for _ in 0..50 {
        bench.tick(&[Does::Well; 3]);
    }
    assert_eq!(bench.transitions, []);
}

#[test]
fn the_slow_rule_derates_and_never_opens() {
    let mut bench = Bench::of(2);
    for _ in 0..600 {
        let slow = Delta {
            is_slow: Some(true),
            ..delta(0, Does::Well)
        };
        bench.absorb(&[slow, delta(1, Does::Well)]);
        bench.step(TICK);
    }
    assert_eq!(bench.state(0), State::Derated);
    assert_eq!(bench.transitions.len(), 1);
}

#[test]
fn a_tick_that_comes_half_a_second_late_finds_the_same() {
    let mut bench = Bench::of(3);
    for _ in 0..6 {
        for _ in 0..5 {
            bench.absorb(&[delta(0, Does::Hangs), delta(1, Does::Well), delta(2, Does::Well)]);
        }
        bench.step(ms(500));
    }
    assert_eq!(bench.transitions.len(), 1);
    assert_eq!(bench.state(0), State::Open);
}

#[test]
fn of_the_threads_that_tick_one_steps() {
    let mut bench = Bench::of(2);
    bench.absorb(&[delta(0, Does::Well)]);
    bench.now += TICK;
    let mut other = bench.pool.clone();
    other.step(bench.now, &mut || 0.0, &bench.settings);
    let swapped = other.to_bytes();
    let mut late = Pool::from_bytes(&swapped);
    assert!(late.step(bench.now + ms(99), &mut || 0.0, &bench.settings).is_empty());
    assert_eq!(late.to_bytes(), swapped);
}

#[test]
fn a_pool_stored_under_a_clock_that_was_an_hour_ahead_goes_on() {
    let mut bench = Bench::of(3);
    bench.pool.stepped = bench.now + ms(3_600_000);
    let (ticks, _) = bench.until_transition(&[Does::Hangs, Does::Well, Does::Well]);
    assert!(ticks <= 30, "{ticks}");
}

#[test]
fn a_pool_has_room_for_so_many_endpoints_and_no_more() {
    let settings = Settings::default();
    let mut pool = Pool::default();
    let deltas: Vec<_> = (0..600).map(|id| delta(id, Does::Well)).collect();
    assert_eq!(pool.absorb(&deltas, ms(1), &settings), 600 - MAX_ENDPOINTS);
    assert_eq!(pool.to_bytes().len(), MAX_BYTES);
    assert_eq!(Pool::from_bytes(&pool.to_bytes()), pool);
    pool.step(ms(2), &mut || 0.0, &settings);
    pool.step(ms(700_000), &mut || 0.0, &settings);
    assert_eq!(
        pool,
        Pool {
            stepped: ms(700_000),
            ..Pool::default()
        },
        "nobody was heard of for ten minutes"
    );
}

proptest! {
    #[test]
    fn what_threads_add_does_not_depend_on_their_order(
        mut deltas in proptest::collection::vec((0_u64..3, 0.0_f64..5.0, any::<bool>(), 0_u16..3), 0..20),
    ) {
        let settings = Settings::default();
        let pool = |deltas: &[(u64, f64, bool, u16)]| {
            let mut pool = Pool::default();
            pool.set_members(&[0, 1, 2].map(|id| (EndpointId(id), 1)), ms(5));
            for (id, expected, fails, passed) in deltas {
                let mut delta = delta(*id, if *fails { Does::Fails } else { Does::Well });
                delta.expected = *expected;
                delta.probes.passed = *passed;
                pool.absorb(&[delta], ms(5), &settings);
            }
            pool
        };
        let forward = pool(&deltas);
        deltas.reverse();
        prop_assert_eq!(forward, pool(&deltas));
    }

    #[test]
    fn foreign_bytes_are_a_pool_that_works(mut bytes in proptest::collection::vec(any::<u8>(), 0..600), length in 0_usize..4) {
        let settings = Settings::default();
        for shape in [false, true] {
            if shape {
                // Almost right, with every number drawn.
                bytes.resize(19 + length * ENDPOINT_BYTES, 3);
                bytes[..3].copy_from_slice(&[1, length as u8, 0]);
            }
            let mut pool = Pool::from_bytes(&bytes);
            pool.absorb(&[delta(7, Does::Hangs)], ms(99), &settings);
            for at in [100, 300, 5_000_000] {
                pool.step(ms(at), &mut || 0.5, &settings);
                pool.gate(EndpointId(7), 0.5, ms(at), ms(5), &settings);
            }
            prop_assert!(pool.to_bytes().len() <= MAX_BYTES);
            prop_assert!(pool.standings(&settings).all(|standing| standing.late.is_finite() && standing.share.is_finite()));
        }
    }
}
