//! The design's own rule: something is slow whose P99.9 is more than twice what it was in the long run.
//!
//! Read as "twice the mean latency", it would hold of most healthy windows. Even so it is noisy and late. So it derates an
//! endpoint and never opens its breaker.

use std::time::Duration;

use crate::codec::Reader;
use crate::sketch::micros;
use crate::window::Epoch;

/// With fewer samples nothing is judged.
pub const ENOUGH: u64 = 2_000;
const FACTOR: u32 = 2;
/// What a new value weighs in the long run: half of it is forgotten in ten minutes of half-minute steps.
const WEIGHT: f64 = 0.034;
const FORM: u8 = 1;

/// The long-run P99.9 of an endpoint.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Slow {
    long_run: Duration,
    stepped: Epoch,
}

impl Slow {
    /// Bytes of an encoding.
    pub const BYTES: usize = 17;

    /// The P99.9 in the long run; zero before the first.
    pub fn long_run(&self) -> Duration {
        self.long_run
    }

    /// Judges the P99.9 of a window of so many samples, once an epoch. What is slow does not become the long run; where it
    /// is `shared` by the whole pool, it does, and nothing is slow. Nothing is answered where nothing can be judged.
    pub fn step(&mut self, p999: Duration, samples: u64, is_shared: bool, now: Duration) -> Option<bool> {
        let epoch = Epoch::at(now);
        if samples < ENOUGH || self.stepped == epoch {
            return None;
        }
        self.stepped = epoch;
        if self.long_run.is_zero() {
            self.long_run = p999;
        }
        let is_slow = p999 > self.long_run.saturating_mul(FACTOR) && !is_shared;
        if !is_slow {
            let kept = self.long_run.mul_f64(1.0 - WEIGHT);
            self.long_run = kept.saturating_add(p999.mul_f64(WEIGHT));
        }
        Some(is_slow)
    }

    /// For the store: form u8, the long run u64 in microseconds, the epoch u64.
    pub fn to_bytes(&self) -> Vec<u8> {
        let mut bytes = vec![FORM];
        bytes.extend(micros(self.long_run).to_le_bytes());
        bytes.extend(self.stepped.get().to_le_bytes());
        bytes
    }

    /// Of such bytes; of others, one that knows nothing.
    pub fn from_bytes(bytes: &[u8]) -> Self {
        let mut reader = Reader::new(bytes);
        let mut read = || {
            let is_known = reader.u8()? == FORM;
            let slow = Self {
                long_run: Duration::from_micros(reader.u64()?),
                stepped: Epoch::new(reader.u64()?),
            };
            (is_known && reader.is_empty()).then_some(slow)
        };
        read().unwrap_or_default()
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::window::SLOT;

    const fn ms(value: u64) -> Duration {
        Duration::from_millis(value)
    }

    #[test]
    fn more_than_twice_the_long_run_is_slow_and_does_not_become_usual() {
        let mut slow = Slow::default();
        assert_eq!(slow.step(ms(100), 5000, false, SLOT), Some(false));
        for epoch in 2..100 {
            assert_eq!(slow.step(ms(201), 5000, false, SLOT * epoch), Some(true));
        }
        assert_eq!(slow.long_run(), ms(100));
        assert_eq!(slow.step(ms(150), 5000, false, SLOT * 100), Some(false));
        assert_eq!(slow.step(ms(400), 1999, false, SLOT * 101), None, "too few samples");
        assert_eq!(
            slow.step(ms(400), 5000, true, SLOT * 101),
            Some(false),
            "the whole pool is"
        );
        assert!(slow.long_run() > ms(101));
        assert_eq!(slow.step(ms(900), 5000, false, SLOT * 101), None, "once an epoch");
    }

    #[test]
    fn it_is_read_as_it_was_written_and_foreign_bytes_are_nothing() {
        let mut slow = Slow::default();
        slow.step(ms(100), 5000, false, SLOT);
        assert_eq!(slow.to_bytes().len(), Slow::BYTES);
        assert_eq!(Slow::from_bytes(&slow.to_bytes()), slow);
        for foreign in [&b""[..], b"something", &[1; 18]] {
            assert_eq!(Slow::from_bytes(foreign), Slow::default());
        }
    }
}
