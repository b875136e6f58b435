//! Durations of which some are known only to be longer than where they were cut off.
//!
//! A timeout censors what it is learnt from: of the requests that it cuts it tells no more than that they take longer. Left
//! out, or counted as if they had taken just so long, they make the timeout creep (ScyllaDB #7342). The estimate of Kaplan and
//! Meier (1958) counts each among those that might still have ended, up to where it was cut.

use std::time::Duration;

use crate::codec::Reader;
use crate::sketch::{self, DecodeError, LogLinear, QuantileSketch};

/// Rounding of products of factors below one.
const ROUNDING: f64 = 1e-12;

/// Ended and cut-off durations.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Survival {
    ended: LogLinear,
    censored: LogLinear,
}

/// A quantile of durations of which some were cut off.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Quantile {
    /// It is this one, to 1/64.
    Within(Duration),
    /// It is longer than the longest seen, which is this one: too many were cut off to say more.
    Beyond(Duration),
}

impl Quantile {
    /// The quantile, or what it is known to exceed.
    pub fn at_least(self) -> Duration {
        match self {
            Self::Within(value) | Self::Beyond(value) => value,
        }
    }
}

impl Survival {
    /// The most bytes of an encoding.
    pub const MAX_BYTES: usize = 2 * LogLinear::MAX_BYTES;

    /// Counts one that ended by itself.
    pub fn record(&mut self, value: Duration) {
        self.ended.record(value, 1);
    }

    /// Counts one that was cut off: a timeout, a cancellation, a hedge that lost, a reset by the client.
    pub fn record_censored(&mut self, value: Duration) {
        self.censored.record(value, 1);
    }

    /// Adds what another has counted.
    pub fn merge(&mut self, other: &Self) {
        self.ended.merge(&other.ended);
        self.censored.merge(&other.censored);
    }

    /// Forgets half the weight of everything.
    pub(crate) fn halve(&mut self) {
        self.ended.halve();
        self.censored.halve();
    }

    /// Forgets everything.
    pub fn clear(&mut self) {
        self.ended.clear();
        self.censored.clear();
    }

    /// All of them.
    pub fn count(&self) -> u64 {
        self.ended.count() + self.censored.count()
    }

    /// Those that were cut off.
    pub fn censored(&self) -> u64 {
        self.censored.count()
    }

    /// Whether nothing was counted.
    pub fn is_empty(&self) -> bool {
        self.ended.is_empty() && self.censored.is_empty()
    }

    /// For each bucket that something ended or was cut off in: the bucket, how many might have ended in it, and how many did.
    pub(crate) fn risks(&self) -> impl Iterator<Item = Risk> {
        let cells = self.ended.counts().iter().zip(self.censored.counts());
        let mut at_risk = self.count();
        cells.enumerate().filter_map(move |(bucket, (ended, censored))| {
            let risk = Risk {
                bucket,
                at_risk,
                ended: u64::from(*ended),
            };
            // Those cut off in the bucket count as having lasted it out: a timeout is one value, and those in its bucket
            // that ended did so before it.
            at_risk = at_risk.saturating_sub(u64::from(*ended) + u64::from(*censored));
            (*ended > 0 || *censored > 0).then_some(risk)
        })
    }

    /// The Kaplan–Meier estimate of what the part `q` of the durations do not exceed; nothing if there are none.
    pub fn quantile(&self, q: f64) -> Option<Quantile> {
        let wanted = 1.0 - q.clamp(0.0, 1.0);
        let (mut survives, mut last) = (1.0, None);
        for risk in self.risks() {
            survives *= 1.0 - risk.ended as f64 / risk.at_risk as f64;
            let value = sketch::middle(risk.bucket);
            if risk.ended > 0 && survives <= wanted + ROUNDING {
                return Some(Quantile::Within(value));
            }
            last = Some(Quantile::Beyond(value));
        }
        last
    }

    /// Appends it as bytes: the ended, then the cut-off ones, as [`LogLinear`] is encoded.
    pub fn encode(&self, into: &mut Vec<u8>) {
        self.ended.encode(into);
        self.censored.encode(into);
    }

    /// Reads what [`encode`](Self::encode) wrote, all of it.
    ///
    /// # Errors
    /// If the bytes are none of this.
    pub fn decode(bytes: &[u8]) -> Result<Self, DecodeError> {
        let mut reader = Reader::new(bytes);
        let ended = LogLinear::read(&mut reader)?;
        let censored = LogLinear::decode(reader.rest())?;
        Ok(Self { ended, censored })
    }
}

/// What may happen in a bucket, and what did.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Risk {
    pub(crate) bucket: usize,
    pub(crate) at_risk: u64,
    pub(crate) ended: u64,
}

#[cfg(test)]
mod tests;
