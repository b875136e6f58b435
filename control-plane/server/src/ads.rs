//! xDS over gRPC: protobuf and streams around the pure machines of `kilocard_xds`. The aggregated service, a service for each
//! type, and the status of the clients (CSDS).
//!
//! Owns: one task a stream, the registry of connected proxies. Must not know: where snapshots come from, what they mean.
//!
//! A slow client holds up nobody: a stream has room for one response, and its machine is asked for the next only when there
//! is room, so it always gets the newest state. Until a first snapshot is loaded nothing is sent: an empty mesh would make
//! proxies drop what they have.

pub mod authorise;
mod blame;
mod drain;
mod frames;
mod nodes;
mod pace;
mod progress;
mod services;
mod session;
mod status;
mod wire;

pub use drain::Drain;
pub use nodes::{AdsCounters, Nodes, TypeCounters};

use crate::snapshot::editions::Editions;
use authorise::{AllowAll, Authorise};
use pace::Pace;
use std::sync::{Arc, Mutex, PoisonError};
use std::time::Instant;
use tokio::sync::watch;
use tokio_util::sync::CancellationToken;
use tonic::service::Routes;

/// New streams that are let in at once after a quiet time, whatever the rate.
const AT_ONCE: u32 = 100;

/// The service. Cheap to clone; clones share the registry of proxies.
#[derive(Clone)]
pub struct Ads {
    snapshots: watch::Receiver<Option<Arc<Editions>>>,
    shutdown: CancellationToken,
    drain: Drain,
    authorise: Arc<dyn Authorise>,
    nodes: Nodes,
    pace: Arc<Mutex<Pace>>,
}

impl Ads {
    /// Serves whatever the channel holds, `None` for "nothing is loaded yet"; ends all streams when the token is cancelled,
    /// upon which proxies keep what they have and reconnect. Lets everyone in.
    pub fn new(snapshots: watch::Receiver<Option<Arc<Editions>>>, shutdown: CancellationToken) -> Self {
        Self {
            snapshots,
            shutdown,
            drain: Drain::default(),
            authorise: Arc::new(AllowAll),
            nodes: Nodes::default(),
            pace: Arc::new(Mutex::new(Pace::new(0, AT_ONCE))),
        }
    }

    /// Lets in whom this one lets in.
    #[must_use]
    pub fn authorised_by(mut self, authorise: Arc<dyn Authorise>) -> Self {
        self.authorise = authorise;
        self
    }

    /// Ends streams as this says.
    #[must_use]
    pub fn drained_by(mut self, drain: Drain) -> Self {
        self.drain = drain;
        self
    }

    /// The connected proxies.
    pub fn nodes(&self) -> Nodes {
        self.nodes.clone()
    }

    /// All services, for a tonic router.
    pub fn routes(&self) -> Routes {
        services::routes(self)
    }

    /// Lets in so many new streams a second, 0 for no limit; the others wait for their turn.
    #[must_use]
    pub fn paced(mut self, per_second: u32) -> Self {
        self.pace = Arc::new(Mutex::new(Pace::new(per_second, AT_ONCE)));
        self
    }

    /// When a stream that comes now gets its first response.
    fn turn(&self, now: Instant) -> Instant {
        // A turn is handed out whole, or not at all.
        self.pace.lock().unwrap_or_else(PoisonError::into_inner).turn(now)
    }
}

#[cfg(test)]
mod tests;
