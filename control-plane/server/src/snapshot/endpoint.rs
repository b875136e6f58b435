//! EDS: the workers of a model version.

use crate::snapshot::locality::groups;
use crate::snapshot::placement::{Placed, route_key};
use crate::snapshot::wire::uint;
use envoy_types::pb::envoy::config::core::v3 as core;
use envoy_types::pb::envoy::config::core::v3::socket_address::PortSpecifier;
use envoy_types::pb::envoy::config::core::v3::{Address, HealthStatus, Metadata, SocketAddress, address};
use envoy_types::pb::envoy::config::endpoint::v3::lb_endpoint::HostIdentifier;
use envoy_types::pb::envoy::config::endpoint::v3::{ClusterLoadAssignment, Endpoint, LbEndpoint, LocalityLbEndpoints};
use envoy_types::pb::google::protobuf::{ListValue, Struct, Value, value};
use kilocard_registry::worker::ServedModel;
use kilocard_weights::{Locality, Split, Standing};
use kilocard_xds::snapshot::Resource;
use prost::Message;
use std::collections::BTreeMap;
use std::net::SocketAddr;

/// Where Envoy's load balancers look for metadata, of endpoints and of requests.
pub(super) const LB_NAMESPACE: &str = "envoy.lb";
/// Key of the tags by which a request may choose among endpoints, see [`super::placement::tags`].
pub(super) const GPU_TAGS: &str = "gpu";

/// The load assignment for proxies in `own`; one without endpoints for a version that nobody serves, so that its cluster is
/// warm.
pub fn build(
    served: &ServedModel,
    placed: &BTreeMap<String, Placed>,
    own: &Locality,
    split: Option<&Split>,
) -> Resource {
    let name = route_key(served);
    let localities = groups(placed.values(), own, split)
        .into_iter()
        .map(|group| LocalityLbEndpoints {
            // Beside others Envoy minds the weight of a locality only where one is named, be the name empty.
            locality: (!own.zone.is_empty()).then(|| named(&group.locality)),
            priority: group.priority,
            load_balancing_weight: uint(group.weight),
            lb_endpoints: group.members.into_iter().map(endpoint).collect(),
            ..LocalityLbEndpoints::default()
        });
    let assignment = ClusterLoadAssignment {
        cluster_name: name.clone(),
        endpoints: localities.collect(),
        ..ClusterLoadAssignment::default()
    };
    Resource::new(name, assignment.encode_to_vec())
}

fn named(locality: &Locality) -> core::Locality {
    core::Locality {
        zone: locality.zone.clone(),
        sub_zone: locality.rack.clone(),
        ..core::Locality::default()
    }
}

/// A socket address as Envoy writes it.
pub(super) fn address(socket: SocketAddr) -> Address {
    let address = SocketAddress {
        address: socket.ip().to_string(),
        port_specifier: Some(PortSpecifier::PortValue(socket.port().into())),
        ..SocketAddress::default()
    };
    Address {
        address: Some(address::Address::SocketAddress(address)),
    }
}

fn endpoint(placed: &Placed) -> LbEndpoint {
    let endpoint = Endpoint {
        address: Some(address(placed.address)),
        ..Endpoint::default()
    };
    // A draining endpoint gets no new requests, finishes those it has, and stays known, so that its return is no newcomer's.
    let health = match placed.weighed.standing {
        Standing::Drained(_) => HealthStatus::Draining,
        Standing::Serving | Standing::Held(_) => HealthStatus::Unknown,
    };
    LbEndpoint {
        health_status: health.into(),
        host_identifier: Some(HostIdentifier::Endpoint(endpoint)),
        load_balancing_weight: uint(placed.weighed.weight),
        metadata: Some(metadata(&placed.tags)),
    }
}

/// Both maps have one entry, hence one order: see the module `wire`.
fn metadata(tags: &[String]) -> Metadata {
    let values = tags.iter().map(|tag| kind(value::Kind::StringValue(tag.clone())));
    let list = ListValue {
        values: values.collect(),
    };
    let tags = Struct {
        fields: std::iter::once((GPU_TAGS.to_owned(), kind(value::Kind::ListValue(list)))).collect(),
    };
    Metadata {
        filter_metadata: std::iter::once((LB_NAMESPACE.to_owned(), tags)).collect(),
        ..Metadata::default()
    }
}

fn kind(kind: value::Kind) -> Value {
    Value { kind: Some(kind) }
}
