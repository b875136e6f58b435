//! An ADS server that passes everything on, to the control plane and back, but makes a cluster of its choice unusable.

use anyhow::Result;
use envoy_types::pb::envoy::service::discovery::v3::aggregated_discovery_service_client::AggregatedDiscoveryServiceClient;
use envoy_types::pb::envoy::service::discovery::v3::aggregated_discovery_service_server::{
    AggregatedDiscoveryService, AggregatedDiscoveryServiceServer,
};
use envoy_types::pb::envoy::service::discovery::v3::{
    DeltaDiscoveryRequest, DeltaDiscoveryResponse, DiscoveryRequest, DiscoveryResponse,
};
use std::net::SocketAddr;
use std::pin::Pin;
use std::sync::{Arc, Mutex, PoisonError};
use tokio::net::TcpListener;
use tokio::task::JoinHandle;
use tokio_stream::wrappers::TcpListenerStream;
use tokio_stream::{Stream, StreamExt};
use tonic::transport::{Channel, Server};
use tonic::{Request, Response, Status, Streaming};

const CLUSTER: &str = "type.googleapis.com/envoy.config.cluster.v3.Cluster";

/// What is wrong with it: a value of its `lb_policy`. Of a field that comes twice the last one counts, so that this may be appended
/// to a cluster.
#[derive(Clone, Copy, Debug)]
pub(crate) enum Flaw {
    /// One that Envoy does not know, as a control plane may send that is newer. It does not look at the rest of the response.
    Unknown = 99,
    /// `CLUSTER_PROVIDED`, which its other settings do not allow. That is found out when the response is put into force.
    Contradiction = 6,
}

/// Which cluster, and how.
pub(crate) type Spoiled = Option<(&'static str, Flaw)>;

/// A running relay; it ends when dropped.
pub(crate) struct Relay {
    address: SocketAddr,
    spoiled: Arc<Mutex<Spoiled>>,
    task: JoinHandle<()>,
}

impl Relay {
    /// One before the control plane at this address.
    pub(crate) async fn start(control_plane: SocketAddr) -> Result<Self> {
        let channel = Channel::from_shared(format!("http://{control_plane}"))?
            .connect()
            .await?;
        let spoiled: Arc<Mutex<Spoiled>> = Arc::default();
        let service = Passing {
            client: AggregatedDiscoveryServiceClient::new(channel),
            spoiled: spoiled.clone(),
        };
        let listener = TcpListener::bind(("127.0.0.1", 0)).await?;
        let address = listener.local_addr()?;
        let task = tokio::spawn(async move {
            let router = Server::builder().add_service(AggregatedDiscoveryServiceServer::new(service));
            // Whoever asks it then sees that it is gone.
            let _ = router.serve_with_incoming(TcpListenerStream::new(listener)).await;
        });
        Ok(Self { address, spoiled, task })
    }

    pub(crate) fn address(&self) -> SocketAddr {
        self.address
    }

    /// From now on this cluster, and no other, is passed on so that no proxy can use it.
    pub(crate) fn spoil(&self, cluster: Spoiled) {
        *self.spoiled.lock().unwrap_or_else(PoisonError::into_inner) = cluster;
    }
}

impl Drop for Relay {
    fn drop(&mut self) {
        self.task.abort();
    }
}

struct Passing {
    client: AggregatedDiscoveryServiceClient<Channel>,
    spoiled: Arc<Mutex<Spoiled>>,
}

type Responses<T> = Pin<Box<dyn Stream<Item = Result<T, Status>> + Send>>;

#[tonic::async_trait]
impl AggregatedDiscoveryService for Passing {
    type StreamAggregatedResourcesStream = Responses<DiscoveryResponse>;
    type DeltaAggregatedResourcesStream = Responses<DeltaDiscoveryResponse>;

    async fn stream_aggregated_resources(
        &self,
        _: Request<Streaming<DiscoveryRequest>>,
    ) -> Result<Response<Self::StreamAggregatedResourcesStream>, Status> {
        Err(Status::unimplemented("the relay passes delta on"))
    }

    async fn delta_aggregated_resources(
        &self,
        requests: Request<Streaming<DeltaDiscoveryRequest>>,
    ) -> Result<Response<Self::DeltaAggregatedResourcesStream>, Status> {
        // A proxy whose stream breaks off ends its requests here.
        let requests = requests.into_inner().map_while(Result::ok);
        let responses = self
            .client
            .clone()
            .delta_aggregated_resources(requests)
            .await?
            .into_inner();
        let spoiled = self.spoiled.clone();
        let passed = responses.map(move |response| {
            let spoiled = spoiled.lock().unwrap_or_else(PoisonError::into_inner);
            response.map(|response| spoil(response, *spoiled))
        });
        Ok(Response::new(Box::pin(passed)))
    }
}

fn spoil(mut response: DeltaDiscoveryResponse, spoiled: Spoiled) -> DeltaDiscoveryResponse {
    /// `Cluster.lb_policy`, a varint.
    const LB_POLICY: u8 = 6 << 3;
    let Some((name, flaw)) = spoiled.filter(|_| response.type_url == CLUSTER) else {
        return response;
    };
    let resources = response.resources.iter_mut().filter(|resource| resource.name == name);
    let bodies = resources.filter_map(|resource| resource.resource.as_mut());
    bodies.for_each(|body| body.value.extend([LB_POLICY, flaw as u8]));
    response
}
