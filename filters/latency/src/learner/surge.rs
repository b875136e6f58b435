//! Whether far more requests run into their timeout than ought to: a sequential test, so that a lasting change is told within
//! some hundred requests and chance is not.

use std::time::Duration;

use crate::codec::Reader;
use crate::sketch::micros;

/// Part of the requests that may run into the timeout.
const USUAL: f64 = 0.002;
/// Part of them that is tested for.
const UNUSUAL: f64 = 0.02;
/// Log-likelihood ratio at which it is told.
const THRESHOLD: f32 = 6.0;
/// No two raises come sooner after each other: what the first one did has to show.
const PAUSE: Duration = Duration::from_secs(10);

/// What has happened since the last tally.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Tally {
    /// Requests that ended by themselves.
    pub ended: u32,
    /// Requests that ran into the timeout.
    pub timed_out: u32,
}

/// The test's state: 20 bytes.
#[derive(Clone, Copy, Debug, Default, PartialEq)]
pub struct Surge {
    score: f32,
    ended: u32,
    timed_out: u32,
    /// No raise before.
    rests_until: Duration,
}

impl Surge {
    pub(super) const BYTES: usize = 20;

    /// Whether the timeout is to be raised. Not where fewer end than run into it: then nothing has become slower, something
    /// has failed, and a longer timeout would only make it last.
    pub(super) fn take(&mut self, tally: Tally, now: Duration) -> bool {
        // After a step of the clock back, a rest that is longer than any is over.
        if self.rests_until > now.saturating_add(PAUSE) {
            self.rests_until = now;
        }
        let (ended, timed_out) = (f64::from(tally.ended), f64::from(tally.timed_out));
        let gain = timed_out * (UNUSUAL / USUAL).ln() - (ended + timed_out) * (UNUSUAL - USUAL);
        self.score = (f64::from(self.score) + gain).clamp(0.0, 2.0 * f64::from(THRESHOLD)) as f32;
        if self.score == 0.0 {
            (self.ended, self.timed_out) = (0, 0);
            return false;
        }
        self.ended = self.ended.saturating_add(tally.ended);
        self.timed_out = self.timed_out.saturating_add(tally.timed_out);
        if self.score < THRESHOLD || self.timed_out > self.ended || now < self.rests_until {
            return false;
        }
        *self = Self {
            rests_until: now.saturating_add(PAUSE),
            ..Self::default()
        };
        true
    }

    pub(super) fn put(&self, into: &mut Vec<u8>) {
        into.extend(self.score.to_le_bytes());
        into.extend(self.ended.to_le_bytes());
        into.extend(self.timed_out.to_le_bytes());
        into.extend(micros(self.rests_until).to_le_bytes());
    }

    pub(super) fn read(reader: &mut Reader<'_>) -> Option<Self> {
        Some(Self {
            score: reader.positive_f32()?,
            ended: reader.u32()?,
            timed_out: reader.u32()?,
            rests_until: Duration::from_micros(reader.u64()?),
        })
    }
}
