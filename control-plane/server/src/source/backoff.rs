//! Waiting longer after each failure, each time by another amount, so that a recovering etcd is not met by everyone at
//! once.

use std::time::Duration;

/// Exponential backoff with jitter. Pure: randomness is given.
#[derive(Debug)]
pub struct Backoff {
    next: Duration,
}

/// First pause.
const FIRST: Duration = Duration::from_millis(100);
/// Longest pause.
const LONGEST: Duration = Duration::from_secs(3);

impl Backoff {
    /// As after a success.
    pub const fn new() -> Self {
        Self { next: FIRST }
    }

    /// The next pause: between half and all of a bound that doubles each time. `random` is in `[0,1)`.
    pub fn pause(&mut self, random: f64) -> Duration {
        let bound = self.next;
        self.next = (bound * 2).min(LONGEST);
        bound.mul_f64(0.5 + random.clamp(0.0, 1.0) / 2.0)
    }

    /// Starts over after a success.
    pub fn reset(&mut self) {
        *self = Self::new();
    }
}

impl Default for Backoff {
    fn default() -> Self {
        Self::new()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn pauses_double_up_to_the_longest_and_start_over_after_a_success() {
        let mut backoff = Backoff::new();
        let pauses: Vec<u128> = (0..7).map(|_| backoff.pause(1.0).as_millis()).collect();
        assert_eq!(pauses, [100, 200, 400, 800, 1600, 3000, 3000]);
        backoff.reset();
        assert_eq!(backoff.pause(0.0), FIRST / 2);
    }
}
