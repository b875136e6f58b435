//! Where the mesh comes from: etcd, listed and watched ([`etcd`]), or a folder of documents ([`folder`]). Both end in one
//! [`intake`]: mirrored ([`mirror`]), judged ([`ledger`]), and held where many workers vanish at once ([`hold`]).
//!
//! Owns: keeping up with a source through outages, compaction and lost events, and the last good state meanwhile. Must not
//! know: Envoy.

pub mod backoff;
pub mod etcd;
pub mod folder;
pub mod hold;
pub mod intake;
pub mod ledger;
pub mod mirror;

use crate::model::Mesh;
use crate::status::Book;
use prometheus_client::metrics::counter::Counter;
use prometheus_client::metrics::family::Family;
use prometheus_client::metrics::gauge::Gauge;
use std::sync::Arc;
use tokio::sync::watch;

/// What a source gives out; the newest value wins.
#[derive(Clone, Debug)]
pub struct Feeds {
    /// The mesh; `None` until there is one.
    pub mesh: watch::Receiver<Option<Arc<Mesh>>>,
    /// Verdicts as they should stand beside the policies, and as they do.
    pub book: watch::Receiver<Book>,
}

/// Gauges and counters by one word.
type ByWord<M> = Family<[(&'static str, &'static str); 1], M>;

/// How the source is doing; clones share the values.
#[derive(Clone, Debug, Default)]
pub struct Health {
    /// 1 while the source answers: etcd, or the folder.
    pub connected: Gauge,
    /// Newest revision taken in.
    pub revision: Gauge,
    /// Full listings, by what made them necessary.
    pub relists: ByWord<Counter>,
    /// 1 for what the mesh that is served rests on: `etcd`, `folder` or `disk`.
    pub state_source: ByWord<Gauge>,
    /// Workers that are held.
    pub held_workers: Gauge,
    /// Holds that ended, by the reason.
    pub holds_ended: ByWord<Counter>,
    /// Last good states written to disk.
    pub saves: Counter,
    /// Attempts at that which failed.
    pub save_failures: Counter,
    /// 1 while this process is the elected one.
    pub leader: Gauge,
    /// Verdicts that could not be written; each is tried again.
    pub status_write_failures: Counter,
}

impl Health {
    /// Whether the source answers now.
    pub fn is_connected(&self) -> bool {
        self.connected.get() == 1
    }

    /// Says what the mesh that is served rests on.
    pub fn serve_from(&self, source: &'static str) {
        for word in ["etcd", "folder", "disk"] {
            let gauge = self.state_source.get_or_create(&[("source", word)]);
            gauge.set(i64::from(word == source));
        }
    }
}
