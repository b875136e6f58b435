//! The aggregated discovery service over gRPC: protobuf and streams around the pure machines of `kilocard_xds`.
//!
//! Owns: one task a stream, the registry of connected proxies. Must not know: where snapshots come from, what they mean.
//!
//! A slow client holds up nobody: a stream has room for one response, and its machine is asked for the next only when there
//! is room, so it always gets the newest state. Until a first snapshot is loaded nothing is sent: an empty mesh would make
//! proxies drop what they have.

mod nodes;
mod session;
mod wire;

pub use nodes::{AdsCounters, Nodes, TypeCounters};

use envoy_types::pb::envoy::service::discovery::v3 as pb;
use kilocard_xds::snapshot::Snapshot;
use kilocard_xds::{delta, sotw};
use pb::aggregated_discovery_service_server::{AggregatedDiscoveryService, AggregatedDiscoveryServiceServer};
use session::Protocol;
use std::sync::Arc;
use tokio::sync::{mpsc, watch};
use tokio_stream::wrappers::ReceiverStream;
use tokio_util::sync::CancellationToken;
use tonic::{Request, Response, Status, Streaming};

/// Largest request taken, in bytes: a reconnecting delta client names every resource that it holds.
const MAX_REQUEST_BYTES: usize = 64 << 20;

/// The service. Cheap to clone; clones share the registry of proxies.
#[derive(Clone)]
pub struct Ads {
    snapshots: watch::Receiver<Option<Arc<Snapshot>>>,
    shutdown: CancellationToken,
    nodes: Nodes,
}

impl Ads {
    /// Serves whatever the channel holds, `None` for "nothing is loaded yet"; ends all streams when the token is cancelled,
    /// upon which proxies keep what they have and reconnect.
    pub fn new(snapshots: watch::Receiver<Option<Arc<Snapshot>>>, shutdown: CancellationToken) -> Self {
        Self {
            snapshots,
            shutdown,
            nodes: Nodes::default(),
        }
    }

    /// The connected proxies.
    pub fn nodes(&self) -> Nodes {
        self.nodes.clone()
    }

    /// For a tonic router.
    pub fn service(&self) -> AggregatedDiscoveryServiceServer<Self> {
        AggregatedDiscoveryServiceServer::new(self.clone()).max_decoding_message_size(MAX_REQUEST_BYTES)
    }

    fn start<P: Protocol>(&self, protocol: P, requests: Streaming<P::Request>) -> Responses<P::Response> {
        let (responses, receiver) = mpsc::channel(1);
        let ads = self.clone();
        tokio::spawn(session::run(protocol, requests, responses, ads));
        Response::new(ReceiverStream::new(receiver))
    }
}

type Responses<R> = Response<ReceiverStream<Result<R, Status>>>;

#[tonic::async_trait]
impl AggregatedDiscoveryService for Ads {
    type StreamAggregatedResourcesStream = ReceiverStream<Result<pb::DiscoveryResponse, Status>>;
    type DeltaAggregatedResourcesStream = ReceiverStream<Result<pb::DeltaDiscoveryResponse, Status>>;

    async fn stream_aggregated_resources(
        &self,
        request: Request<Streaming<pb::DiscoveryRequest>>,
    ) -> Result<Responses<pb::DiscoveryResponse>, Status> {
        Ok(self.start(sotw::Stream::new(), request.into_inner()))
    }

    async fn delta_aggregated_resources(
        &self,
        request: Request<Streaming<pb::DeltaDiscoveryRequest>>,
    ) -> Result<Responses<pb::DeltaDiscoveryResponse>, Status> {
        Ok(self.start(delta::Stream::new(), request.into_inner()))
    }
}

#[cfg(test)]
mod tests;
