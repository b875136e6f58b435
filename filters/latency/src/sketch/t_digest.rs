//! Dunning's t-digest, by the crate `tdigest`, behind the same trait: to be compared, and for who must have one.
//!
//! It promises an error of rank and none of value, and what it says after merging depends on the order of merging
//! (`docs/adr/0019-latency-baselines.md`). So nothing here uses it.

use std::time::Duration;

use tdigest::{Centroid, TDigest as Digest};

use super::{DecodeError, QuantileSketch, micros};
use crate::codec::Reader;

/// The compression of the paper (Dunning & Ertl, arXiv 1902.04023): at most so many centroids.
const CENTROIDS: usize = 100;
/// A digest that is merged holds up to twice as many.
const MAX_CENTROIDS: usize = 2 * CENTROIDS;
const FORM: u8 = 2;

/// A t-digest of compression 100. Encoded, 16 bytes a centroid and 27 more, at most 3.2 KiB.
#[derive(Clone, Debug)]
pub struct TDigest {
    digest: Digest,
}

impl Default for TDigest {
    fn default() -> Self {
        Self {
            digest: Digest::new_with_size(CENTROIDS),
        }
    }
}

impl TDigest {
    fn flushed(&self) -> Digest {
        let mut digest = self.digest.clone();
        digest.flush();
        digest
    }
}

impl QuantileSketch for TDigest {
    fn record(&mut self, value: Duration, count: u32) {
        // The crate has no weights.
        for _ in 0..count {
            self.digest.push(micros(value) as f64);
        }
    }

    fn merge(&mut self, other: &Self) {
        self.digest = Digest::merge_digests(vec![self.flushed(), other.flushed()]);
    }

    fn quantile(&self, q: f64) -> Option<Duration> {
        let found = self.flushed().estimate_quantile(q.clamp(0.0, 1.0))?;
        Some(Duration::from_micros(found.max(0.0) as u64))
    }

    fn count(&self) -> u64 {
        self.flushed().count() as u64
    }

    fn encode(&self, into: &mut Vec<u8>) {
        let digest = self.flushed();
        into.push(FORM);
        into.extend((digest.centroids().len() as u16).to_le_bytes());
        for end in [digest.min(), digest.max(), Some(digest.sum())] {
            into.extend(end.unwrap_or_default().to_le_bytes());
        }
        for centroid in digest.centroids() {
            into.extend(centroid.mean().to_le_bytes());
            into.extend(centroid.weight().to_le_bytes());
        }
    }

    fn decode(bytes: &[u8]) -> Result<Self, DecodeError> {
        let mut reader = Reader::new(bytes);
        let form = reader.u8().ok_or(DecodeError::Truncated)?;
        if form != FORM {
            return Err(DecodeError::Form(form));
        }
        let length = usize::from(reader.u16().ok_or(DecodeError::Truncated)?);
        if length > MAX_CENTROIDS {
            return Err(DecodeError::Entry(MAX_CENTROIDS));
        }
        let mut number = |at| {
            let value = f64::from_bits(reader.u64().ok_or(DecodeError::Truncated)?);
            let is_possible = value.is_finite() && (0.0..=1e18).contains(&value);
            is_possible.then_some(value).ok_or(DecodeError::Entry(at))
        };
        let (min, max, sum) = (number(0)?, number(0)?, number(0)?);
        let (mut centroids, mut count, mut last) = (Vec::with_capacity(length), 0.0, min);
        for at in 0..length {
            let (mean, weight) = (number(at)?, number(at)?);
            if weight < 1.0 || mean < last || mean > max {
                return Err(DecodeError::Entry(at));
            }
            (count, last) = (count + weight, mean);
            centroids.push(Centroid::new(mean, weight));
        }
        match reader.rest().len() {
            0 if length == 0 => Ok(Self::default()),
            0 => Ok(Self {
                digest: Digest::new(centroids, sum, count, Some(max), Some(min), CENTROIDS),
            }),
            more => Err(DecodeError::Trailing(more)),
        }
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    fn digest(values: impl IntoIterator<Item = u64>) -> TDigest {
        let mut digest = TDigest::default();
        for value in values {
            digest.record(Duration::from_micros(value), 1);
        }
        digest
    }

    #[test]
    fn it_is_read_as_it_was_written() {
        let mut written = digest(1..=5000);
        written.merge(&digest(5000..=9000));
        let mut bytes = Vec::new();
        written.encode(&mut bytes);
        assert!(bytes.len() <= 27 + 16 * MAX_CENTROIDS);
        let read = TDigest::decode(&bytes).unwrap();
        assert_eq!(read.count(), 9001);
        assert_eq!(read.quantile(0.999), written.quantile(0.999));
        assert!(TDigest::decode(&bytes[..bytes.len() - 1]).is_err());
    }

    proptest! {
        #[test]
        fn any_bytes_are_read_or_refused(mut bytes: Vec<u8>, count in 0_u16..5) {
            let _ = TDigest::decode(&bytes);
            bytes.splice(0..0, [FORM, count as u8, 0]);
            if let Ok(mut read) = TDigest::decode(&bytes) {
                read.merge(&digest([7]));
                let _ = read.quantile(0.5);
            }
        }
    }
}
