//! Where the mesh comes from: etcd, listed and watched ([`etcd`]), mirrored ([`mirror`]) and judged ([`ledger`]).
//!
//! Owns: keeping up with etcd through outages, compaction and lost events, and the last good state meanwhile. Must not
//! know: Envoy.

pub mod backoff;
pub mod etcd;
pub mod ledger;
pub mod mirror;

use prometheus_client::metrics::counter::Counter;
use prometheus_client::metrics::family::Family;
use prometheus_client::metrics::gauge::Gauge;

/// How the source is doing; clones share the values.
#[derive(Clone, Debug, Default)]
pub struct Health {
    /// 1 while etcd answers.
    pub connected: Gauge,
    /// Newest revision taken in.
    pub revision: Gauge,
    /// Full listings, by what made them necessary.
    pub relists: Family<[(&'static str, &'static str); 1], Counter>,
}

impl Health {
    /// Whether etcd answers now.
    pub fn is_connected(&self) -> bool {
        self.connected.get() == 1
    }
}
