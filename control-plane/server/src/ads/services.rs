//! The services by which xDS is served: the aggregated one, and one for each type. All of them run the same session; a
//! service of one type restricts it to that type.

use super::Ads;
use super::session::Scope;
use envoy_types::pb::envoy::service;
use kilocard_xds::snapshot::ResourceType;
use kilocard_xds::{delta, sotw};
use service::discovery::v3::{DeltaDiscoveryRequest, DeltaDiscoveryResponse, DiscoveryRequest, DiscoveryResponse};
use tokio_stream::wrappers::ReceiverStream;
use tonic::service::{Routes, RoutesBuilder};
use tonic::{Request, Response, Status, Streaming};

/// Largest request taken, in bytes: a reconnecting delta client names every resource that it holds.
const MAX_REQUEST_BYTES: usize = 64 << 20;

/// What a method for streams answers.
pub(super) type Responses<R> = Result<Response<ReceiverStream<Result<R, Status>>>, Status>;
type Requests<R> = Request<Streaming<R>>;

impl Ads {
    fn sotw(&self, scope: Scope, request: Requests<DiscoveryRequest>) -> Responses<DiscoveryResponse> {
        self.start(scope, sotw::Stream::new(), request)
    }

    fn delta(&self, scope: Scope, request: Requests<DeltaDiscoveryRequest>) -> Responses<DeltaDiscoveryResponse> {
        self.start(scope, delta::Stream::new(), request)
    }
}

/// Implements the two streams of each service, and the fetch of those that have one, and adds the services to a router.
macro_rules! services {
    ($($package:ident :: $server:ident :: $service:ident as $router:ident serves $scope:expr => {
        sotw $sotw:ident $sotw_stream:ident
        delta $delta:ident $delta_stream:ident
        $(fetch $fetch:ident)?
    })*) => {
        $(
            #[tonic::async_trait]
            impl service::$package::v3::$server::$service for Ads {
                type $sotw_stream = ReceiverStream<Result<DiscoveryResponse, Status>>;
                type $delta_stream = ReceiverStream<Result<DeltaDiscoveryResponse, Status>>;

                async fn $sotw(&self, request: Requests<DiscoveryRequest>) -> Responses<DiscoveryResponse> {
                    self.sotw($scope, request)
                }

                async fn $delta(&self, request: Requests<DeltaDiscoveryRequest>) -> Responses<DeltaDiscoveryResponse> {
                    self.delta($scope, request)
                }

                $(async fn $fetch(&self, _: Request<DiscoveryRequest>) -> Result<Response<DiscoveryResponse>, Status> {
                    Err(Status::unimplemented(concat!(
                        stringify!($service), ": ", stringify!($fetch), " is not served; open a stream with ",
                        stringify!($sotw), " or ", stringify!($delta)
                    )))
                })?
            }
        )*

        fn add_all(ads: &Ads, routes: &mut RoutesBuilder) {
            $(routes.add_service(
                service::$package::v3::$server::$router::new(ads.clone()).max_decoding_message_size(MAX_REQUEST_BYTES),
            );)*
        }
    };
}

services! {
    discovery::aggregated_discovery_service_server::AggregatedDiscoveryService as AggregatedDiscoveryServiceServer
    serves Scope::All => {
        sotw stream_aggregated_resources StreamAggregatedResourcesStream
        delta delta_aggregated_resources DeltaAggregatedResourcesStream
    }
    runtime::runtime_discovery_service_server::RuntimeDiscoveryService as RuntimeDiscoveryServiceServer
    serves Scope::Only(ResourceType::Runtime) => {
        sotw stream_runtime StreamRuntimeStream
        delta delta_runtime DeltaRuntimeStream
        fetch fetch_runtime
    }
    secret::secret_discovery_service_server::SecretDiscoveryService as SecretDiscoveryServiceServer
    serves Scope::Only(ResourceType::Secret) => {
        sotw stream_secrets StreamSecretsStream
        delta delta_secrets DeltaSecretsStream
        fetch fetch_secrets
    }
    cluster::cluster_discovery_service_server::ClusterDiscoveryService as ClusterDiscoveryServiceServer
    serves Scope::Only(ResourceType::Cluster) => {
        sotw stream_clusters StreamClustersStream
        delta delta_clusters DeltaClustersStream
        fetch fetch_clusters
    }
    endpoint::endpoint_discovery_service_server::EndpointDiscoveryService as EndpointDiscoveryServiceServer
    serves Scope::Only(ResourceType::Endpoints) => {
        sotw stream_endpoints StreamEndpointsStream
        delta delta_endpoints DeltaEndpointsStream
        fetch fetch_endpoints
    }
    listener::listener_discovery_service_server::ListenerDiscoveryService as ListenerDiscoveryServiceServer
    serves Scope::Only(ResourceType::Listener) => {
        sotw stream_listeners StreamListenersStream
        delta delta_listeners DeltaListenersStream
        fetch fetch_listeners
    }
    route::route_discovery_service_server::RouteDiscoveryService as RouteDiscoveryServiceServer
    serves Scope::Only(ResourceType::Route) => {
        sotw stream_routes StreamRoutesStream
        delta delta_routes DeltaRoutesStream
        fetch fetch_routes
    }
    extension::extension_config_discovery_service_server::ExtensionConfigDiscoveryService
        as ExtensionConfigDiscoveryServiceServer
    serves Scope::Only(ResourceType::Extension) => {
        sotw stream_extension_configs StreamExtensionConfigsStream
        delta delta_extension_configs DeltaExtensionConfigsStream
        fetch fetch_extension_configs
    }
}

/// All services of discovery, and the status of those that use them.
pub(super) fn routes(ads: &Ads) -> Routes {
    let mut routes = Routes::builder();
    add_all(ads, &mut routes);
    routes.add_service(super::status::service(ads.nodes()));
    routes.routes()
}
