use proptest::prelude::*;

use super::*;

const fn ms(value: u64) -> Duration {
    Duration::from_millis(value)
}

const WAIT: Duration = ms(300);

fn half_open(now: Duration) -> Breaker {
    let settings = Settings::default();
    let mut breaker = Breaker::default();
    breaker.open(Reason::Late, now, 0.0, &settings).unwrap();
    breaker.advance(now + ms(1000), false, &settings).unwrap();
    breaker
}

fn passed(count: u16) -> Probes {
    Probes {
        passed: count,
        failed: 0,
    }
}

#[test]
fn it_opens_for_a_second_and_then_lets_a_few_probes_through() {
    let settings = Settings::default();
    let mut breaker = Breaker::default();
    assert_eq!(breaker.gate(0.99, ms(0), WAIT, &settings), Gate::Pass);
    let change = breaker.open(Reason::Late, ms(5000), 0.0, &settings).unwrap();
    assert_eq!(
        (change.from, change.to, change.reason),
        (State::Closed, State::Open, Reason::Late)
    );
    assert_eq!(breaker.gate(0.0, ms(5500), WAIT, &settings), Gate::Refuse);
    assert_eq!(breaker.advance(ms(5999), false, &settings), None);
    assert_eq!(
        breaker.advance(ms(6000), true, &settings),
        None,
        "its fault is plain to see"
    );
    assert_eq!(breaker.advance(ms(6000), false, &settings).unwrap().to, State::HalfOpen);
    assert_eq!(
        breaker.gate(0.5, ms(6000), WAIT, &settings),
        Gate::Probe,
        "the first one, whatever the share"
    );
    assert_eq!(breaker.gate(0.5, ms(6100), WAIT, &settings), Gate::Refuse);
    assert_eq!(breaker.gate(0.009, ms(6100), WAIT, &settings), Gate::Probe);
}

#[test]
fn five_successes_at_each_of_four_stages_close_it() {
    let settings = Settings::default();
    let mut breaker = half_open(ms(0));
    let mut shares = Vec::new();
    while breaker.state() == State::HalfOpen {
        shares.push(breaker.share(&settings));
        assert_eq!(breaker.probed(passed(4), ms(2000), 0.0, &settings), None);
        assert!(breaker.probed(passed(1), ms(2000), 0.0, &settings).is_some());
    }
    assert_eq!(shares, settings.stages);
    assert_eq!(breaker.state(), State::Closed);
}

#[test]
fn a_failed_probe_opens_it_for_twice_as_long_up_to_half_a_minute() {
    let settings = Settings::default();
    let mut breaker = half_open(ms(0));
    let failed = Probes { passed: 3, failed: 1 };
    let mut now = ms(1000);
    let mut backoffs = Vec::new();
    for _ in 0..7 {
        assert_eq!(
            breaker.probed(failed, now, 0.0, &settings).unwrap().reason,
            Reason::ProbeFailed
        );
        backoffs.push((breaker.until - now).as_secs());
        now = breaker.until;
        breaker.advance(now, false, &settings).unwrap();
    }
    assert_eq!(backoffs, [2, 4, 8, 16, 30, 30, 30]);
}

#[test]
fn the_backoff_begins_anew_after_a_minute_of_health_and_not_before() {
    let settings = Settings::default();
    for (well_for, backoff) in [(59, 2), (60, 1)] {
        let mut breaker = half_open(ms(0));
        for _ in 0..4 {
            breaker.probed(passed(5), ms(2000), 0.0, &settings);
        }
        let now = ms(2000) + Duration::from_secs(well_for);
        breaker.open(Reason::Late, now, 0.0, &settings).unwrap();
        assert_eq!((breaker.until - now).as_secs(), backoff);
    }
}

#[test]
fn probes_whose_results_are_lost_do_not_wedge_it() {
    let settings = Settings::default();
    let mut breaker = half_open(ms(0));
    let now = ms(2000);
    for _ in 0..5 {
        assert_eq!(breaker.gate(0.0, now, WAIT, &settings), Gate::Probe);
    }
    assert_eq!(
        breaker.gate(0.0, now, WAIT, &settings),
        Gate::Refuse,
        "all leases are out"
    );
    assert_eq!(breaker.gate(0.0, now + ms(299), WAIT, &settings), Gate::Refuse);
    assert_eq!(breaker.gate(0.0, now + WAIT, WAIT, &settings), Gate::Probe);
}

#[test]
fn a_derated_one_gets_a_quarter_until_there_are_no_more_signs() {
    let settings = Settings::default();
    let mut breaker = Breaker::default();
    assert!(breaker.derate(Reason::Slow, ms(0), &settings).is_some());
    let passes = (0..100).filter(|draw| breaker.gate(f64::from(*draw) / 100.0, ms(1), WAIT, &settings) == Gate::Pass);
    assert_eq!(passes.count(), 25);
    assert_eq!(breaker.derate(Reason::Slow, ms(4000), &settings), None);
    assert_eq!(breaker.advance(ms(5000), false, &settings), None);
    assert_eq!(
        breaker.advance(ms(9000), false, &settings).unwrap().reason,
        Reason::Recovered
    );
}

#[test]
fn results_of_probes_that_come_when_it_is_open_again_change_nothing() {
    let settings = Settings::default();
    let mut breaker = half_open(ms(0));
    breaker.open(Reason::Late, ms(2000), 0.0, &settings);
    let before = breaker;
    assert_eq!(breaker.probed(passed(50), ms(2001), 0.0, &settings), None);
    assert_eq!(breaker, before);
}

proptest! {
    #[test]
    fn whatever_happens_it_can_be_closed_again(
        happenings in proptest::collection::vec((0_u8..5, 0_u16..5, 0.0_f64..1.0, 0_u64..5000), 0..60),
    ) {
        let settings = Settings::default();
        let (mut breaker, mut now) = (Breaker::default(), ms(0));
        for (what, count, draw, later) in happenings {
            now += ms(later);
            match what {
                0 => { breaker.open(Reason::Late, now, draw, &settings); }
                1 => { breaker.derate(Reason::Slow, now, &settings); }
                2 => { breaker.probed(Probes { passed: count, failed: u16::from(draw < 0.1) }, now, draw, &settings); }
                3 => { breaker.gate(draw, now, WAIT, &settings); }
                _ => { breaker.advance(now, false, &settings); }
            }
        }
        // A minute later it lets a probe through, and with every probe that passes it comes nearer to being closed.
        now += Duration::from_secs(60);
        breaker.advance(now, false, &settings);
        for _ in 0..20 {
            now += settings.probe_every;
            match breaker.gate(0.999, now, WAIT, &settings) {
                Gate::Probe => { breaker.probed(passed(1), now, 0.0, &settings); }
                Gate::Pass => break,
                Gate::Refuse => prop_assert!(false, "{:?} is wedged", breaker),
            }
        }
        prop_assert_eq!(breaker.state(), State::Closed);
    }
}
