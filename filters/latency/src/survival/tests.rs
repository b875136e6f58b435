use proptest::prelude::*;

use super::*;

const fn ms(value: u64) -> Duration {
    Duration::from_millis(value)
}

fn near(found: Option<Quantile>, wanted: Duration) {
    let Some(Quantile::Within(found)) = found else {
        panic!("{found:?} is no quantile");
    };
    let off = found.as_secs_f64() / wanted.as_secs_f64() - 1.0;
    assert!(off.abs() <= 1.0 / 64.0, "{found:?} for {wanted:?}");
}

#[test]
fn those_cut_off_count_as_long_as_they_were_seen() {
    // The textbook's case: of ten, three are cut off early, so that five of the seven others are not half of all.
    let mut survival = Survival::default();
    (0..3).for_each(|_| survival.record_censored(ms(10)));
    for value in [20, 30, 40, 50, 60, 70, 80] {
        survival.record(ms(value));
    }
    near(survival.quantile(0.5), ms(50));
    assert_eq!(survival.count(), 10);
}

#[test]
fn what_lies_beyond_the_timeout_is_said_to() {
    let mut survival = Survival::default();
    (0..970).for_each(|_| survival.record(ms(50)));
    (0..30).for_each(|_| survival.record_censored(ms(200)));
    near(survival.quantile(0.97), ms(50));
    let Some(Quantile::Beyond(seen)) = survival.quantile(0.99) else {
        panic!("3 % were cut off")
    };
    assert!((seen.as_secs_f64() - 0.2).abs() < 0.2 / 64.0);
}

#[test]
fn a_few_that_were_left_to_run_stand_for_those_that_were_cut() {
    // One in fifty is left to run, so each of these stands for fifty beyond the cut.
    let mut survival = Survival::default();
    (0..9_000).for_each(|_| survival.record(ms(50)));
    (0..980).for_each(|_| survival.record_censored(ms(200)));
    (0..18).for_each(|_| survival.record(ms(400)));
    (0..2).for_each(|_| survival.record(ms(900)));
    near(survival.quantile(0.95), ms(400));
    near(survival.quantile(0.999), ms(900));
}

#[test]
fn nothing_has_no_quantile() {
    assert_eq!(Survival::default().quantile(0.5), None);
    assert!(Survival::default().is_empty());
}

proptest! {
    #[test]
    fn without_any_cut_off_it_is_the_quantile_of_the_histogram(
        values in proptest::collection::vec(1_u64..10_000_000, 1..200),
        q in 0.0_f64..1.0,
    ) {
        let (mut survival, mut histogram) = (Survival::default(), LogLinear::default());
        for value in values {
            survival.record(Duration::from_micros(value));
            histogram.record(Duration::from_micros(value), 1);
        }
        let Some(Quantile::Within(found)) = survival.quantile(q) else {
            panic!("nothing was cut off")
        };
        prop_assert_eq!(Some(found), histogram.quantile(q));
    }

    #[test]
    fn cutting_off_never_makes_the_estimate_shorter_than_leaving_out(
        values in proptest::collection::vec(1_u64..10_000_000, 1..200),
        cut in 1_u64..10_000_000,
    ) {
        let (mut with, mut without) = (Survival::default(), Survival::default());
        for value in values {
            let value = Duration::from_micros(value);
            if value > Duration::from_micros(cut) {
                with.record_censored(Duration::from_micros(cut));
            } else {
                with.record(value);
                without.record(value);
            }
        }
        if let (Some(with), Some(without)) = (with.quantile(0.9), without.quantile(0.9)) {
            prop_assert!(with.at_least() >= without.at_least());
        }
    }

    #[test]
    fn any_bytes_are_read_or_refused(bytes: Vec<u8>) {
        if let Ok(survival) = Survival::decode(&bytes) {
            let mut again = Vec::new();
            survival.encode(&mut again);
            prop_assert_eq!(again, bytes);
        }
    }
}
