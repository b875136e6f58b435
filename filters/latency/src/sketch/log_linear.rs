//! A histogram whose buckets are a constant part of their value wide: 32 to the octave.
//!
//! The family of HdrHistogram, with the guarantee of DDSketch (Masson et al., VLDB 2019): a quantile is off by at most 1/64 of
//! its value from that of the samples themselves. Merging adds vectors, so it is exact, commutative and associative.

use std::fmt;
use std::time::Duration;

use super::{DecodeError, QuantileSketch};
use crate::codec::{Reader, put_varint};

/// Buckets to an octave, and values below it that have a bucket each.
const PER_OCTAVE: u32 = 32;
const OCTAVE_BITS: u32 = PER_OCTAVE.ilog2();
/// Octaves 5 to 31 in 32 buckets each, and 32 single values below.
pub const BUCKETS: usize = 28 * PER_OCTAVE as usize;
/// Longer durations count as this one: 2^32 − 1 µs, an hour and twelve minutes.
pub const MAX_VALUE: Duration = Duration::from_micros(u32::MAX as u64);
/// First byte of the encoding.
const FORM: u8 = 1;

/// The histogram. Values are whole microseconds, counts saturate at `u32::MAX` a bucket.
///
/// 3.5 KiB in memory; encoded, 2 to 4 bytes for each bucket that has counts, [at most](LogLinear::MAX_BYTES) 5.3 KiB.
#[derive(Clone, PartialEq, Eq)]
pub struct LogLinear {
    counts: Box<[u32; BUCKETS]>,
}

impl Default for LogLinear {
    fn default() -> Self {
        Self {
            counts: Box::new([0; BUCKETS]),
        }
    }
}

impl fmt::Debug for LogLinear {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        formatter.debug_map().entries(self.filled()).finish()
    }
}

impl LogLinear {
    /// The most bytes of an encoding: form, number of entries, and for each a step of one byte and a count of five. Longer
    /// steps leave room for fewer entries.
    pub const MAX_BYTES: usize = 3 + BUCKETS * 6;

    /// Forgets everything.
    pub fn clear(&mut self) {
        self.counts.fill(0);
    }

    /// Forgets half of each count. Halves are rounded up in every other bucket, else a tail of ones would be gone.
    pub(crate) fn halve(&mut self) {
        for (bucket, count) in self.counts.iter_mut().enumerate() {
            *count = *count / 2 + (*count % 2) * (bucket % 2) as u32;
        }
    }

    /// Whether nothing was counted.
    pub fn is_empty(&self) -> bool {
        self.counts.iter().all(|count| *count == 0)
    }

    /// The counts of all buckets, the shortest durations first.
    pub(crate) fn counts(&self) -> &[u32; BUCKETS] {
        &self.counts
    }

    fn filled(&self) -> impl Iterator<Item = (usize, u32)> {
        let counts = self.counts.iter().copied().enumerate();
        counts.filter(|(_, count)| *count > 0)
    }

    /// Takes an encoding off the front.
    pub(crate) fn read(reader: &mut Reader<'_>) -> Result<Self, DecodeError> {
        let form = reader.u8().ok_or(DecodeError::Truncated)?;
        if form != FORM {
            return Err(DecodeError::Form(form));
        }
        let entries = reader.varint().ok_or(DecodeError::Truncated)?;
        let mut sketch = Self::default();
        let mut next = 0_u64;
        for entry in 0..entries {
            let place = entry as usize;
            let step = reader.varint().ok_or(DecodeError::Truncated)?;
            let count = reader.varint().ok_or(DecodeError::Truncated)?;
            let bucket = next.saturating_add(step);
            let cell = usize::try_from(bucket).ok().and_then(|at| sketch.counts.get_mut(at));
            let cell = cell.ok_or(DecodeError::Entry(place))?;
            let count = u32::try_from(count).ok().filter(|count| *count > 0);
            *cell = count.ok_or(DecodeError::Entry(place))?;
            next = bucket + 1;
        }
        Ok(sketch)
    }
}

impl QuantileSketch for LogLinear {
    fn record(&mut self, value: Duration, count: u32) {
        if let Some(cell) = self.counts.get_mut(bucket(value)) {
            *cell = cell.saturating_add(count);
        }
    }

    fn merge(&mut self, other: &Self) {
        for (own, added) in self.counts.iter_mut().zip(other.counts.iter()) {
            *own = own.saturating_add(*added);
        }
    }

    fn quantile(&self, q: f64) -> Option<Duration> {
        let total = self.count();
        let rank = ((total as f64 * q.clamp(0.0, 1.0)).ceil() as u64).clamp(1, total.max(1));
        let mut seen = 0_u64;
        let found = self.counts.iter().position(|count| {
            seen += u64::from(*count);
            seen >= rank
        });
        found.map(middle)
    }

    fn count(&self) -> u64 {
        self.counts.iter().map(|count| u64::from(*count)).sum()
    }

    fn encode(&self, into: &mut Vec<u8>) {
        into.push(FORM);
        put_varint(into, self.filled().count() as u64);
        let mut next = 0;
        for (bucket, count) in self.filled() {
            put_varint(into, (bucket - next) as u64);
            put_varint(into, u64::from(count));
            next = bucket + 1;
        }
    }

    fn decode(bytes: &[u8]) -> Result<Self, DecodeError> {
        let mut reader = Reader::new(bytes);
        let sketch = Self::read(&mut reader)?;
        match reader.rest().len() {
            0 => Ok(sketch),
            more => Err(DecodeError::Trailing(more)),
        }
    }
}

/// Whole microseconds, as many as there are.
pub(crate) fn micros(value: Duration) -> u64 {
    u64::try_from(value.as_micros()).unwrap_or(u64::MAX)
}

/// The bucket of a duration.
pub(crate) fn bucket(value: Duration) -> usize {
    let value = micros(value).min(u64::from(u32::MAX)) as u32;
    if value < PER_OCTAVE {
        return value as usize;
    }
    let shift = value.ilog2() - OCTAVE_BITS;
    (shift * PER_OCTAVE + (value >> shift)) as usize
}

/// Where a bucket begins, in microseconds; past the last one, where that ends.
pub(crate) fn begin(bucket: usize) -> u64 {
    let bucket = bucket as u64;
    let per_octave = u64::from(PER_OCTAVE);
    if bucket < per_octave {
        return bucket;
    }
    let shift = bucket / per_octave - 1;
    (per_octave + bucket % per_octave) << shift
}

/// The middle of a bucket, which no value in it is further from than 1/64 of itself.
pub(crate) fn middle(bucket: usize) -> Duration {
    // The last value in it is one below the next begin.
    Duration::from_micros((begin(bucket) + begin(bucket + 1) - 1) / 2)
}

#[cfg(test)]
mod tests;
