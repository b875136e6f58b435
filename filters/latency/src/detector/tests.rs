use super::*;

const TICK: f64 = 0.1;

/// One that has been known for long, at so many requests a tick.
fn known(a_tick: u32) -> Detector {
    let mut detector = Detector::default();
    for _ in 0..3000 {
        step(&mut detector, f64::from(a_tick), a_tick);
    }
    detector
}

fn step(detector: &mut Detector, expected: f64, answered: u32) {
    let tally = Tally {
        expected,
        answered,
        failed: 0,
    };
    detector.observe(tally, TICK);
    detector.judge(tally, Peers::default(), TICK, true);
}

#[test]
fn a_hang_is_told_by_what_does_not_come() {
    let mut detector = known(1);
    let ticks = (1..100).find(|_| {
        step(&mut detector, 1.0, 0);
        detector.is_late(0.0)
    });
    // 18 ÷ 0.7, rounded up.
    assert_eq!(ticks, Some(26));
}

#[test]
fn it_does_not_matter_into_how_many_ticks_a_hang_is_cut() {
    let (mut often, mut once) = (known(1), known(1));
    (0..5).for_each(|_| step(&mut often, 1.0, 0));
    let tally = Tally {
        expected: 5.0,
        ..Tally::default()
    };
    once.observe(tally, 5.0 * TICK);
    once.judge(tally, Peers::default(), 5.0 * TICK, true);
    assert!((often.late() - once.late()).abs() < 0.02, "{often:?} {once:?}");
}

#[test]
fn what_makes_the_peers_late_too_is_no_fault_of_one() {
    let (mut alone, mut among) = (known(4), known(4));
    let peers = Peers {
        lateness: 4.0,
        ..Peers::default()
    };
    let late = Tally {
        expected: 4.0,
        answered: 1,
        failed: 0,
    };
    for _ in 0..50 {
        alone.judge(late, Peers::default(), TICK, true);
        among.judge(late, peers, TICK, true);
    }
    assert!(alone.is_late(0.0));
    assert!(among.late() < 1.0);
}

#[test]
fn a_card_that_is_four_times_slower_than_the_pool_is_known_for_it() {
    let mut detector = Detector::default();
    for _ in 0..3000 {
        step(&mut detector, 4.0, 1);
        assert!(!detector.is_late(0.0), "{detector:?}");
    }
    assert!((detector.pace() - 0.25).abs() < 0.02);
    let ticks = (1..100).find(|_| {
        step(&mut detector, 4.0, 0);
        detector.is_late(0.0)
    });
    assert!(ticks.is_some_and(|ticks| (25..=28).contains(&ticks)), "{ticks:?}");
}

#[test]
fn before_its_pace_is_known_only_one_that_says_nothing_is_late() {
    let mut silent = Detector::default();
    (0..60).for_each(|_| step(&mut silent, 1.0, 0));
    assert!(silent.is_late(0.0));
    let mut slow = Detector::default();
    let tally = Tally {
        expected: 4.5,
        answered: 1,
        failed: 0,
    };
    for _ in 0..10 {
        slow.observe(tally, TICK);
        slow.judge(tally, Peers::default(), TICK, false);
    }
    assert!(slow.late() > THRESHOLD && !slow.is_late(0.0), "{slow:?}");
}

#[test]
fn four_failures_in_a_row_are_a_fault_unless_the_peers_fail_as_often() {
    let failures = |rate, count| {
        let mut detector = known(1);
        let tally = Tally {
            expected: 1.0,
            answered: 1,
            failed: 1,
        };
        let peers = Peers {
            failure_rate: rate,
            ..Peers::default()
        };
        (0..count).for_each(|_| detector.judge(tally, peers, TICK, true));
        detector.is_faulty()
    };
    assert!(!failures(0.0, 3));
    assert!(failures(0.0, 4));
    assert!(!failures(0.15, 9));
}

#[test]
fn numbers_that_are_none_do_no_harm() {
    let mut detector = known(1);
    for expected in [f64::NAN, f64::INFINITY, -5.0, 1e300] {
        let tally = Tally {
            expected,
            answered: u32::MAX,
            failed: u32::MAX,
        };
        detector.observe(tally, TICK);
        let peers = Peers {
            lateness: f64::NAN,
            failure_rate: f64::INFINITY,
        };
        detector.judge(tally, peers, TICK, true);
        assert!(detector.late().is_finite() && detector.faulty().is_finite() && detector.pace().is_finite());
    }
}

#[test]
fn what_the_peers_sums_stand_at_counts_twice_against_its_own() {
    let mut detector = known(1);
    (0..40).for_each(|_| step(&mut detector, 1.0, 0));
    let late = detector.late();
    assert!(late > THRESHOLD + 8.0, "{late}");
    assert!(detector.is_late(3.9) && detector.is_suspect(3.9));
    assert!(!detector.is_late((late - THRESHOLD) / 2.0 + 0.1));
    assert!(!detector.is_suspect((late - SUSPICION) / 2.0 + 0.1));
}
