//! EDS: each worker is a locality of its own, and the worker's weight is the locality's.
//!
//! gRPC clients balance by the weights of localities (gRFC A27: "weighted_target") and pay none to those of endpoints under
//! round robin. Named by its address, a locality stays the same when its weight changes, so that no connection is touched; and
//! a worker that cannot be reached leaves its share to all others. See `docs/adr/0011-proxyless-clients.md`.

use crate::snapshot::endpoint::address;
use crate::snapshot::placement::{Placed, route_key};
use crate::snapshot::wire::uint;
use envoy_types::pb::envoy::config::core::v3::Locality;
use envoy_types::pb::envoy::config::endpoint::v3::lb_endpoint::HostIdentifier;
use envoy_types::pb::envoy::config::endpoint::v3::{ClusterLoadAssignment, Endpoint, LbEndpoint, LocalityLbEndpoints};
use kilocard_registry::worker::ServedModel;
use kilocard_weights::Standing;
use kilocard_xds::snapshot::Resource;
use prost::Message;
use std::collections::BTreeMap;

/// The load assignment; one without localities for a version that has no worker to offer.
pub(super) fn build(served: &ServedModel, offered: &BTreeMap<&str, &Placed>) -> Resource {
    let name = route_key(served);
    // Clients of gRPC finish what they have with a locality that leaves, as proxies do with a draining endpoint.
    let takes = |placed: &&&Placed| !matches!(placed.weighed.standing, Standing::Drained(_));
    let assignment = ClusterLoadAssignment {
        cluster_name: name.clone(),
        endpoints: offered.values().filter(takes).map(|placed| locality(placed)).collect(),
        ..ClusterLoadAssignment::default()
    };
    Resource::new(name, assignment.encode_to_vec())
}

fn locality(placed: &Placed) -> LocalityLbEndpoints {
    let endpoint = Endpoint {
        address: Some(address(placed.address)),
        ..Endpoint::default()
    };
    LocalityLbEndpoints {
        // Two localities of one name in one assignment would be refused; addresses are unique there.
        locality: Some(Locality {
            sub_zone: placed.address.to_string(),
            ..Locality::default()
        }),
        lb_endpoints: vec![LbEndpoint {
            host_identifier: Some(HostIdentifier::Endpoint(endpoint)),
            ..LbEndpoint::default()
        }],
        load_balancing_weight: uint(placed.weighed.weight),
        ..LocalityLbEndpoints::default()
    }
}
