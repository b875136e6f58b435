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
mod nodes;
mod progress;
mod services;
mod session;
mod status;
mod wire;

pub use drain::Drain;
pub use nodes::{AdsCounters, Nodes, TypeCounters};

use authorise::{AllowAll, Authorise, Peer};
use kilocard_xds::snapshot::Snapshot;
use services::Responses;
use session::{Protocol, Scope};
use std::sync::Arc;
use tokio::sync::{mpsc, watch};
use tokio_stream::wrappers::ReceiverStream;
use tokio_util::sync::CancellationToken;
use tonic::service::Routes;
use tonic::{Request, Response, Streaming};

/// The service. Cheap to clone; clones share the registry of proxies.
#[derive(Clone)]
pub struct Ads {
    snapshots: watch::Receiver<Option<Arc<Snapshot>>>,
    shutdown: CancellationToken,
    drain: Drain,
    authorise: Arc<dyn Authorise>,
    nodes: Nodes,
}

impl Ads {
    /// Serves whatever the channel holds, `None` for "nothing is loaded yet"; ends all streams when the token is cancelled,
    /// upon which proxies keep what they have and reconnect. Lets everyone in.
    pub fn new(snapshots: watch::Receiver<Option<Arc<Snapshot>>>, shutdown: CancellationToken) -> Self {
        Self {
            snapshots,
            shutdown,
            drain: Drain::default(),
            authorise: Arc::new(AllowAll),
            nodes: Nodes::default(),
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

    fn start<P: Protocol>(
        &self,
        scope: Scope,
        protocol: P,
        request: Request<Streaming<P::Request>>,
    ) -> Responses<P::Response> {
        let peer = Peer {
            address: request.remote_addr(),
            names: Vec::new(),
        };
        let (responses, receiver) = mpsc::channel(1);
        let ads = self.clone();
        tokio::spawn(async move {
            session::run(protocol, (scope, peer), (request.into_inner(), responses), ads).await;
        });
        Ok(Response::new(ReceiverStream::new(receiver)))
    }
}

#[cfg(test)]
mod tests;
