//! What requests of a version turned out to need: learnt by each thread from the answers that it has passed on.

/// Buckets of a quarter of an octave each, from 1 on: values up to 2^32 are told apart by a fifth.
const BUCKETS: usize = 128;
/// With so many samples, the older half of the weight is forgotten.
const FORGET_AT: u32 = 2048;
/// Before there are so many, nothing is said.
const ENOUGH: u32 = 20;

/// Values of which quantiles can be had, the recent ones counting more.
#[derive(Clone, Debug)]
pub struct Learned {
    counts: [u32; BUCKETS],
    total: u32,
}

impl Default for Learned {
    fn default() -> Self {
        Self {
            counts: [0; BUCKETS],
            total: 0,
        }
    }
}

impl Learned {
    /// Takes a value in.
    pub fn note(&mut self, value: u64) {
        if let Some(count) = self.counts.get_mut(bucket(value)) {
            *count += 1;
            self.total += 1;
        }
        if self.total >= FORGET_AT {
            self.counts = self.counts.map(|count| count / 2);
            self.total = self.counts.iter().sum();
        }
    }

    /// The mean of the values, up to a fifth above, in which those beyond the 95th percentile count as that: one worker that
    /// reports nonsense must not be believed by all. Nothing while there are too few.
    pub fn mean(&self) -> Option<u64> {
        let most = self.quantile(95)?;
        let values = self.counts.iter().enumerate();
        let sum: u128 = values
            .map(|(bucket, count)| u128::from(upper(bucket).min(most)) * u128::from(*count))
            .sum();
        u64::try_from(sum.div_ceil(self.total.max(1).into())).ok()
    }

    /// What so many percent of the values did not exceed, up to a fifth above; nothing while there are too few.
    pub fn quantile(&self, percent: u32) -> Option<u64> {
        if self.total < ENOUGH {
            return None;
        }
        let wanted = (u64::from(self.total) * u64::from(percent)).div_ceil(100);
        let mut seen = 0;
        let at = self.counts.iter().position(|count| {
            seen += u64::from(*count);
            seen >= wanted
        })?;
        Some(upper(at))
    }
}

fn bucket(value: u64) -> usize {
    if value < 2 {
        return 0;
    }
    let octave = value.ilog2();
    let within = ((u128::from(value) << 2) >> octave) as usize & 3;
    (octave as usize * 4 + within).min(BUCKETS - 1)
}

/// The largest value of a bucket.
fn upper(bucket: usize) -> u64 {
    let (octave, within) = (bucket / 4, bucket as u128 % 4);
    let next = ((4 + within + 1) << octave) >> 2;
    u64::try_from(next.saturating_sub(1).max(1)).unwrap_or(u64::MAX)
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    #[test]
    fn the_95th_percentile_of_a_thousand_values_is_known_to_a_fifth() {
        let mut learned = Learned::default();
        assert_eq!(learned.quantile(95), None);
        (1..=1000).for_each(|value| learned.note(value));
        let found = learned.quantile(95).unwrap();
        assert!((950..=1191).contains(&found), "{found}");
    }

    #[test]
    fn what_has_changed_is_learnt_anew() {
        let mut learned = Learned::default();
        (0..4000).for_each(|_| learned.note(10));
        assert_eq!(learned.mean(), learned.quantile(50));
        (0..40_000).for_each(|_| learned.note(1000));
        assert!(learned.quantile(5).unwrap() >= 1000);
        assert_eq!(learned.mean(), learned.quantile(50));
    }

    #[test]
    fn one_lie_moves_neither_the_mean_nor_the_quantile() {
        let mut learned = Learned::default();
        (0..25).for_each(|_| learned.note(10));
        let honest = (learned.mean(), learned.quantile(95));
        learned.note(u64::MAX);
        assert_eq!((learned.mean(), learned.quantile(95)), honest);
    }

    #[test]
    fn the_mean_is_known_to_a_fifth() {
        let mut learned = Learned::default();
        (1..=1000).for_each(|value| learned.note(value));
        let found = learned.mean().unwrap();
        assert!((495..=620).contains(&found), "{found}");
    }

    proptest! {
        #[test]
        fn a_bucket_ends_at_most_a_quarter_above_its_values(value in 1_u64..1 << 31) {
            let end = upper(bucket(value));
            prop_assert!(end >= value && end <= value + value / 4 + 1, "{} in a bucket up to {}", value, end);
        }

        #[test]
        fn no_value_is_too_large(value: u64) {
            Learned::default().note(value);
        }
    }
}
