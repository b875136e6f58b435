//! Over a real loopback connection with the generated client.

use super::*;
use envoy_types::pb::envoy::config::core::v3::Node;
use envoy_types::pb::envoy::service::discovery::v3 as pb;
use envoy_types::pb::google::rpc::Status as RpcStatus;
use kilocard_registry::report::{NodeReport, NodeTypeReport};
use kilocard_xds::snapshot::{Resource, ResourceSet, ResourceType, Snapshot};
use pb::aggregated_discovery_service_client::AggregatedDiscoveryServiceClient;
use pb::{DeltaDiscoveryRequest, DeltaDiscoveryResponse};
use std::collections::HashMap;
use std::time::Duration;
use tokio::net::TcpListener;
use tokio::sync::mpsc;
use tokio_stream::wrappers::{ReceiverStream, TcpListenerStream};
use tonic::transport::{Channel, Server};
use tonic::{Status, Streaming};

mod cases;
mod services;
mod status;

const DEADLINE: Duration = Duration::from_secs(30);

struct Plane {
    snapshots: watch::Sender<Option<Arc<Editions>>>,
    shutdown: CancellationToken,
    nodes: Nodes,
    channel: Channel,
    client: AggregatedDiscoveryServiceClient<Channel>,
}

impl Plane {
    async fn start() -> Self {
        Self::start_with(|ads| ads).await
    }

    async fn start_with(configure: impl FnOnce(Ads) -> Ads) -> Self {
        let (snapshots, receiver) = watch::channel(None);
        let shutdown = CancellationToken::new();
        let ads = configure(Ads::new(receiver, shutdown.clone()));
        let nodes = ads.nodes();
        let listener = TcpListener::bind("127.0.0.1:0").await.expect("a free port");
        let address = listener.local_addr().expect("a bound address");
        let server = Server::builder().add_routes(ads.routes());
        tokio::spawn(server.serve_with_incoming(TcpListenerStream::new(listener)));
        let channel = Channel::from_shared(format!("http://{address}"))
            .expect("a URI")
            .connect()
            .await
            .expect("a server");
        Self {
            snapshots,
            shutdown,
            nodes,
            client: AggregatedDiscoveryServiceClient::new(channel.clone()),
            channel,
        }
    }

    fn serve(&self, kind: ResourceType, resources: &[(&str, &str)]) {
        let resources = resources
            .iter()
            .map(|(name, body)| Resource::new(*name, (*body).to_owned()));
        self.snapshots.send_replace(Some(Arc::new(
            Snapshot::new([(kind, ResourceSet::new(resources))]).into(),
        )));
    }

    async fn open(&self, first: DeltaDiscoveryRequest) -> Proxy {
        let (requests, receiver) = mpsc::channel(16);
        requests.send(first).await.expect("room");
        let mut client = self.client.clone();
        let response = client
            .delta_aggregated_resources(ReceiverStream::new(receiver))
            .await
            .expect("a stream");
        Proxy {
            requests,
            responses: response.into_inner(),
        }
    }

    /// Polls until the reports say so.
    async fn until(&self, what: &str, holds: impl Fn(&[NodeReport]) -> bool) -> Vec<NodeReport> {
        let poll = async {
            loop {
                let report = self.nodes.report();
                if holds(&report) {
                    return report;
                }
                tokio::time::sleep(Duration::from_millis(5)).await;
            }
        };
        tokio::time::timeout(DEADLINE, poll)
            .await
            .unwrap_or_else(|_| panic!("{what}: {:?}", self.nodes.report()))
    }
}

struct Proxy {
    requests: mpsc::Sender<DeltaDiscoveryRequest>,
    responses: Streaming<DeltaDiscoveryResponse>,
}

impl Proxy {
    async fn response(&mut self) -> DeltaDiscoveryResponse {
        let response = tokio::time::timeout(DEADLINE, self.responses.message())
            .await
            .expect("a response in time");
        response.expect("no error").expect("an open stream")
    }

    async fn refuse(&self, response: &DeltaDiscoveryResponse, message: &str) {
        let error = RpcStatus {
            code: 13,
            message: message.to_owned(),
            ..RpcStatus::default()
        };
        self.send(DeltaDiscoveryRequest {
            error_detail: Some(error),
            ..ack(response)
        })
        .await;
    }

    async fn send(&self, request: DeltaDiscoveryRequest) {
        self.requests.send(request).await.expect("an open stream");
    }
}

fn request(kind: ResourceType) -> DeltaDiscoveryRequest {
    DeltaDiscoveryRequest {
        type_url: kind.url().to_owned(),
        ..DeltaDiscoveryRequest::default()
    }
}

fn hello(node: &str, kind: ResourceType) -> DeltaDiscoveryRequest {
    DeltaDiscoveryRequest {
        node: Some(Node {
            id: node.to_owned(),
            ..Node::default()
        }),
        ..request(kind)
    }
}

fn ack(response: &DeltaDiscoveryResponse) -> DeltaDiscoveryRequest {
    DeltaDiscoveryRequest {
        type_url: response.type_url.clone(),
        response_nonce: response.nonce.clone(),
        ..DeltaDiscoveryRequest::default()
    }
}

fn names(response: &DeltaDiscoveryResponse) -> Vec<&str> {
    response
        .resources
        .iter()
        .map(|resource| resource.name.as_str())
        .collect()
}

fn only_type(report: &[NodeReport]) -> Option<&NodeTypeReport> {
    report.first()?.types.first()
}

#[tokio::test]
async fn a_delta_client_gets_what_is_served_and_then_what_changes() {
    let plane = Plane::start().await;
    let mut proxy = plane.open(hello("envoy-1", ResourceType::Cluster)).await;
    // Nothing is loaded: the stream is held, not told that there is nothing.
    plane
        .until("connected", |report| {
            only_type(report).is_none() && report.len() == 1 || only_type(report).is_some()
        })
        .await;
    plane.serve(ResourceType::Cluster, &[("a", "1"), ("b", "1")]);
    let first = proxy.response().await;
    assert_eq!(names(&first), ["a", "b"]);
    let body = first
        .resources
        .first()
        .and_then(|resource| resource.resource.as_ref())
        .expect("a body");
    assert_eq!(
        (body.type_url.as_str(), body.value.as_slice()),
        (ResourceType::Cluster.url(), b"1".as_slice())
    );
    proxy.send(ack(&first)).await;
    let report = plane
        .until("acked", |report| {
            only_type(report).is_some_and(|t| t.acked_version.is_some())
        })
        .await;
    let node = report.first().expect("a node");
    assert_eq!((node.id.as_str(), node.protocol.as_str()), ("envoy-1", "delta"));
    plane.serve(ResourceType::Cluster, &[("a", "2")]);
    let second = proxy.response().await;
    assert_eq!(
        (names(&second), second.removed_resources.as_slice()),
        (vec!["a"], ["b".to_owned()].as_slice())
    );
    proxy.send(ack(&second)).await;
    plane
        .until("at rest", |report| only_type(report).is_some_and(|t| !t.in_flight))
        .await;
    let counters = plane.nodes.counters();
    let clusters = TypeCounters {
        responses: 2,
        acks: 2,
        nacks: 0,
        ..TypeCounters::default()
    };
    assert_eq!(
        (counters.connected_streams, counters.types.get(&ResourceType::Cluster)),
        (1, Some(&clusters))
    );
    drop(proxy);
    plane.until("gone", <[_]>::is_empty).await;
}

#[tokio::test]
async fn a_refusal_is_reported_in_the_proxys_words() {
    let plane = Plane::start().await;
    plane.serve(ResourceType::Listener, &[("l", "bad")]);
    let mut proxy = plane.open(hello("envoy-1", ResourceType::Listener)).await;
    let first = proxy.response().await;
    proxy.refuse(&first, "no such filter").await;
    let report = plane
        .until("refused", |report| only_type(report).is_some_and(|t| t.nack.is_some()))
        .await;
    let nack = only_type(&report)
        .and_then(|report| report.nack.clone())
        .expect("a refusal");
    assert_eq!(
        (nack.message.as_str(), nack.version),
        ("no such filter", first.system_version_info)
    );
    // The next version is sent, and accepted.
    plane.serve(ResourceType::Listener, &[("l", "good")]);
    let second = proxy.response().await;
    proxy.send(ack(&second)).await;
    plane
        .until("accepted", |report| {
            only_type(report).is_some_and(|t| t.nack.is_none() && !t.in_flight)
        })
        .await;
    assert_eq!(
        plane.nodes.counters().types.get(&ResourceType::Listener),
        Some(&TypeCounters {
            responses: 2,
            acks: 1,
            nacks: 1,
            ..TypeCounters::default()
        })
    );
}

#[tokio::test]
async fn a_reconnecting_client_that_has_everything_gets_nothing_until_something_changes() {
    let plane = Plane::start().await;
    plane.serve(ResourceType::Cluster, &[("a", "1"), ("b", "1")]);
    let mut proxy = plane.open(hello("envoy-1", ResourceType::Cluster)).await;
    let first = proxy.response().await;
    let held: HashMap<String, String> = first
        .resources
        .iter()
        .map(|resource| (resource.name.clone(), resource.version.clone()))
        .collect();
    drop(proxy);
    let again = DeltaDiscoveryRequest {
        initial_resource_versions: held,
        ..hello("envoy-1", ResourceType::Cluster)
    };
    let mut proxy = plane.open(again).await;
    // Another type's answer proves that the machine has spoken and had nothing to say of clusters.
    proxy.send(request(ResourceType::Listener)).await;
    assert_eq!(proxy.response().await.type_url, ResourceType::Listener.url());
    // What it brought along is what is served: reports say so.
    plane
        .until("up to date", |report| {
            only_type(report).is_some_and(|t| t.acked_version == Some(first.system_version_info.clone()))
        })
        .await;
    plane.serve(ResourceType::Cluster, &[("a", "1"), ("b", "2")]);
    let next = proxy.response().await;
    assert_eq!(
        (next.type_url.as_str(), names(&next)),
        (ResourceType::Cluster.url(), vec!["b"])
    );
}

#[tokio::test]
async fn streams_end_cleanly_on_shutdown() {
    let plane = Plane::start().await;
    let mut proxy = plane.open(hello("envoy-1", ResourceType::Cluster)).await;
    plane.until("connected", |report| report.len() == 1).await;
    plane.shutdown.cancel();
    let end = tokio::time::timeout(DEADLINE, proxy.responses.message())
        .await
        .expect("in time");
    assert!(matches!(end, Ok(None)), "{end:?}");
    plane.until("gone", <[_]>::is_empty).await;
}

#[tokio::test]
async fn a_state_of_the_world_client_gets_whole_states() {
    let plane = Plane::start().await;
    plane.serve(ResourceType::Cluster, &[("a", "1"), ("b", "1")]);
    let (requests, receiver) = mpsc::channel(16);
    let first = pb::DiscoveryRequest {
        node: Some(Node {
            id: "envoy-1".into(),
            ..Node::default()
        }),
        type_url: ResourceType::Cluster.url().into(),
        ..pb::DiscoveryRequest::default()
    };
    requests.send(first.clone()).await.expect("room");
    let mut client = plane.client.clone();
    let mut responses = client
        .stream_aggregated_resources(ReceiverStream::new(receiver))
        .await
        .expect("a stream")
        .into_inner();
    for count in [2, 3] {
        let response = tokio::time::timeout(DEADLINE, responses.message())
            .await
            .expect("in time")
            .expect("ok")
            .expect("open");
        assert_eq!(response.resources.len(), count);
        let ack = pb::DiscoveryRequest {
            version_info: response.version_info,
            response_nonce: response.nonce,
            ..first.clone()
        };
        requests.send(ack).await.expect("room");
        plane
            .until("acked", |report| {
                only_type(report).is_some_and(|t| !t.in_flight && t.acked_version.is_some())
            })
            .await;
        plane.serve(ResourceType::Cluster, &[("a", "1"), ("b", "1"), ("c", "1")]);
    }
}
