//! The laws of the simulation, small and quick: `cargo run -p kilocard-latency --example timeouts --release` has all of it.
//! Seeds are fixed, so each run sees the same.

#[allow(dead_code, reason = "the example uses all of it")]
#[path = "../examples/timeouts/simulation.rs"]
mod simulation;

use std::time::Duration;

use simulation::law::{Event, Law, Scenario, even};
use simulation::ours::Ours;
use simulation::way::{Outlier, Static, Way};
use simulation::world::{Report, Span, World};

const WARM: f64 = 900.0;

fn scenario(endpoints: usize, rate: f64, lasts: f64, event: Option<(Event, f64, f64)>) -> Scenario {
    Scenario {
        law: Law::Lognormal,
        endpoints,
        rate,
        lasts,
        event,
        load: even,
        seed: 11,
    }
}

fn run(scenario: &Scenario, span: Span, way: &mut dyn Way) -> Report {
    World::run(scenario, &[span], way)
}

#[test]
fn in_an_hour_of_healthy_traffic_nobody_is_put_out_and_hardly_a_request_is_cut() {
    let healthy = scenario(6, 12.0, WARM + 3600.0, None);
    let span = Span::of(WARM, healthy.lasts);
    let report = run(&healthy, span, &mut Ours::new(6, 11));
    assert!(report.spans[0].false_percent() <= 0.1, "{report:?}");
    assert_eq!(report.wrong_ejections, 0, "{report:?}");
}

#[test]
fn a_slow_down_of_everything_costs_less_than_a_hundredth_of_the_requests_in_two_minutes() {
    let slow = Some((Event::Slowdown(2.5), WARM + 7.0, 1e9));
    let slow = scenario(6, 12.0, WARM + 127.0, slow);
    let span = Span::of(WARM + 7.0, WARM + 127.0);
    let ours = run(&slow, span, &mut Ours::new(6, 11));
    assert!(ours.spans[0].false_percent() <= 1.0, "{ours:?}");
    assert_eq!(ours.wrong_ejections, 0, "{ours:?}");
    // A timeout that does not learn shows that there was something to lose.
    let timeout = Duration::from_secs_f64(Law::Lognormal.p999() * 1.15 * 1.3);
    let fixed = run(&slow, span, &mut Static { timeout });
    assert!(fixed.spans[0].false_percent() > 2.0, "{fixed:?}");
}

fn told_after(rate: f64, way: impl Fn(u64) -> Box<dyn Way>) -> Vec<f64> {
    let trial = |seed| {
        let mut hang = scenario(
            4,
            rate,
            430.0,
            Some((Event::Hang, 400.0 + seed as f64 * 0.37 % 30.0, 1e9)),
        );
        hang.seed = 100 + seed;
        let report = World::run(&hang, &[], way(seed).as_mut());
        report.detected.unwrap_or(f64::INFINITY)
    };
    let mut told: Vec<_> = (0..20).map(trial).collect();
    told.sort_by(f64::total_cmp);
    told
}

#[test]
fn a_hang_is_told_within_a_second_at_twelve_requests_a_second() {
    let told = told_after(12.0, |seed| Box::new(Ours::new(4, seed)));
    assert!(told[18] <= 1.0, "{told:?}");
    let timeout = Duration::from_secs_f64(Law::Lognormal.p999() * 1.15 * 1.3);
    let others = told_after(12.0, |_| Box::new(Outlier::new(4, timeout)));
    assert!(others[18] > told[18], "{others:?}");
}

#[test]
fn a_hang_is_told_within_half_a_second_at_forty_requests_a_second() {
    let told = told_after(40.0, |seed| Box::new(Ours::new(4, seed)));
    assert!(told[18] <= 0.45, "{told:?}");
}

#[test]
fn when_everything_fails_attempts_grow_by_a_tenth() {
    let outage = scenario(4, 12.0, 400.0, Some((Event::Outage, 200.0, 400.0)));
    let span = run(&outage, Span::of(215.0, 400.0), &mut Ours::new(4, 11)).spans[0];
    let attempts = span.attempts as f64 / span.requests as f64;
    assert!((1.05..=1.101).contains(&attempts), "{span:?}");
    assert!(span.lost > 0);
}
