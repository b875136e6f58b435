//! EDS: each worker is a locality of its own, and the worker's weight is the locality's.
//!
//! gRPC clients balance by the weights of localities (gRFC A27: "weighted_target") and pay none to those of endpoints under
//! round robin. Named by its address, a locality stays the same when its weight changes, so that no connection is touched; and
//! a worker that cannot be reached leaves its share to all others. See `docs/adr/0011-proxyless-clients.md`.

use crate::snapshot::endpoint::address;
use crate::snapshot::locality::{Group, groups, takes_requests};
use crate::snapshot::placement::{Placed, route_key};
use crate::snapshot::wire::uint;
use envoy_types::pb::envoy::config::core::v3::Locality;
use envoy_types::pb::envoy::config::endpoint::v3::lb_endpoint::HostIdentifier;
use envoy_types::pb::envoy::config::endpoint::v3::{ClusterLoadAssignment, Endpoint, LbEndpoint, LocalityLbEndpoints};
use kilocard_registry::worker::ServedModel;
use kilocard_weights::{Locality as Place, Split};
use kilocard_xds::snapshot::Resource;
use prost::Message;
use std::collections::BTreeMap;

/// The load assignment for clients in `own`; one without localities for a version that has no worker to offer.
pub(super) fn build(
    served: &ServedModel,
    offered: &BTreeMap<&str, &Placed>,
    own: &Place,
    split: Option<&Split>,
) -> Resource {
    let name = route_key(served);
    // Clients of gRPC finish what they have with a locality that leaves, as proxies do with a draining endpoint. They want
    // priorities without gaps, so those that take nothing are left out before these are given.
    let takes = offered.values().copied().filter(|placed| takes_requests(placed));
    let assignment = ClusterLoadAssignment {
        cluster_name: name.clone(),
        endpoints: groups(takes, own, split).iter().flat_map(workers).collect(),
        ..ClusterLoadAssignment::default()
    };
    Resource::new(name, assignment.encode_to_vec())
}

/// A group's workers. Each has its part of the group's weight, which says what the group gets beside others of its priority.
fn workers<'g>(group: &'g Group<'_>) -> impl Iterator<Item = LocalityLbEndpoints> + 'g {
    let whole: u64 = group
        .members
        .iter()
        .map(|placed| u64::from(placed.weighed.weight))
        .sum();
    let part = move |placed: &Placed| {
        let weight = placed.weighed.weight;
        // Alone in its priority.
        if group.weight == 1 {
            return weight;
        }
        let part = u64::from(group.weight) * u64::from(weight) / whole.max(1);
        u32::try_from(part).unwrap_or(u32::MAX).max(1)
    };
    group
        .members
        .iter()
        .map(move |placed| locality(placed, group.priority, part(placed)))
}

fn locality(placed: &Placed, priority: u32, weight: u32) -> LocalityLbEndpoints {
    let endpoint = Endpoint {
        address: Some(address(placed.address)),
        ..Endpoint::default()
    };
    LocalityLbEndpoints {
        // Two localities of one name in one assignment would be refused; addresses are unique there.
        locality: Some(Locality {
            zone: placed.locality.zone.clone(),
            sub_zone: placed.address.to_string(),
            ..Locality::default()
        }),
        lb_endpoints: vec![LbEndpoint {
            host_identifier: Some(HostIdentifier::Endpoint(endpoint)),
            ..LbEndpoint::default()
        }],
        priority,
        load_balancing_weight: uint(weight),
        ..LocalityLbEndpoints::default()
    }
}
