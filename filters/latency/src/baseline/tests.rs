use proptest::prelude::*;

use super::*;

const fn ms(value: u64) -> Duration {
    Duration::from_millis(value)
}

/// Durations of 1 ms to 1 s, evenly, so that the part q of them is within q seconds.
fn even(count: u64) -> Survival {
    let mut survival = Survival::default();
    (0..count).for_each(|at| survival.record(ms(1 + at * 1000 / count)));
    survival
}

fn near(found: Duration, wanted: Duration) {
    let off = found.as_secs_f64() / wanted.as_secs_f64() - 1.0;
    assert!(off.abs() < 0.02, "{found:?} for {wanted:?}");
}

#[test]
fn the_highest_quantile_that_twenty_samples_lie_beyond_is_read() {
    let shape = Shape::default();
    let learn = |count| Baseline::learn(&even(count), None, &shape);
    assert_eq!(learn(399), None);
    let by_p95 = learn(400).unwrap();
    assert_eq!(by_p95.basis, Basis::P95);
    near(by_p95.baseline.p999, ms(950).mul_f64(2.38));
    let by_p99 = learn(2_000).unwrap();
    assert_eq!(by_p99.basis, Basis::P99);
    near(by_p99.baseline.p999, ms(990).mul_f64(1.58));
    let itself = learn(20_000).unwrap();
    assert_eq!(itself.basis, Basis::P999);
    near(itself.baseline.p999, ms(999));
    assert_eq!(itself.baseline.samples, 20_000);
}

#[test]
fn few_samples_are_shrunk_to_the_prior_and_none_leave_it_as_it_is() {
    let prior = Baseline::guess(ms(2000), &Shape::default());
    let learn = |window: &Survival| Baseline::learn(window, Some(&prior), &Shape::default()).unwrap();
    let none = learn(&Survival::default());
    assert_eq!((none.basis, none.baseline.p999), (Basis::Prior, ms(2000)));
    // 5,000 samples weigh as much as the prior.
    near(
        learn(&even(5_000)).baseline.p999,
        (ms(2000) + ms(990).mul_f64(1.58)) / 2,
    );
    near(learn(&even(500_000)).baseline.p999, ms(1010));
}

#[test]
fn a_tail_that_was_cut_off_is_longer_than_the_cut_whatever_the_prior_says() {
    let mut window = even(20_000);
    (0..10_000).for_each(|_| window.record_censored(ms(1500)));
    let prior = Baseline::guess(ms(10), &Shape::default());
    let learned = Baseline::learn(&window, Some(&prior), &Shape::default()).unwrap();
    assert_eq!(learned.basis, Basis::Beyond);
    assert!(learned.baseline.p999 > ms(1400), "{learned:?}");
    assert_eq!(learned.baseline.check(), Ok(()));
}

#[test]
fn where_only_the_far_tail_was_cut_off_a_lower_quantile_tells() {
    let mut window = even(20_000);
    (0..150).for_each(|_| window.record_censored(ms(1000)));
    let learned = Baseline::learn(&window, None, &Shape::default()).unwrap();
    assert_eq!(learned.basis, Basis::P99);
    near(learned.baseline.p999, ms(998).mul_f64(1.58));
}

#[test]
fn a_family_lends_its_tail() {
    assert_eq!(Shape::of(&even(19_999)), None);
    let shape = Shape::of(&even(20_000)).unwrap();
    assert!((shape.from_p99 - 0.999 / 0.99).abs() < 0.02, "{shape:?}");
}

#[test]
fn nonsense_is_refused_with_its_reason() {
    let good = Baseline::guess(ms(500), &Shape::default());
    assert_eq!(good.check(), Ok(()));
    let zero = Baseline {
        p50: Duration::ZERO,
        ..good
    };
    assert_eq!(zero.check().unwrap_err().label(), "range");
    let unordered = Baseline { p99: ms(1), ..good };
    assert_eq!(unordered.check().unwrap_err().to_string(), "p99 is shorter than p95");
    let wide = Baseline {
        p50: Duration::from_micros(1),
        ..good
    };
    assert_eq!(wide.accept(None).unwrap_err().label(), "spread");
}

#[test]
fn a_pushed_baseline_far_from_what_was_measured_is_brought_nearer() {
    let own = Baseline::learn(&even(20_000), None, &Shape::default())
        .unwrap()
        .baseline;
    let pushed = Baseline::guess(ms(60_000), &Shape::default());
    let accepted = pushed.accept(Some(&own)).unwrap();
    assert!(accepted.is_clamped);
    assert_eq!(accepted.baseline.p999, own.p999 * 8);
    let few = Baseline { samples: 500, ..own };
    assert!(
        !pushed.accept(Some(&few)).unwrap().is_clamped,
        "500 samples prove nothing"
    );
}

proptest! {
    #[test]
    fn any_bytes_are_a_baseline_that_can_be_or_nothing(bytes in proptest::collection::vec(any::<u8>(), 0..40)) {
        if let Some(baseline) = Baseline::from_bytes(&bytes) {
            prop_assert_eq!(baseline.check(), Ok(()));
            prop_assert_eq!(&baseline.to_bytes()[..], &bytes);
        }
    }

    #[test]
    fn whatever_is_learnt_can_be(
        ended in proptest::collection::vec(1_u64..3_000_000, 0..900),
        censored in proptest::collection::vec(1_u64..3_000_000, 0..900),
        prior in proptest::option::of(1_u64..4_000_000_000),
    ) {
        let mut window = Survival::default();
        ended.into_iter().for_each(|value| window.record(Duration::from_micros(value)));
        censored.into_iter().for_each(|value| window.record_censored(Duration::from_micros(value)));
        let prior = prior.map(|prior| Baseline::guess(Duration::from_micros(prior), &Shape::default()));
        if let Some(learned) = Baseline::learn(&window, prior.as_ref(), &Shape::default()) {
            let checked = learned.baseline.check();
            prop_assert!(!matches!(checked, Err(Nonsense::Order { .. } | Nonsense::Range { .. })), "{:?}", checked);
        }
    }
}
