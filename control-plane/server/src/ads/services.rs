//! The services by which xDS is served: the aggregated one, and one for each type. All of them run the same session; a
//! service of one type restricts it to that type.
//!
//! They differ in names only, so they are a table and not generated servers; and generated ones would copy every message
//! into a buffer of its own, see [`super::frames`].

use super::Ads;
use super::authorise::Peer;
use super::frames::Frames;
use super::session::{self, Protocol, Scope};
use axum::body::Body;
use axum::extract::Request;
use axum::response::Response;
use axum::routing::{MethodRouter, post};
use http::header::{CONTENT_TYPE, HeaderValue};
use kilocard_xds::snapshot::ResourceType;
use kilocard_xds::{delta, sotw};
use tokio::sync::mpsc;
use tonic::codec::Codec;
use tonic::service::{Routes, RoutesBuilder};
use tonic::{Status, Streaming};
use tonic_prost::ProstCodec;

/// Largest request taken, in bytes: a reconnecting delta client names every resource that it holds.
const MAX_REQUEST_BYTES: usize = 64 << 20;

/// A service by its name in protobuf, with its methods.
struct Service {
    name: &'static str,
    scope: Scope,
    sotw: &'static str,
    delta: &'static str,
    /// The method without a stream, where there is one. It is not served, and says so.
    fetch: Option<&'static str>,
}

const fn singular(name: &'static str, kind: ResourceType, [sotw, delta, fetch]: [&'static str; 3]) -> Service {
    Service {
        name,
        scope: Scope::Only(kind),
        sotw,
        delta,
        fetch: Some(fetch),
    }
}

/// From the `service` definitions under `envoy/service/*/v3/`.
const SERVICES: [Service; 8] = [
    Service {
        name: "envoy.service.discovery.v3.AggregatedDiscoveryService",
        scope: Scope::All,
        sotw: "StreamAggregatedResources",
        delta: "DeltaAggregatedResources",
        fetch: None,
    },
    singular(
        "envoy.service.runtime.v3.RuntimeDiscoveryService",
        ResourceType::Runtime,
        ["StreamRuntime", "DeltaRuntime", "FetchRuntime"],
    ),
    singular(
        "envoy.service.secret.v3.SecretDiscoveryService",
        ResourceType::Secret,
        ["StreamSecrets", "DeltaSecrets", "FetchSecrets"],
    ),
    singular(
        "envoy.service.cluster.v3.ClusterDiscoveryService",
        ResourceType::Cluster,
        ["StreamClusters", "DeltaClusters", "FetchClusters"],
    ),
    singular(
        "envoy.service.endpoint.v3.EndpointDiscoveryService",
        ResourceType::Endpoints,
        ["StreamEndpoints", "DeltaEndpoints", "FetchEndpoints"],
    ),
    singular(
        "envoy.service.listener.v3.ListenerDiscoveryService",
        ResourceType::Listener,
        ["StreamListeners", "DeltaListeners", "FetchListeners"],
    ),
    singular(
        "envoy.service.route.v3.RouteDiscoveryService",
        ResourceType::Route,
        ["StreamRoutes", "DeltaRoutes", "FetchRoutes"],
    ),
    singular(
        "envoy.service.extension.v3.ExtensionConfigDiscoveryService",
        ResourceType::Extension,
        [
            "StreamExtensionConfigs",
            "DeltaExtensionConfigs",
            "FetchExtensionConfigs",
        ],
    ),
];

/// All services of discovery, and the status of those that use them.
pub(super) fn routes(ads: &Ads) -> Routes {
    let mut router = axum::Router::new().fallback(|| async { refusal(&Status::unimplemented("")) });
    for service in SERVICES {
        let path = |method: &str| format!("/{}/{method}", service.name);
        router = router
            .route(&path(service.sotw), stream::<sotw::Stream>(ads, service.scope))
            .route(&path(service.delta), stream::<delta::Stream>(ads, service.scope));
        if let Some(fetch) = service.fetch {
            let advice = Status::unimplemented(format!(
                "{}: {fetch} is not served; open a stream with {} or {}",
                service.name, service.sotw, service.delta
            ));
            router = router.route(&path(fetch), post(move || async move { refusal(&advice) }));
        }
    }
    let mut routes = RoutesBuilder::from(router);
    routes.add_service(super::status::service(ads.nodes()));
    routes.routes()
}

fn stream<P: Protocol + Default>(ads: &Ads, scope: Scope) -> MethodRouter {
    let ads = ads.clone();
    post(move |request: Request| async move { open(ads, scope, P::default(), request) })
}

/// Starts the session of a stream; what it has to say is the body of the response.
fn open<P: Protocol>(ads: Ads, scope: Scope, protocol: P, request: Request) -> Response {
    let request = tonic::Request::from_http(request);
    let peer = Peer {
        address: request.remote_addr(),
        names: Vec::new(),
    };
    let decoder = ProstCodec::<P::Request, P::Request>::default().decoder();
    let requests = Streaming::new_request(decoder, request.into_inner(), None, Some(MAX_REQUEST_BYTES));
    let (responses, receiver) = mpsc::channel(1);
    tokio::spawn(async move {
        session::run(protocol, (scope, peer), (requests, responses), ads).await;
    });
    let mut response = Response::new(Body::new(Frames::new(receiver)));
    response.headers_mut().insert(CONTENT_TYPE, GRPC);
    response
}

const GRPC: HeaderValue = HeaderValue::from_static("application/grpc");

/// A response that is a status and nothing else.
fn refusal(status: &Status) -> Response {
    let mut response = Response::new(Body::empty());
    response.headers_mut().insert(CONTENT_TYPE, GRPC);
    // A status of a code and plain text always has headers.
    let _ = status.add_header(response.headers_mut());
    response
}
