//! RDS: from `x-kilocard-route` and `x-kilocard-pool`, which the filter set, to the cluster of the pool.
//!
//! A matcher tree with an exact-match map, which Envoy looks up by hash: the cost does not grow with the number of model
//! versions, as it would with a list of routes. Below each version another one, by pool. A pool that is not there (any more)
//! leads to the version's own cluster: pools may come and go while filters know more or fewer of them.

use crate::snapshot::GATEWAY;
use crate::snapshot::placement::route_key;
use crate::snapshot::pool::{Pools, cluster_name};
use crate::snapshot::wire::{append_entry, append_field, extension, millis, uint};
use envoy_types::pb::envoy::config::common::mutation_rules::v3::{HeaderMutation, header_mutation};
use envoy_types::pb::envoy::config::core::v3::header_value_option::HeaderAppendAction;
use envoy_types::pb::envoy::config::core::v3::{
    DataSource, HeaderValue, HeaderValueOption, RoutingPriority, data_source,
};
use envoy_types::pb::envoy::config::route::v3::retry_policy::{RetryBackOff, RetryHostPredicate, retry_host_predicate};
use envoy_types::pb::envoy::config::route::v3::route::Action;
use envoy_types::pb::envoy::config::route::v3::route_action::{
    ClusterSpecifier, MaxStreamDuration, RequestMirrorPolicy,
};
use envoy_types::pb::envoy::config::route::v3::route_match::PathSpecifier;
use envoy_types::pb::envoy::config::route::v3::{
    DirectResponseAction, RetryPolicy, Route, RouteAction, RouteConfiguration, RouteMatch, VirtualHost,
};
use envoy_types::pb::envoy::extensions::retry::host::previous_hosts::v3::PreviousHostsPredicate;
use envoy_types::pb::envoy::r#type::matcher::v3::HttpRequestHeaderMatchInput;
use envoy_types::pb::xds::r#type::matcher::v3::Matcher;
use envoy_types::pb::xds::r#type::matcher::v3::matcher::{MatcherTree, OnMatch, on_match};
use envoy_types::util::pack_any;
use kilocard_policy::config::BULK_POOL;
use kilocard_policy::headers;
use kilocard_registry::worker::ServedModel;
use kilocard_xds::snapshot::Resource;
use prost::Message;
use std::collections::BTreeMap;

/// Numbers of the fields that are appended by hand, from Envoy's and xDS' protos.
mod field {
    /// `RouteConfiguration.virtual_hosts`
    pub(super) const VIRTUAL_HOSTS: u32 = 2;
    /// `VirtualHost.matcher`
    pub(super) const MATCHER: u32 = 21;
    /// `Matcher.OnMatch.matcher`
    pub(super) const NESTED_MATCHER: u32 = 1;
    /// `Matcher.matcher_tree`
    pub(super) const MATCHER_TREE: u32 = 2;
    /// `Matcher.MatcherTree.exact_match_map`
    pub(super) const EXACT_MATCH_MAP: u32 = 2;
    /// `Matcher.MatcherTree.MatchMap.map`
    pub(super) const MAP: u32 = 1;
}

/// What stands on a copy in place of where it goes.
const SHADOW_COPY: &str = "1";

/// Failures that happen before a worker has begun on a request; anything later may not be repeated blindly.
const RETRY_ON: &str = "connect-failure,refused-stream,reset-before-request";

/// The one route configuration. `served` comes sorted.
pub fn build<'a>(served: impl Iterator<Item = &'a ServedModel>, pools: &Pools) -> Resource {
    let mut map = Vec::new();
    for served in served {
        append_entry(&mut map, field::MAP, &route_key(served), &by_pool(served, pools));
    }
    let mut host = VirtualHost {
        name: GATEWAY.to_owned(),
        domains: vec!["*".to_owned()],
        // Envoy takes no empty map: with nothing to match, the answer to everything is the same.
        routes: if map.is_empty() { vec![unroutable()] } else { Vec::new() },
        ..VirtualHost::default()
    }
    .encode_to_vec();
    if !map.is_empty() {
        append_field(&mut host, field::MATCHER, &matcher(headers::ROUTE, &map, unroutable()));
    }
    let mut configuration = RouteConfiguration {
        name: GATEWAY.to_owned(),
        ..RouteConfiguration::default()
    }
    .encode_to_vec();
    append_field(&mut configuration, field::VIRTUAL_HOSTS, &host);
    Resource::new(GATEWAY, configuration)
}

/// What is done with the requests of a version, encoded: each pool has a route of its own.
fn by_pool(served: &ServedModel, pools: &Pools) -> Vec<u8> {
    let own = route_key(served);
    let built_in = (BULK_POOL.to_owned(), to_cluster(&own, RoutingPriority::High));
    let declared = pools.of_model(&served.model);
    let declared = declared.map(|pool| {
        let cluster = cluster_name(served, pool.name);
        (pool.name.to_owned(), to_cluster(&cluster, RoutingPriority::Default))
    });
    let routes: BTreeMap<String, Route> = declared.chain([built_in]).collect();
    let mut map = Vec::new();
    for (pool, route) in routes {
        append_entry(&mut map, field::MAP, &pool, &on_match("pool", route).encode_to_vec());
    }
    let otherwise = to_cluster(&own, RoutingPriority::Default);
    let mut on_match = Vec::new();
    append_field(
        &mut on_match,
        field::NESTED_MATCHER,
        &matcher(headers::POOL, &map, otherwise),
    );
    on_match
}

/// The encoded matcher of a header over an encoded map.
fn matcher(header: &str, map: &[u8], otherwise: Route) -> Vec<u8> {
    let input = HttpRequestHeaderMatchInput {
        header_name: header.to_owned(),
    };
    let mut tree = MatcherTree {
        input: Some(extension("envoy.matching.inputs.request_headers", input)),
        tree_type: None,
    }
    .encode_to_vec();
    append_field(&mut tree, field::EXACT_MATCH_MAP, map);
    let on_no_match = Some(Box::new(on_match("otherwise", otherwise)));
    let mut matcher = Matcher {
        on_no_match,
        matcher_type: None,
    }
    .encode_to_vec();
    append_field(&mut matcher, field::MATCHER_TREE, &tree);
    matcher
}

fn on_match(name: &str, route: Route) -> OnMatch {
    OnMatch {
        on_match: Some(on_match::OnMatch::Action(extension(name, route))),
        ..OnMatch::default()
    }
}

/// Streams last as long as they last: the client's deadline (grpc-timeout) is the only limit, and is enforced here.
fn to_cluster(name: &str, priority: RoutingPriority) -> Route {
    let action = RouteAction {
        priority: priority.into(),
        cluster_specifier: Some(ClusterSpecifier::Cluster(name.to_owned())),
        timeout: millis(0),
        max_stream_duration: Some(MaxStreamDuration {
            // 0: no cap above what the client asks for.
            grpc_timeout_header_max: millis(0),
            ..MaxStreamDuration::default()
        }),
        retry_policy: Some(retries()),
        request_mirror_policies: vec![shadow()],
        ..RouteAction::default()
    };
    Route {
        r#match: anything(),
        action: Some(Action::Route(action)),
        ..Route::default()
    }
}

/// A request that the decision also wants at another version is copied there, and the answer to the copy is dropped. The copy
/// passes no filter, so its headers are made fit here: it is routed to the other version, as the worker there checks, and
/// marked as a copy. The host stays as it is: Envoy would append `-shadow`, which makes no valid `[::1]-shadow:8080`.
fn shadow() -> RequestMirrorPolicy {
    RequestMirrorPolicy {
        cluster_header: headers::SHADOW.to_owned(),
        disable_shadow_host_suffix_append: true,
        request_headers_mutations: vec![
            overwrite(headers::ROUTE, format!("%REQ({})%", headers::SHADOW)),
            overwrite(headers::SHADOW, SHADOW_COPY.to_owned()),
        ],
        ..RequestMirrorPolicy::default()
    }
}

fn overwrite(key: &str, value: String) -> HeaderMutation {
    let header = HeaderValue {
        key: key.to_owned(),
        value,
        ..HeaderValue::default()
    };
    let option = HeaderValueOption {
        header: Some(header),
        append_action: HeaderAppendAction::OverwriteIfExistsOrAdd.into(),
        ..HeaderValueOption::default()
    };
    HeaderMutation {
        action: Some(header_mutation::Action::Append(option)),
    }
}

fn retries() -> RetryPolicy {
    let elsewhere = RetryHostPredicate {
        name: "envoy.retry_host_predicates.previous_hosts".to_owned(),
        config_type: Some(retry_host_predicate::ConfigType::TypedConfig(pack_any(
            PreviousHostsPredicate {},
        ))),
    };
    RetryPolicy {
        retry_on: RETRY_ON.to_owned(),
        num_retries: uint(2),
        retry_host_predicate: vec![elsewhere],
        host_selection_retry_max_attempts: 5,
        retry_back_off: Some(RetryBackOff {
            base_interval: millis(5),
            max_interval: millis(50),
        }),
        ..RetryPolicy::default()
    }
}

/// For a request without a decision, or with one for which there is no cluster (yet): a gRPC client sees UNAVAILABLE with
/// this text, since Envoy turns local replies to gRPC requests into trailers-only responses.
fn unroutable() -> Route {
    let text = format!(
        "no cluster for this request's {}: the model version is not deployed",
        headers::ROUTE
    );
    let body = DataSource {
        specifier: Some(data_source::Specifier::InlineString(text)),
        ..DataSource::default()
    };
    let response = DirectResponseAction {
        status: 503,
        body: Some(body),
        ..DirectResponseAction::default()
    };
    Route {
        r#match: anything(),
        action: Some(Action::DirectResponse(response)),
        ..Route::default()
    }
}

/// A route needs a path condition even inside a matcher, which has matched already.
fn anything() -> Option<RouteMatch> {
    Some(RouteMatch {
        path_specifier: Some(PathSpecifier::Prefix("/".to_owned())),
        ..RouteMatch::default()
    })
}
