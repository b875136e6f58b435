//! Simulated time.

use std::ops::Sub;
use std::time::Duration;

/// A moment of a simulation: nanoseconds since it began.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct Moment(u64);

impl Moment {
    /// The moment so long after the beginning.
    pub fn at(after_start: Duration) -> Self {
        Self(u64::try_from(after_start.as_nanos()).unwrap_or(u64::MAX))
    }

    /// The moment so many seconds after the beginning, rounded up to a nanosecond: what was to be finished is finished.
    pub fn at_secs(seconds: f64) -> Self {
        // The cast saturates.
        Self((seconds * 1e9).ceil().max(0.0) as u64)
    }

    /// This much later.
    pub fn after(self, duration: Duration) -> Self {
        Self(self.0.saturating_add(Self::at(duration).0))
    }

    /// So many seconds later, rounded up to a nanosecond.
    pub fn after_secs(self, seconds: f64) -> Self {
        Self(self.0.saturating_add(Self::at_secs(seconds).0))
    }

    /// Seconds since the beginning.
    pub fn as_secs(self) -> f64 {
        self.0 as f64 / 1e9
    }

    /// Time since the beginning.
    pub fn since_start(self) -> Duration {
        Duration::from_nanos(self.0)
    }

    /// How many whole steps of this length have passed since the beginning.
    pub fn steps(self, length: Duration) -> u64 {
        self.0 / Self::at(length).0.max(1)
    }
}

impl Sub for Moment {
    type Output = f64;

    /// Seconds from `earlier` to this; 0 if it is not earlier.
    fn sub(self, earlier: Self) -> f64 {
        Self(self.0.saturating_sub(earlier.0)).as_secs()
    }
}
