//! RDS: plain routes, the first that matches counts. gRPC clients know neither matcher trees nor filters of ours, so what
//! the filter decides for proxies is written out: exact pins, then the rules, then the policy's split.
//!
//! A request that names a model or a version that is not there matches nothing, and fails as UNAVAILABLE.

use super::Model;
use super::rule;
use crate::snapshot::GATEWAY;
use crate::snapshot::wire::uint;
use envoy_types::pb::envoy::config::route::v3::route::Action;
use envoy_types::pb::envoy::config::route::v3::route_action::ClusterSpecifier;
use envoy_types::pb::envoy::config::route::v3::weighted_cluster::ClusterWeight;
use envoy_types::pb::envoy::config::route::v3::{
    HeaderMatcher, Route, RouteAction, RouteConfiguration, RouteMatch, VirtualHost, WeightedCluster,
};
use kilocard_policy::config::Weight;
use kilocard_policy::headers;
use kilocard_xds::snapshot::Resource;
use prost::Message;

/// For every model: by `x-model`, and without it the default.
pub(super) fn of_gateway(models: &[Model<'_>]) -> Resource {
    let routes = models.iter().flat_map(|model| routes(model, model.policy.default));
    configuration(GATEWAY, routes.collect())
}

/// For the clients of one model, who need not name it. One who names another is not served something else.
pub(super) fn of_model(model: &Model<'_>) -> Resource {
    configuration(&model.policy.model, routes(model, true))
}

fn configuration(target: &str, routes: Vec<Route>) -> Resource {
    let host = VirtualHost {
        name: target.to_owned(),
        domains: vec!["*".to_owned()],
        routes,
        ..VirtualHost::default()
    };
    let configuration = RouteConfiguration {
        name: target.to_owned(),
        virtual_hosts: vec![host],
        ..RouteConfiguration::default()
    };
    Resource::new(target, configuration.encode_to_vec())
}

/// The routes of the requests that name the model, and of those that name none if so many are meant for it.
fn routes(model: &Model<'_>, nameless: bool) -> Vec<Route> {
    let named = rule::is(headers::X_MODEL, &model.policy.model);
    let namings = std::iter::once(named).chain(nameless.then(|| rule::present(headers::X_MODEL, false)));
    namings.flat_map(|naming| of_naming(model, &naming)).collect()
}

fn of_naming(model: &Model<'_>, naming: &HeaderMatcher) -> Vec<Route> {
    let policy = model.policy;
    let mut routes: Vec<Route> = policy
        .versions
        .iter()
        .map(|version| {
            let cluster = if policy.pinned_fallback {
                model.serving(&version.version)
            } else {
                model.cluster(&version.version)
            };
            let pin = rule::is(headers::X_MODEL_VERSION, &version.version);
            route(all_of(vec![naming.clone(), pin]), ClusterSpecifier::Cluster(cluster))
        })
        .collect();
    let unpinned = vec![naming.clone(), rule::present(headers::X_MODEL_VERSION, false)];
    let split = split(
        model,
        policy
            .versions
            .iter()
            .map(|version| (version.version.as_str(), version.weight)),
    );
    // One version takes everything, whatever the rules say.
    let rules = policy.rules.iter().filter(|_| policy.versions.len() > 1);
    for declared in rules {
        // One that cannot be expressed is left out; the limits tell of it.
        let Ok(matches) = rule::to_match(&declared.match_, unpinned.clone()) else {
            continue;
        };
        let own = declared
            .versions
            .iter()
            .map(|version| (version.version.as_str(), version.weight));
        // A rule without a split is the first that matches all the same.
        let own = if declared.versions.is_empty() {
            split.clone()
        } else {
            self::split(model, own)
        };
        routes.push(route(matches, own));
    }
    routes.push(route(all_of(unpinned), split));
    routes
}

/// Where requests go that are drawn: each version's share to the cluster that serves it now.
fn split<'v>(model: &Model<'_>, shares: impl Iterator<Item = (&'v str, Weight)>) -> ClusterSpecifier {
    let mut clusters: Vec<(String, u32)> = Vec::new();
    for (version, weight) in shares.filter(|(_, weight)| *weight != Weight::default()) {
        let (cluster, weight) = (model.serving(version), u32::from(weight.basis_points()));
        match clusters.iter_mut().find(|(known, _)| *known == cluster) {
            Some((_, share)) => *share += weight,
            None => clusters.push((cluster, weight)),
        }
    }
    if let [(cluster, _)] = clusters.as_slice() {
        return ClusterSpecifier::Cluster(cluster.clone());
    }
    let clusters = clusters.into_iter().map(|(name, weight)| ClusterWeight {
        name,
        weight: uint(weight),
        ..ClusterWeight::default()
    });
    ClusterSpecifier::WeightedClusters(WeightedCluster {
        clusters: clusters.collect(),
        ..WeightedCluster::default()
    })
}

fn all_of(headers: Vec<HeaderMatcher>) -> RouteMatch {
    RouteMatch {
        path_specifier: Some(rule::anything()),
        headers,
        ..RouteMatch::default()
    }
}

/// Without retries: a client repeats by itself what no worker has begun on (gRFC A6, "transparent retries"), and nothing else
/// may be repeated blindly. Without a timeout: the client's deadline holds.
fn route(matches: RouteMatch, to: ClusterSpecifier) -> Route {
    let action = RouteAction {
        cluster_specifier: Some(to),
        ..RouteAction::default()
    };
    Route {
        r#match: Some(matches),
        action: Some(Action::Route(action)),
        ..Route::default()
    }
}
