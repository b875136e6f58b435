//! What the authority shows of itself.

use crate::Share;
use std::sync::Arc;
use std::time::Duration;

/// One proxy.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Standing {
    /// Its name.
    pub proxy: Arc<str>,
    /// The base share that it was told last.
    pub base: Share,
    /// The base share that it may be using.
    pub base_bound: Share,
    /// Keys with a lease that is in force or on its way.
    pub leases: usize,
    /// Leases that wait to be acknowledged.
    pub pending: usize,
    /// When its first report came, since the caller's origin.
    pub since: Duration,
    /// When its last report came.
    pub seen: Duration,
    /// It has not reported for a while: its base share is held for it, no more.
    pub is_silent: bool,
}

/// One key with leases.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct ManagedKey {
    /// As in the demands.
    pub key: Arc<str>,
    /// By proxy, the share that was given last, or what it falls back to; for display.
    pub shares: Vec<(Arc<str>, Share)>,
    /// The parts per million that all proxies together may be using.
    pub used_parts: u64,
    /// What all proxies ask for, smoothed, in parts per million.
    pub demand_parts: u64,
}

/// What has happened since the authority began.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Counters {
    /// Reports that were answered.
    pub answered: u64,
    /// Reports that were refused.
    pub refused: u64,
    /// Demands that were passed over, because their key is too long or the report has too many.
    pub demands_refused: u64,
    /// Demands that would have needed a lease, and stayed at the base share because there were too many keys.
    pub beyond_keys: u64,
    /// Proxies that were silent for so long that their base share went to others.
    pub forgotten: u64,
    /// Silent proxies that were forgotten because their node goes on under another process.
    pub succeeded: u64,
    /// Base shares claimed by proxies that were known to have less: of reports that came late, or of an authority elsewhere.
    pub surprises: u64,
    /// Leases given, repetitions included.
    pub leases: u64,
}
