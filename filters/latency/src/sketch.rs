//! Sketches: many durations in few bytes, of which quantiles can be had and which can be merged.
//!
//! [`LogLinear`] is what everything here uses. [`TDigest`] stands beside it to be compared (`docs/adr/0019-latency-baselines.md`
//! has the table, `cargo run -p kilocard-latency --example sketches --release` makes it).

use std::time::Duration;

mod log_linear;
mod t_digest;

pub use log_linear::{BUCKETS, LogLinear, MAX_VALUE};
pub(crate) use log_linear::{begin, bucket, micros, middle};
pub use t_digest::TDigest;

/// A summary of durations.
pub trait QuantileSketch: Default {
    /// Counts a duration so many times.
    fn record(&mut self, value: Duration, count: u32);

    /// Adds what another has counted.
    fn merge(&mut self, other: &Self);

    /// What the part `q` of the durations did not exceed; nothing of an empty sketch. `q` is taken into 0 … 1.
    fn quantile(&self, q: f64) -> Option<Duration>;

    /// How many durations were counted.
    fn count(&self) -> u64;

    /// Appends the sketch as bytes.
    fn encode(&self, into: &mut Vec<u8>);

    /// Reads what [`encode`](Self::encode) wrote, all of it. Safe on any bytes: memory and time are bounded by the sketch's
    /// own size.
    ///
    /// # Errors
    /// If the bytes are none of this sketch.
    fn decode(bytes: &[u8]) -> Result<Self, DecodeError>;
}

/// Why bytes are no sketch.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
pub enum DecodeError {
    /// They end too early.
    #[error("the bytes end in the middle of a sketch")]
    Truncated,
    /// There is more behind the end.
    #[error("{0} bytes follow the end of the sketch")]
    Trailing(usize),
    /// They are of another form, or of a later release.
    #[error("form {0} of sketches is unknown")]
    Form(u8),
    /// A bucket, count or centroid that cannot be.
    #[error("entry {0} is out of range")]
    Entry(usize),
}
