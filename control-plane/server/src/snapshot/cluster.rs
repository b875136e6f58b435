//! CDS: one cluster a pool of a model version, spoken to in HTTP/2, its workers by EDS.
//!
//! Clusters of one version share its load assignment, `EdsClusterConfig.service_name`, so that workers and weights are sent
//! once.

use crate::snapshot::endpoint;
use crate::snapshot::placement::route_key;
use crate::snapshot::pool::{Pools, cluster_name};
use crate::snapshot::wire::{millis, seconds, truth, uint};
use envoy_types::pb::envoy::config::cluster::v3::circuit_breakers::Thresholds;
use envoy_types::pb::envoy::config::cluster::v3::circuit_breakers::thresholds::RetryBudget;
use envoy_types::pb::envoy::config::cluster::v3::cluster::common_lb_config::{
    LocalityConfigSpecifier, LocalityWeightedLbConfig,
};
use envoy_types::pb::envoy::config::cluster::v3::cluster::lb_subset_config::lb_subset_selector::LbSubsetSelectorFallbackPolicy;
use envoy_types::pb::envoy::config::cluster::v3::cluster::lb_subset_config::{
    LbSubsetFallbackPolicy, LbSubsetMetadataFallbackPolicy, LbSubsetSelector,
};
use envoy_types::pb::envoy::config::cluster::v3::cluster::{
    ClusterDiscoveryType, CommonLbConfig, DiscoveryType, EdsClusterConfig, LbPolicy, LbSubsetConfig,
};
use envoy_types::pb::envoy::config::cluster::v3::{
    CircuitBreakers, Cluster, OutlierDetection, UpstreamConnectionOptions,
};
use envoy_types::pb::envoy::config::core::v3::config_source::ConfigSourceSpecifier;
use envoy_types::pb::envoy::config::core::v3::{
    AggregatedConfigSource, ApiVersion, ConfigSource, Http2ProtocolOptions,
    HttpProtocolOptions as CommonProtocolOptions, KeepaliveSettings, RoutingPriority, TcpKeepalive,
};
use envoy_types::pb::envoy::extensions::upstreams::http::v3::HttpProtocolOptions;
use envoy_types::pb::envoy::extensions::upstreams::http::v3::http_protocol_options::explicit_http_config::ProtocolConfig;
use envoy_types::pb::envoy::extensions::upstreams::http::v3::http_protocol_options::{
    ExplicitHttpConfig, UpstreamProtocolOptions,
};
use envoy_types::pb::envoy::r#type::v3::Percent;
use envoy_types::util::pack_any;
use kilocard_policy::config::{Keepalive, PoolConnections, PoolLimits, PoolPolicy};
use kilocard_registry::keepalive::PROBES;
use kilocard_registry::worker::ServedModel;
use kilocard_xds::snapshot::Resource;
use prost::Message;

/// The clusters of a model version: its own, and one for each declared pool that may take requests of it.
pub fn build(served: &ServedModel, pools: &Pools) -> Vec<Resource> {
    let endpoints = route_key(served);
    let default = pools.default_pool();
    let own = of_pool(endpoints.clone(), &endpoints, default, bulk(&default.limits));
    let declared = pools.of_model(&served.model);
    let declared = declared.map(|pool| {
        let name = cluster_name(served, pool.name);
        of_pool(name, &endpoints, pool.policy, Vec::new())
    });
    std::iter::once(own).chain(declared).collect()
}

/// The breakers of what is less urgent, beside those of the default pool.
fn bulk(limits: &PoolLimits) -> Vec<Thresholds> {
    vec![thresholds(&limits.of_bulk(), RoutingPriority::High)]
}

/// One pool. `beside` are breakers of other routing priorities.
fn of_pool(name: String, endpoints: &str, pool: &PoolPolicy, beside: Vec<Thresholds>) -> Resource {
    let PoolPolicy {
        limits, connections, ..
    } = pool;
    // One entry, hence one order: see the module `wire`.
    let protocol = std::iter::once((
        "envoy.extensions.upstreams.http.v3.HttpProtocolOptions".to_owned(),
        pack_any(http2(connections)),
    ));
    let service_name = if name == endpoints { "" } else { endpoints };
    let cluster = Cluster {
        name: name.clone(),
        alt_stat_name: stat_name(&name),
        connect_timeout: millis(connections.connect_timeout_ms.into()),
        cluster_discovery_type: Some(ClusterDiscoveryType::Type(DiscoveryType::Eds.into())),
        eds_cluster_config: Some(EdsClusterConfig {
            eds_config: Some(ads()),
            service_name: service_name.to_owned(),
        }),
        upstream_connection_options: Some(UpstreamConnectionOptions {
            tcp_keepalive: Some(probes(&connections.keepalive)),
            ..UpstreamConnectionOptions::default()
        }),
        lb_policy: LbPolicy::LeastRequest.into(),
        lb_subset_config: Some(by_gpu_tag()),
        typed_extension_protocol_options: protocol.collect(),
        outlier_detection: Some(outliers()),
        circuit_breakers: Some(breakers(limits, connections, beside)),
        // Envoy holds back changes of health and weight that follow another one within a second, and so went on trying
        // dead workers which it had ejected already, whenever weights had just changed.
        common_lb_config: Some(CommonLbConfig {
            update_merge_window: millis(100),
            // Localities of one priority get requests by their weights, which say what spills over; see
            // `docs/adr/0012-localities.md`.
            locality_config_specifier: Some(LocalityConfigSpecifier::LocalityWeightedLbConfig(
                LocalityWeightedLbConfig::default(),
            )),
            // Envoy's "panic" sends requests to ejected hosts when too few others are left. Within a subset of one dead
            // card it would do so for ever, where the next class of the request's list has a living one.
            healthy_panic_threshold: Some(Percent { value: 0.0 }),
            ..CommonLbConfig::default()
        }),
        // A worker that left etcd is drained or dead: it goes at once, whatever its health.
        ignore_health_on_host_removal: true,
        ..Cluster::default()
    };
    Resource::new(name, cluster.encode_to_vec()).awaiting(endpoints)
}

/// The cluster's name in statistics, where '.' separates levels and '/' is not welcome everywhere. Each of the three
/// characters of `<model>/<version>[/<pool>]` (names are `[a-z0-9._-]`) that is replaced has a replacement of its own, so that no two
/// clusters share their statistics.
fn stat_name(name: &str) -> String {
    let replaced = name.chars().map(|character| match character {
        '/' => '_',
        '_' => '+',
        '.' => '~',
        other => other,
    });
    replaced.collect()
}

/// "Ask for it over the stream you already have."
pub(super) fn ads() -> ConfigSource {
    ConfigSource {
        config_source_specifier: Some(ConfigSourceSpecifier::Ads(AggregatedConfigSource::default())),
        resource_api_version: ApiVersion::V3.into(),
        ..ConfigSource::default()
    }
}

/// A request that brings a list of GPU tags gets a worker with the first tag that a healthy one has, and is refused when none
/// has any; a request without a list may get every worker. What the list is, is told with the listener's filter for it;
/// see `docs/adr/0007-gpu-classes-by-subset.md`.
fn by_gpu_tag() -> LbSubsetConfig {
    let selector = LbSubsetSelector {
        keys: vec![endpoint::GPU_TAGS.to_owned()],
        // No worker with this tag: on to the next of the list. Anything else would end the list here.
        fallback_policy: LbSubsetSelectorFallbackPolicy::NoFallback.into(),
        ..LbSubsetSelector::default()
    };
    LbSubsetConfig {
        fallback_policy: LbSubsetFallbackPolicy::AnyEndpoint.into(),
        metadata_fallback_policy: LbSubsetMetadataFallbackPolicy::FallbackList.into(),
        // An endpoint has many tags and is in the subset of each.
        list_as_any: true,
        // Also within a subset, in which a locality counts by the part of its endpoints that has the tag.
        locality_weight_aware: true,
        scale_locality_weight: true,
        subset_selectors: vec![selector],
        ..LbSubsetConfig::default()
    }
}

fn http2(connections: &PoolConnections) -> HttpProtocolOptions {
    let Keepalive {
        interval_s, timeout_s, ..
    } = connections.keepalive;
    let http2 = Http2ProtocolOptions {
        // A dead worker's connection is noticed within the timeout even when no request is under way.
        connection_keepalive: Some(KeepaliveSettings {
            interval: seconds(interval_s),
            timeout: seconds(timeout_s),
            ..KeepaliveSettings::default()
        }),
        max_concurrent_streams: uint(connections.max_concurrent_streams),
        initial_stream_window_size: connections.initial_stream_window_bytes.and_then(uint),
        initial_connection_window_size: connections.initial_connection_window_bytes.and_then(uint),
        ..Http2ProtocolOptions::default()
    };
    let explicit = ExplicitHttpConfig {
        protocol_config: Some(ProtocolConfig::Http2ProtocolOptions(http2)),
    };
    HttpProtocolOptions {
        upstream_protocol_options: Some(UpstreamProtocolOptions::ExplicitHttpConfig(explicit)),
        common_http_protocol_options: Some(CommonProtocolOptions {
            idle_timeout: seconds(connections.idle_timeout_s),
            max_requests_per_connection: connections.max_requests_per_connection.and_then(uint),
            ..CommonProtocolOptions::default()
        }),
        ..HttpProtocolOptions::default()
    }
}

/// The kernel's probes, for where nobody answers even a ping: as often as those of HTTP/2.
fn probes(keepalive: &Keepalive) -> TcpKeepalive {
    TcpKeepalive {
        keepalive_time: uint(keepalive.interval_s),
        keepalive_interval: uint(keepalive.timeout_s),
        keepalive_probes: uint(PROBES),
    }
}

/// A killed worker stays in etcd until its lease runs out. Until then connections to it are refused; two such failures
/// (or three gateway errors) take it out. Half of the hosts at most, so that a wrong verdict cannot empty the cluster.
fn outliers() -> OutlierDetection {
    OutlierDetection {
        split_external_local_origin_errors: true,
        consecutive_local_origin_failure: uint(2),
        enforcing_consecutive_local_origin_failure: uint(100),
        consecutive_gateway_failure: uint(3),
        enforcing_consecutive_gateway_failure: uint(100),
        // Errors of the model itself are no sign of a bad host.
        enforcing_consecutive_5xx: uint(0),
        enforcing_success_rate: uint(0),
        enforcing_local_origin_success_rate: uint(0),
        interval: millis(1000),
        base_ejection_time: millis(5000),
        max_ejection_percent: uint(50),
        always_eject_one_host: truth(false),
        ..OutlierDetection::default()
    }
}

fn breakers(limits: &PoolLimits, connections: &PoolConnections, beside: Vec<Thresholds>) -> CircuitBreakers {
    let mut thresholds = vec![thresholds(limits, RoutingPriority::Default)];
    thresholds.extend(beside);
    let per_worker = connections.max_per_worker.map(|most| Thresholds {
        max_connections: uint(most),
        ..Thresholds::default()
    });
    CircuitBreakers {
        thresholds,
        per_host_thresholds: per_worker.into_iter().collect(),
    }
}

fn thresholds(limits: &PoolLimits, priority: RoutingPriority) -> Thresholds {
    Thresholds {
        priority: priority.into(),
        max_connections: uint(limits.max_connections),
        max_pending_requests: uint(limits.max_pending_requests),
        max_requests: uint(limits.max_requests),
        retry_budget: Some(RetryBudget {
            budget_percent: Some(Percent {
                value: limits.retry_percent.into(),
            }),
            min_retry_concurrency: uint(limits.min_retries),
            ..RetryBudget::default()
        }),
        ..Thresholds::default()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn no_two_clusters_share_their_statistics() {
        let names = [
            "a_b/c", "a/b_c", "a.b/c", "a/b.c", "a-b/c", "a/b-c", "a/b/c", "a_b/c/d", "a/b_c/d", "a/b/c_d", "a/b/c.d",
        ];
        let stat_names: std::collections::BTreeSet<String> = names.iter().map(|name| stat_name(name)).collect();
        assert_eq!(stat_names.len(), names.len(), "{stat_names:?}");
        assert!(
            stat_names.iter().all(|name| !name.contains(['.', '/', ':'])),
            "{stat_names:?}"
        );
        assert_eq!(stat_name("minilm/v1"), "minilm_v1");
    }
}
