//! What an authority is told when it begins.

use std::time::Duration;

/// The constants of an [`Authority`](crate::Authority).
#[derive(Clone, Debug)]
pub struct Settings {
    /// How long a lease may be used above the base share, counted from when its request was sent. Below the base share it
    /// binds twice as long, counted from when its answer was received.
    pub ttl: Duration,
    /// For how long an authority that begins only lowers: until every lease of an authority before it has ended, and a while
    /// longer, so that the proxies find it and say what they hold. No less than [`ttl`](Self::ttl), whatever is written here.
    /// Zero counts as zero: for the first authority that a mesh ever has.
    pub learning: Duration,
    /// How long after its last report a proxy no longer takes part in the division, and only its base share is held for it.
    pub silent_after: Duration,
    /// How long after its last report a proxy is forgotten, and its base share given to others, unless its node goes on under
    /// another process before.
    pub forget_after: Duration,
    /// Time constant of the average of demand.
    pub smoothing: Duration,
    /// When the next report is wanted.
    pub report_interval: Duration,
    /// The same, while a change waits to be acknowledged, or for room.
    pub hurried_interval: Duration,
    /// Keys that have leases at the same time; others stay at base shares.
    pub max_keys: usize,
    /// Proxies at the same time; others are refused.
    pub max_proxies: usize,
    /// Keys with leases times proxies, when a key is taken in: each of these takes some 100 bytes and is renewed every half
    /// ttl, which costs about 1 µs.
    pub max_holds: usize,
    /// Leases in one answer, unless more than that wait to be acknowledged.
    pub max_leases: usize,
    /// The number of the first answer. Numbers of two authorities of a mesh must not meet, or an acknowledgement of one could
    /// be taken for the other's: microseconds since 1970 serve, since no authority answers a million times a second.
    pub first_sequence: u64,
}

impl Default for Settings {
    fn default() -> Self {
        let ttl = Duration::from_secs(5);
        Self {
            ttl,
            learning: ttl + Duration::from_secs(1),
            silent_after: ttl / 2,
            forget_after: Duration::from_secs(600),
            smoothing: Duration::from_secs(1),
            report_interval: Duration::from_millis(500),
            hurried_interval: Duration::from_millis(100),
            max_keys: 10_000,
            max_proxies: 4096,
            max_holds: 1_000_000,
            max_leases: 4096,
            first_sequence: 1,
        }
    }
}

impl Settings {
    pub(crate) fn learns_for(&self) -> Duration {
        if self.learning.is_zero() {
            Duration::ZERO
        } else {
            self.learning.max(self.ttl)
        }
    }
}
