//! How much is to be expected of a request that has lasted so long: the cumulative hazard of a baseline.
//!
//! For durations of which the part S(t) lasts longer than t, the cumulative hazard is H(t) = −ln S(t). Over any span of time,
//! the number of requests that end is expected to be the sum over those in flight of H(age at the end) − H(age at the
//! beginning): so a request that hangs is counted while it hangs, and one that has not begun to be late is not.

use std::time::Duration;

use crate::baseline::Baseline;
use crate::sketch::{BUCKETS, begin, bucket, micros};
use crate::survival::Survival;

/// With fewer that ended, the hazard is that of a [`Baseline`]'s quantiles.
pub const ENOUGH: u64 = 400;
/// So many more count as at risk everywhere. Else a bucket that one request was ever left to run into says that two are
/// expected of each that comes there, and a timeout that is raised brings many.
const DOUBT: f64 = 20.0;

/// Cumulative hazard by age, in expected ends; 3.5 KiB.
#[derive(Clone, Debug)]
pub struct Hazard {
    /// Where each bucket of [`LogLinear`](crate::sketch::LogLinear) begins, and where the last one ends.
    cumulative: Vec<f32>,
}

impl Hazard {
    /// Of what was counted; nothing if that are fewer than [`ENOUGH`].
    ///
    /// The estimate is the life table's: those that end in a bucket are at risk for half of it. So over the very durations
    /// that it was made of, as many are expected as have ended; a little fewer in the far tail, where few were seen and what
    /// is expected of many must not hang on them.
    pub fn of(survival: &Survival) -> Option<Self> {
        if survival.count().saturating_sub(survival.censored()) < ENOUGH {
            return None;
        }
        let mut cumulative = vec![0.0; BUCKETS + 1];
        let (mut sum, mut filled) = (0.0_f64, 0);
        for risk in survival.risks() {
            if let Some(cells) = cumulative.get_mut(filled..=risk.bucket) {
                cells.fill(sum as f32);
            }
            let ended = risk.ended as f64;
            sum += ended / (risk.at_risk as f64 - ended / 2.0 + DOUBT);
            filled = risk.bucket + 1;
        }
        if let Some(cells) = cumulative.get_mut(filled..) {
            cells.fill(sum as f32);
        }
        Some(Self { cumulative })
    }

    /// Of a baseline's quantiles, straight between them. Less true to the tail than [`of`](Self::of), and good enough to
    /// tell that nothing comes.
    pub fn of_baseline(baseline: &Baseline) -> Self {
        let knots = [
            (baseline.p50 / 4, 0.0),
            (baseline.p50, 2.0_f64.ln()),
            (baseline.p95, 20.0_f64.ln()),
            (baseline.p99, 100.0_f64.ln()),
            (baseline.p999, 1000.0_f64.ln()),
        ];
        let at = |age: f64| {
            let mut last = (0.0, 0.0);
            for (knot, hazard) in knots {
                let knot = micros(knot) as f64;
                if age < knot {
                    return last.1 + (hazard - last.1) * (age - last.0) / (knot - last.0);
                }
                last = (knot, hazard);
            }
            last.1
        };
        let cumulative = (0..=BUCKETS).map(|bucket| at(begin(bucket) as f64) as f32).collect();
        Self { cumulative }
    }

    /// The cumulative hazard at an age.
    pub fn at(&self, age: Duration) -> f64 {
        let at = bucket(age);
        let (from, to) = (begin(at) as f64, begin(at + 1) as f64);
        let part = ((micros(age) as f64 - from) / (to - from)).min(1.0);
        let hazard = |at: usize| self.cumulative.get(at).map_or(0.0, |hazard| f64::from(*hazard));
        hazard(at) + (hazard(at + 1) - hazard(at)) * part
    }
}

/// A request in flight, and up to which age it has been accounted for.
#[derive(Clone, Copy, Debug)]
pub struct InFlight {
    began: Duration,
    counted: Duration,
}

impl InFlight {
    /// One that begins now.
    pub fn begin(now: Duration) -> Self {
        Self {
            began: now,
            counted: now,
        }
    }

    /// When it began.
    pub fn began(&self) -> Duration {
        self.began
    }

    /// How many ends were to be expected of it since it was last asked. A tick that comes late or never loses nothing, and
    /// neither does a hazard that was learnt anew in between.
    pub fn advance(&mut self, hazard: &Hazard, now: Duration) -> f64 {
        let from = self.counted.saturating_sub(self.began);
        self.counted = self.counted.max(now);
        (hazard.at(self.counted.saturating_sub(self.began)) - hazard.at(from)).max(0.0)
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    fn lognormal(seed: u64, count: usize) -> Vec<Duration> {
        let mut draw = fastrand::Rng::with_seed(seed);
        let normal = |draw: &mut fastrand::Rng| (0..12).map(|_| draw.f64()).sum::<f64>() - 6.0;
        (0..count)
            .map(|_| Duration::from_secs_f64(0.08 * (0.6 * normal(&mut draw)).exp()))
            .collect()
    }

    fn learnt(durations: &[Duration]) -> Hazard {
        let mut survival = Survival::default();
        durations.iter().for_each(|duration| survival.record(*duration));
        Hazard::of(&survival).unwrap()
    }

    #[test]
    fn as_many_are_expected_as_end() {
        let hazard = learnt(&lognormal(1, 20_000));
        let others = lognormal(2, 20_000);
        let expected: f64 = others.iter().map(|duration| hazard.at(*duration)).sum();
        assert!(
            (expected / 20_000.0 - 1.0).abs() < 0.02,
            "{expected} expected of 20,000"
        );
    }

    #[test]
    fn the_far_tail_that_few_were_left_to_run_into_expects_little_of_many() {
        let mut survival = Survival::default();
        (0..5000).for_each(|_| survival.record(Duration::from_millis(50)));
        (0..100).for_each(|_| survival.record_censored(Duration::from_millis(200)));
        survival.record(Duration::from_millis(400));
        let hazard = Hazard::of(&survival).unwrap();
        let beyond = hazard.at(Duration::from_secs(1)) - hazard.at(Duration::from_millis(300));
        assert!(beyond > 0.0 && beyond < 0.1, "{beyond} expected of each");
    }

    #[test]
    fn too_few_have_no_hazard() {
        let mut survival = Survival::default();
        lognormal(1, 399).iter().for_each(|duration| survival.record(*duration));
        assert!(Hazard::of(&survival).is_none());
    }

    #[test]
    fn of_a_baseline_as_many_last_longer_than_its_quantiles_as_they_say() {
        let ms = Duration::from_millis;
        let hazard = Hazard::of_baseline(&Baseline {
            p50: ms(80),
            p95: ms(210),
            p99: ms(320),
            p999: ms(510),
            samples: 0,
        });
        for (age, lasting) in [(80, 0.5), (210, 0.05), (320, 0.01), (510, 0.001)] {
            let found = (-hazard.at(ms(age))).exp();
            assert!((found / lasting - 1.0).abs() < 0.1, "{found} of {lasting}");
        }
    }

    proptest! {
        #[test]
        fn it_does_not_matter_in_how_many_ticks_a_request_is_counted(
            mut ticks in proptest::collection::vec(0_u64..5_000_000, 0..20),
        ) {
            let hazard = learnt(&lognormal(3, 1000));
            let began = Duration::from_secs(9);
            let mut request = InFlight::begin(began);
            // Some of them back in time.
            let sum: f64 = ticks.iter().map(|tick| request.advance(&hazard, began + Duration::from_micros(*tick))).sum();
            ticks.push(0);
            let age = Duration::from_micros(ticks.into_iter().max().unwrap());
            prop_assert!((sum - hazard.at(age)).abs() < 1e-4);
        }

        #[test]
        fn the_longer_the_more_is_expected(one in 0_u64..10_000_000, more in 0_u64..10_000_000) {
            let hazard = learnt(&lognormal(4, 1000));
            let (one, both) = (Duration::from_micros(one), Duration::from_micros(one + more));
            prop_assert!(hazard.at(both) >= hazard.at(one));
        }
    }
}
