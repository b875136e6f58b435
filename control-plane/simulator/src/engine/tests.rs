use super::*;
use crate::balancer::least_request::LeastRequest;
use crate::balancer::round_robin::RoundRobin;
use crate::control::Fixed;
use crate::scenario::tests::{card, scenario};
use crate::scenario::{Fault, FaultKind};
use proptest::prelude::*;
use std::time::Duration;

fn least_request(scenario: &Scenario, seed: u64) -> Record {
    let weights = scenario.cards.iter().map(|card| card.prior).collect();
    let contender = Contender {
        balancer: &|start| Box::new(LeastRequest::new(1.0, start)),
        control: Box::new(Fixed::new(weights)),
    };
    run(scenario, contender, seed, &mut |_| {})
}

fn mean_latency(record: &Record) -> f64 {
    let all: Vec<f64> = record
        .latencies
        .iter()
        .flatten()
        .map(|latency| f64::from(*latency))
        .collect();
    all.iter().sum::<f64>() / all.len() as f64
}

/// One card, one gateway: a queue of the textbooks, at load 0.6 with 20 ms of work.
fn queue(slots: usize) -> Record {
    let mut scenario = scenario();
    scenario.cards = vec![card(200, 1.0)];
    scenario.cards[0].slots = slots;
    (scenario.gateways, scenario.threads, scenario.load) = (1, 1, 0.6);
    scenario.measured = Duration::from_secs(3000);
    least_request(&scenario, 11)
}

/// `E[S]/(1 − ρ)`, whatever the distribution of the work (Kleinrock, Queueing Systems II, 4.4).
#[test]
fn processor_sharing_has_the_mean_latency_of_theory() {
    let mean = mean_latency(&queue(100_000));
    assert!((mean - 0.050).abs() < 0.003, "{mean}");
}

/// `E[S] + ρ·E[S](1 + C²)/(2(1 − ρ))`, first come, first served.
#[test]
fn one_slot_has_the_mean_latency_of_pollaczek_and_khinchine() {
    let squared_variation = (0.8f64 * 0.8).exp() - 1.0;
    let expected = 0.020 + 0.6 * 0.020 * (1.0 + squared_variation) / (2.0 * 0.4);
    let mean = mean_latency(&queue(1));
    assert!((mean - expected).abs() < 0.004, "{mean} for {expected}");
}

#[test]
fn the_same_seed_gives_the_same_run_and_another_seed_another() {
    let scenario = scenario();
    assert_eq!(least_request(&scenario, 3), least_request(&scenario, 3));
    assert_ne!(least_request(&scenario, 3), least_request(&scenario, 4));
}

#[test]
fn round_robin_shares_by_number_and_least_request_by_capacity() {
    let scenario = scenario();
    let contender = Contender {
        balancer: &|start| Box::new(RoundRobin::new(start)),
        control: Box::new(Fixed::new(vec![1; 3])),
    };
    let even = run(&scenario, contender, 1, &mut |_| {});
    // A third each, where capacities are 4/7, 2/7 and 1/7.
    assert!(
        (even.shares[0].mean - 2.0 * (4.0 / 7.0 - 1.0 / 3.0)).abs() < 0.01,
        "{:?}",
        even.shares
    );
    let weighted = least_request(&scenario, 1);
    assert!(weighted.shares[0].mean < 0.05, "{:?}", weighted.shares);
}

#[test]
fn a_card_that_fails_loses_what_it_holds_and_is_left_when_its_lease_runs_out() {
    let mut scenario = scenario();
    scenario.measured = Duration::from_secs(30);
    let at = Duration::from_secs(5);
    scenario.faults = vec![Fault {
        card: 2,
        at,
        kind: FaultKind::Fail,
    }];
    scenario.load = 0.5;
    let record = least_request(&scenario, 1);
    assert!(record.failed > 0 && record.refused > 0, "{record:?}");
    assert_eq!(record.arrived, record.answered + record.failed);
    // One push: the card is gone.
    assert_eq!(record.pushes, 1);
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(24))]

    #[test]
    fn every_request_is_answered_or_failed_whatever_happens(
        seed in any::<u64>(), load in 0.05f64..0.95, slots in 1usize..80, gateways in 1usize..5,
        faults in proptest::collection::vec((0usize..3, 0u64..9, 0u8..3), 0..4),
    ) {
        let mut scenario = scenario();
        scenario.measured = Duration::from_secs(10);
        (scenario.load, scenario.gateways) = (load, gateways);
        scenario.cards.iter_mut().for_each(|card| card.slots = slots);
        scenario.faults = faults.into_iter().map(|(card, at, kind)| Fault {
            card,
            at: Duration::from_secs(at),
            kind: match kind {
                0 => FaultKind::Fail,
                1 => FaultKind::Join,
                _ => FaultKind::Throttle { factor: 0.35, lasts: Duration::from_secs(3) },
            },
        }).collect();
        let record = least_request(&scenario, seed);
        prop_assert_eq!(record.arrived, record.answered + record.failed);
        let latencies: usize = record.latencies.iter().map(Vec::len).sum();
        prop_assert_eq!(latencies as u64, record.answered);
    }

    #[test]
    fn a_card_with_work_never_rests(works in proptest::collection::vec(0.001f64..2.0, 1..40), slots in 1usize..5, speed in 0.1f64..4.0) {
        let mut card = Card::new(speed, slots);
        let total: f64 = works.iter().sum();
        for work in works {
            card.take(Moment::default(), Job { arrived: Moment::default(), gateway: 0, work });
        }
        let mut end = Moment::default();
        while let Some((at, generation)) = card.next_completion() {
            end = at;
            prop_assert!(card.complete(at, generation).is_some());
        }
        prop_assert!((end.as_secs() - total / speed).abs() < 1e-4, "{} for {}", end.as_secs(), total / speed);
    }
}
