//! CDS: one cluster a model version, as for proxies, with what gRPC clients know of clusters.
//!
//! `ROUND_ROBIN` in name: the weights are in the localities, see [`super::endpoint`]. `LEAST_REQUEST` (gRFC A48) is refused by
//! clients on gRPC's C core, Python's among them. No outlier detection: clients take its statistical kinds only (gRFC A50),
//! which errors of the model itself would set off; a worker to which there is no connection is passed over anyway.

use crate::snapshot::cluster::ads;
use crate::snapshot::placement::route_key;
use crate::snapshot::wire::uint;
use envoy_types::pb::envoy::config::cluster::v3::circuit_breakers::Thresholds;
use envoy_types::pb::envoy::config::cluster::v3::cluster::{
    ClusterDiscoveryType, DiscoveryType, EdsClusterConfig, LbPolicy,
};
use envoy_types::pb::envoy::config::cluster::v3::{CircuitBreakers, Cluster};
use kilocard_registry::worker::ServedModel;
use kilocard_xds::snapshot::Resource;
use prost::Message;

/// Requests of one client to a version beyond which it refuses at once: a guard against collapse, not an admission limit.
const MAX_REQUESTS: u32 = 16_384;

/// The cluster of a model version.
pub(super) fn build(served: &ServedModel) -> Resource {
    let name = route_key(served);
    // gRFC A32: of the thresholds, clients take max_requests of the default priority.
    let thresholds = Thresholds {
        max_requests: uint(MAX_REQUESTS),
        ..Thresholds::default()
    };
    let cluster = Cluster {
        name: name.clone(),
        cluster_discovery_type: Some(ClusterDiscoveryType::Type(DiscoveryType::Eds.into())),
        eds_cluster_config: Some(EdsClusterConfig {
            eds_config: Some(ads()),
            ..EdsClusterConfig::default()
        }),
        lb_policy: LbPolicy::RoundRobin.into(),
        circuit_breakers: Some(CircuitBreakers {
            thresholds: vec![thresholds],
            ..CircuitBreakers::default()
        }),
        ..Cluster::default()
    };
    Resource::new(name, cluster.encode_to_vec())
}
