use super::*;
use crate::audience::{Audience, Client};
use crate::model::Mesh;
use crate::snapshot::Builder;
use crate::snapshot::tests::{mesh, options, policies, worker};
use crate::weights::SharedWeights;
use envoy_types::pb::envoy::config::cluster::v3::Cluster;
use envoy_types::pb::envoy::config::endpoint::v3::ClusterLoadAssignment;
use envoy_types::pb::envoy::config::listener::v3::Listener;
use envoy_types::pb::envoy::config::route::v3::header_matcher::HeaderMatchSpecifier;
use envoy_types::pb::envoy::config::route::v3::route::Action;
use envoy_types::pb::envoy::config::route::v3::route_action::ClusterSpecifier;
use envoy_types::pb::envoy::config::route::v3::route_match::PathSpecifier;
use envoy_types::pb::envoy::config::route::v3::{HeaderMatcher, Route, RouteConfiguration};
use envoy_types::pb::envoy::extensions::filters::network::http_connection_manager::v3::HttpConnectionManager;
use envoy_types::pb::envoy::r#type::matcher::v3::string_matcher::MatchPattern;
use prost::Message;
use serde_json::{Value, json};
use std::time::Instant;

fn edition(mesh: &Mesh) -> Snapshot {
    let mut builder = Builder::new(options(), SharedWeights::default());
    let proxies = builder.build(mesh, Instant::now());
    let audience = Audience {
        client: Client::Grpc,
        ..Audience::default()
    };
    Snapshot::clone(&builder.editions(proxies, mesh).of(&audience))
}

fn decode<T: Message + Default>(snapshot: &Snapshot, kind: ResourceType, name: &str) -> T {
    T::decode(snapshot.set(kind).unwrap().get(name).unwrap().body.as_ref()).unwrap()
}

/// A policy of `m`: `v1` 70, `v2` 20 with `v3` behind it, `v3` 10.
fn policy(more: &Value) -> Value {
    let mut document = json!({
        "api_version": "kilocard/v1", "kind": "RoutingPolicy", "metadata": {"name": "m"},
        "spec": {"model": "m", "versions": [
            {"version": "v1", "weight": 70}, {"version": "v2", "weight": 20, "fallback": ["v3"]},
            {"version": "v3", "weight": 10},
        ]},
    });
    for (field, value) in more.as_object().unwrap() {
        document["spec"][field] = value.clone();
    }
    document
}

fn mesh_of(policy: Value, workers: &[(&str, &[(&str, &str)])]) -> Mesh {
    let workers = workers
        .iter()
        .zip(8001..)
        .map(|((id, models), port)| worker(id, port, models, None));
    Mesh {
        workers: Arc::new(workers.collect()),
        policies: policies(&[policy]),
        ..Mesh::default()
    }
}

const ALL: &[(&str, &[(&str, &str)])] = &[("a", &[("m", "v1")]), ("b", &[("m", "v2")]), ("c", &[("m", "v3")])];

fn header(matcher: &HeaderMatcher) -> String {
    let name = &matcher.name;
    match matcher.header_match_specifier.as_ref().unwrap() {
        HeaderMatchSpecifier::PresentMatch(present) => format!("{}{name}", if *present { "" } else { "no " }),
        HeaderMatchSpecifier::StringMatch(string) => match string.match_pattern.as_ref().unwrap() {
            MatchPattern::Exact(value) => format!("{name}={value}"),
            MatchPattern::SafeRegex(regex) => format!("{name}~{}", regex.regex),
            other => panic!("{other:?}"),
        },
        other => panic!("{other:?}"),
    }
}

/// `conditions -> clusters`, with weights where there are several.
fn written(route: &Route) -> String {
    let matches = route.r#match.as_ref().unwrap();
    let path = match matches.path_specifier.as_ref().unwrap() {
        PathSpecifier::Prefix(prefix) if prefix == "/" => None,
        PathSpecifier::Prefix(prefix) => Some(format!("{prefix}…")),
        PathSpecifier::Path(path) => Some(path.clone()),
        PathSpecifier::SafeRegex(regex) => Some(format!("path~{}", regex.regex)),
        other => panic!("{other:?}"),
    };
    let conditions: Vec<String> = matches.headers.iter().map(header).chain(path).collect();
    let Some(Action::Route(action)) = &route.action else {
        panic!("{route:?}")
    };
    let to = match action.cluster_specifier.as_ref().unwrap() {
        ClusterSpecifier::Cluster(cluster) => cluster.clone(),
        ClusterSpecifier::WeightedClusters(weighted) => {
            let of = |weight: u32, name: &str| format!("{weight} {name}");
            let shares = weighted
                .clusters
                .iter()
                .map(|share| of(share.weight.unwrap().value, &share.name));
            shares.collect::<Vec<_>>().join(", ")
        }
        other => panic!("{other:?}"),
    };
    format!("{} -> {to}", conditions.join(" & "))
}

fn routes(mesh: &Mesh, target: &str) -> Vec<String> {
    let routes: RouteConfiguration = decode(&edition(mesh), ResourceType::Route, target);
    routes.virtual_hosts[0].routes.iter().map(written).collect()
}

/// Those of requests that name the model and no version.
fn unpinned(mesh: &Mesh) -> Vec<String> {
    const NAMED: &str = "x-model=m & no x-model-version";
    let routes = routes(mesh, GATEWAY);
    let routes = routes.iter().filter_map(|route| route.strip_prefix(NAMED));
    routes
        .map(|route| route.trim_start_matches(" & ").trim().to_owned())
        .collect()
}

#[test]
fn a_target_is_an_api_listener_that_names_its_routes() {
    let edition = edition(&mesh());
    let names = |kind| -> Vec<String> { edition.set(kind).unwrap().iter().map(|one| one.name.clone()).collect() };
    assert_eq!(names(ResourceType::Listener), ["gateway", "minilm"]);
    assert_eq!(names(ResourceType::Route), ["gateway", "minilm"]);
    assert!(edition.set(ResourceType::Extension).unwrap().is_empty());
    let listener: Listener = decode(&edition, ResourceType::Listener, "minilm");
    assert!(listener.address.is_none() && listener.filter_chains.is_empty());
    let api = listener.api_listener.unwrap().api_listener.unwrap();
    let manager = HttpConnectionManager::decode(api.value.as_slice()).unwrap();
    assert_eq!(manager.http_filters.len(), 1, "the terminal filter alone");
}

#[test]
fn every_cluster_that_a_route_names_is_there_with_its_endpoints() {
    let edition = edition(&mesh());
    for name in ["minilm/v1", "minilm/v2", "other/v9"] {
        let cluster: Cluster = decode(&edition, ResourceType::Cluster, name);
        assert!(cluster.lb_subset_config.is_none() && cluster.outlier_detection.is_none());
        let _: ClusterLoadAssignment = decode(&edition, ResourceType::Endpoints, name);
    }
}

#[test]
fn each_worker_is_a_locality_with_its_weight() {
    let assignment: ClusterLoadAssignment = decode(&edition(&mesh()), ResourceType::Endpoints, "minilm/v1");
    let localities: Vec<(String, u32, usize)> = assignment
        .endpoints
        .iter()
        .map(|locality| {
            let name = locality.locality.as_ref().unwrap().sub_zone.clone();
            (
                name,
                locality.load_balancing_weight.unwrap().value,
                locality.lb_endpoints.len(),
            )
        })
        .collect();
    let expected = [
        ("10.0.0.7:8001".to_owned(), 400, 1),
        ("10.0.0.7:8002".to_owned(), 101, 1),
    ];
    assert_eq!(localities, expected);
}

#[test]
fn pins_come_before_the_split_and_an_unknown_pin_matches_nothing() {
    let mesh = mesh_of(policy(&json!({"default": true})), ALL);
    let split = "7000 m/v1, 2000 m/v2, 1000 m/v3";
    let of = |naming: &str| {
        let mut routes: Vec<String> = ["v1", "v2", "v3"]
            .map(|v| format!("{naming} & x-model-version={v} -> m/{v}"))
            .to_vec();
        routes.push(format!("{naming} & no x-model-version -> {split}"));
        routes
    };
    let expected = [of("x-model=m"), of("no x-model")].concat();
    assert_eq!(routes(&mesh, GATEWAY), expected);
    assert_eq!(routes(&mesh, "m"), expected, "by its own name as well");
    let other = mesh_of(policy(&json!({})), ALL);
    assert_eq!(
        routes(&other, GATEWAY),
        of("x-model=m"),
        "not the default: it has to be named"
    );
}

#[test]
fn the_share_of_a_version_that_is_not_ready_goes_to_its_fallback_and_a_pin_does_not() {
    let without_v2 = &[ALL[0], ALL[2]];
    let mesh = mesh_of(policy(&json!({})), without_v2);
    assert_eq!(unpinned(&mesh), ["-> 7000 m/v1, 3000 m/v3"]);
    let pin = "x-model=m & x-model-version=v2 -> ";
    assert!(routes(&mesh, GATEWAY).contains(&format!("{pin}m/v2")));
    let falls_back = mesh_of(policy(&json!({"pinned_fallback": true})), without_v2);
    assert!(routes(&falls_back, GATEWAY).contains(&format!("{pin}m/v3")));
    assert_eq!(
        unpinned(&mesh_of(policy(&json!({})), &[])),
        ["-> 7000 m/v1, 2000 m/v2, 1000 m/v3"]
    );
}

#[test]
fn rules_count_in_their_order_as_far_as_they_can_be_expressed() {
    let rules = json!([
        {"name": "one", "match": {"tenants": ["acme"]}, "versions": [{"version": "v2", "weight": 100}]},
        {"name": "two", "match": {"tenants": ["a.b", "c"], "methods": ["/p.S/M", "/p.T/*"]},
         "versions": [{"version": "v1", "weight": 50}, {"version": "v3", "weight": 50}]},
        {"name": "range", "match": {"headers": [{"name": "x-n", "range": {"min": 1}}]},
         "versions": [{"version": "v2", "weight": 100}]},
        {"name": "gpu", "match": {"headers": [{"name": "x-n", "present": true}]}, "gpu": {"class": "big"}},
        {"name": "pattern", "match": {"methods": ["/p.S/M"], "headers": [{"name": "x-p", "pattern": "b(?:eta)?"}]},
         "versions": [{"version": "v2", "weight": 100}]},
    ]);
    let classes = json!({
        "api_version": "kilocard/v1", "kind": "MeshPolicy", "metadata": {"name": "mesh"},
        "spec": {"gpu_classes": [{"name": "big", "select": {"min_memory_gb": 40}}]},
    });
    let mut mesh = mesh_of(policy(&json!({})), ALL);
    mesh.policies = policies(&[
        policy(&json!({"rules": rules, "shadow": {"version": "v3", "percent": 1, "max_per_second": 1}})),
        classes,
    ]);
    assert_eq!(
        unpinned(&mesh),
        [
            "x-tenant-id=acme -> m/v2",
            r"x-tenant-id~a\.b|c & path~\/p\.S\/M|\/p\.T\/.* -> 5000 m/v1, 5000 m/v3",
            "x-n -> 7000 m/v1, 2000 m/v2, 1000 m/v3",
            "x-p~b(?:eta)? & /p.S/M -> m/v2",
            "-> 7000 m/v1, 2000 m/v2, 1000 m/v3",
        ]
    );
    let limits = limits::of(&mesh);
    let fields: Vec<&str> = limits.iter().map(|limit| limit.field.as_str()).collect();
    assert_eq!(
        fields,
        ["spec.sticky_by", "spec.rules[2].match", "spec.shadow", "spec.gpu"]
    );
    assert!(
        limits[1]
            .effect
            .starts_with("rule range does not count: a range of x-n"),
        "{limits:?}"
    );
}

#[test]
fn conditions_on_what_clients_cannot_see_are_not_expressed() {
    for (condition, why) in [
        (json!({"name": ":authority", "present": true}), "no header"),
        (json!({"name": "x-blob-bin", "present": true}), "cannot be seen"),
        (json!({"name": "grpc-timeout", "present": true}), "cannot be seen"),
        (json!({"name": "user-agent", "one_of": ["x"]}), "cannot be seen"),
        (json!({"name": "x-p", "pattern": "(?i)b"}), "RE2"),
    ] {
        let rules =
            json!([{"name": "r", "match": {"headers": [condition]}, "versions": [{"version": "v2", "weight": 100}]}]);
        let mesh = mesh_of(policy(&json!({"rules": rules, "sticky_by": []})), ALL);
        assert_eq!(unpinned(&mesh).len(), 1);
        let limits = limits::of(&mesh);
        assert!(limits.len() == 1 && limits[0].effect.contains(why), "{limits:?}");
    }
}

#[test]
fn a_worker_that_cannot_be_told_which_version_is_meant_is_not_offered() {
    let mesh = mesh_of(
        policy(&json!({"sticky_by": []})),
        &[("a", &[("m", "v1"), ("m", "v2")]), ("c", &[("m", "v3")])],
    );
    let edition = edition(&mesh);
    let endpoints = |version: &str| {
        let assignment: ClusterLoadAssignment = decode(&edition, ResourceType::Endpoints, &format!("m/{version}"));
        assignment.endpoints.len()
    };
    assert_eq!(["v1", "v2", "v3"].map(endpoints), [0, 0, 1]);
    assert_eq!(unpinned(&mesh), ["-> 7000 m/v1, 3000 m/v3"]);
    let limits = limits::of(&mesh);
    assert!(limits.len() == 1 && limits[0].of == "worker a", "{limits:?}");
}

#[test]
fn a_model_called_like_the_gateway_has_no_target_of_its_own() {
    let document = policy(&json!({"model": GATEWAY, "sticky_by": []}));
    let mesh = mesh_of(document, &[]);
    assert_eq!(targets(&mesh.policies).collect::<Vec<_>>(), [GATEWAY]);
    assert_eq!(edition(&mesh).set(ResourceType::Route).unwrap().len(), 1);
    assert_eq!(limits::of(&mesh)[0].field, "spec.model");
}
