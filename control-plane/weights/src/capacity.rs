//! Capacity as it is measured: tokens per second in which the engine computes.

use crate::params::MeasuredCapacity;
use std::time::Duration;

/// A difference below this fraction is none: what is averaged for ever would otherwise never be the same on two replicas.
pub(crate) const SNAP: f64 = 0.005;

/// What one report tells.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Sample {
    pub(crate) tokens_per_second: f64,
    pub(crate) busy: f64,
    /// The time of which it tells.
    pub(crate) over: Duration,
}

/// The measurement of one endpoint.
#[derive(Clone, Debug, Default, PartialEq)]
pub(crate) struct Measured {
    /// Tokens per busy second.
    rate: f64,
    /// For how long it has been measured.
    seconds: f64,
    /// When last.
    at: Duration,
}

impl Measured {
    /// Takes in a sample of now that tells of `sample.over`.
    pub(crate) fn observe(&mut self, sample: &Sample, now: Duration, how: &MeasuredCapacity) {
        let Sample {
            tokens_per_second,
            busy,
            over,
        } = *sample;
        let is_telling = busy >= how.busy && busy <= 1.0 && tokens_per_second > 0.0 && tokens_per_second.is_finite();
        let seconds = over.as_secs_f64();
        if !is_telling || seconds <= 0.0 {
            return;
        }
        let told = tokens_per_second / busy;
        if self.is_old(now, how) {
            *self = Self::default();
        }
        self.at = now;
        let plain = seconds / (self.seconds + seconds);
        let share = plain.max(1.0 - (-seconds / how.average.as_secs_f64()).exp());
        self.rate += share * (told - self.rate);
        if (told - self.rate).abs() <= SNAP * told {
            self.rate = told;
        }
        self.seconds += seconds;
    }

    /// Tokens per busy second, once there is enough of it.
    pub(crate) fn rate(&self, now: Duration, how: &MeasuredCapacity) -> Option<f64> {
        let counts = self.seconds >= how.least.as_secs_f64() && self.rate > 0.0 && !self.is_old(now, how);
        counts.then_some(self.rate)
    }

    /// What has not been measured for so long may no longer be so.
    fn is_old(&self, now: Duration, how: &MeasuredCapacity) -> bool {
        now.saturating_sub(self.at) > how.average * 2
    }
}

/// What brings tokens per second of a pool to the scale of the priors: the median of `prior / rate`, which a minority of
/// liars does not move. `None` for nothing measured.
pub(crate) fn scale(mut ratios: Vec<f64>) -> Option<f64> {
    let middle = ratios.len().checked_sub(1)? / 2;
    let (_, median, _) = ratios.select_nth_unstable_by(middle, f64::total_cmp);
    Some(*median)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn sample(tokens_per_second: f64, busy: f64) -> Sample {
        Sample {
            tokens_per_second,
            busy,
            over: Duration::from_secs(5),
        }
    }

    #[test]
    fn a_rate_counts_once_there_is_a_minute_of_it() {
        let how = MeasuredCapacity::default();
        let mut measured = Measured::default();
        let mut now = Duration::ZERO;
        for _ in 0..11 {
            now += Duration::from_secs(5);
            measured.observe(&sample(500.0, 0.5), now, &how);
            assert_eq!(measured.rate(now, &how), None);
        }
        measured.observe(&sample(500.0, 0.5), now, &how);
        assert_eq!(measured.rate(now, &how), Some(1000.0));
        assert_eq!(measured.rate(now + how.average * 3, &how), None, "it has grown old");
    }

    #[test]
    fn an_idle_engine_tells_nothing_of_its_capacity_and_nonsense_neither() {
        let how = MeasuredCapacity::default();
        let mut measured = Measured::default();
        for (tokens, busy) in [
            (1e3, 0.1),
            (0.0, 1.0),
            (f64::NAN, 0.5),
            (1e3, 7.0),
            (f64::INFINITY, 0.5),
        ] {
            measured.observe(&sample(tokens, busy), Duration::ZERO, &how);
        }
        assert_eq!(measured, Measured::default());
    }

    #[test]
    fn a_liar_does_not_move_the_scale_of_the_others() {
        assert_eq!(scale(vec![2.0, 1e-6, 2.0]), Some(2.0));
        assert_eq!(scale(Vec::new()), None);
    }
}
