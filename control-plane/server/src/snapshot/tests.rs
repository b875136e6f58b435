use super::*;
use crate::admission::{Admission, Candidate};
use crate::model::Worker;
use crate::snapshot::filter::Delivery;
use crate::weights::Weights;
use envoy_types::pb::envoy::config::cluster::v3::Cluster;
use envoy_types::pb::envoy::config::core::v3::{HealthStatus, RoutingPriority, TypedExtensionConfig};
use envoy_types::pb::envoy::config::endpoint::v3::{ClusterLoadAssignment, LbEndpoint};
use envoy_types::pb::envoy::config::listener::v3::{Listener, filter as network_filter};
use envoy_types::pb::envoy::config::route::v3::route::Action;
use envoy_types::pb::envoy::config::route::v3::route_action::ClusterSpecifier;
use envoy_types::pb::envoy::config::route::v3::{Route, RouteConfiguration};
use envoy_types::pb::envoy::extensions::filters::http::wasm::v3::Wasm;
use envoy_types::pb::envoy::extensions::filters::network::http_connection_manager::v3::HttpConnectionManager;
use envoy_types::pb::envoy::extensions::upstreams::http::v3::HttpProtocolOptions;
use envoy_types::pb::xds::r#type::matcher::v3::Matcher;
use envoy_types::pb::xds::r#type::matcher::v3::matcher::{MatcherType, OnMatch, matcher_tree::TreeType, on_match};
use kilocard_policy::config::{FilterConfig, Keepalive};
use kilocard_registry::device::DeviceRecord;
use kilocard_registry::keepalive;
use kilocard_registry::layout::{DeviceId, PolicyId};
use kilocard_registry::telemetry::XidEvent;
use kilocard_registry::worker::{ServedModel, Telemetry};
use proptest::prelude::*;
use prost::Message;
use serde_json::json;
use std::collections::{BTreeMap, BTreeSet};
use std::sync::Arc;
use std::time::Duration;

mod filters;
mod pools;

fn served(model: &str, version: &str) -> ServedModel {
    ServedModel {
        model: model.to_owned(),
        version: version.to_owned(),
    }
}

pub(crate) fn worker(id: &str, port: u16, models: &[(&str, &str)], device: Option<&str>) -> (String, Arc<Worker>) {
    let worker = Worker {
        id: id.to_owned(),
        address: ([10, 0, 0, 7], port).into(),
        device: device.map(|pci| DeviceId {
            node: "n1".into(),
            pci: pci.into(),
        }),
        models: models.iter().map(|(model, version)| served(model, version)).collect(),
        mig_profile: None,
        locality: None,
        telemetry: None,
        draining: false,
        created: i64::from(port),
    };
    (id.to_owned(), Arc::new(worker))
}

fn admission(documents: &[serde_json::Value]) -> Admission {
    let candidates = documents.iter().map(|document| {
        let text = |pointer: &str| document.pointer(pointer).unwrap().as_str().unwrap().to_owned();
        let json = document.to_string().into_bytes().into();
        let id = PolicyId::new(text("/kind"), text("/metadata/name"));
        (id, Candidate { revision: 3, json })
    });
    let mut admission = Admission::default();
    admission.judge(&candidates.collect());
    admission
}

/// These documents in force.
pub(crate) fn policies(documents: &[serde_json::Value]) -> Arc<Policies> {
    let admission = admission(documents);
    assert_eq!(
        admission.in_force().len(),
        documents.len(),
        "{:?}",
        admission.verdicts()
    );
    Arc::clone(admission.in_force())
}

/// Two workers of `minilm/v1` on unlike cards, one short of memory; `v2` is named by the policy and served by nobody.
pub(crate) fn mesh() -> Mesh {
    let policy = json!({
        "api_version": "kilocard/v1", "kind": "RoutingPolicy", "metadata": {"name": "minilm"},
        "spec": {"model": "minilm", "default": true, "versions": [
            {"version": "v1", "weight": 90}, {"version": "v2", "weight": 10},
        ]},
    });
    let admission = admission(&[policy]);
    let card = |model: &str, simulated| {
        Arc::new(DeviceRecord {
            model: model.into(),
            memory_gb: 80.0,
            simulated,
            ..DeviceRecord::default()
        })
    };
    let (id, mut short) = worker("b", 8002, &[("minilm", "v1"), ("other", "v9")], Some("1"));
    Arc::make_mut(&mut short).telemetry = Some(Telemetry {
        memory_total_bytes: 100,
        memory_free_bytes: 15,
        ..Telemetry::default()
    });
    Mesh {
        revision: 0,
        workers: Arc::new(BTreeMap::from([
            worker("a", 8001, &[("minilm", "v1")], Some("0")),
            (id, short),
        ])),
        devices: Arc::new(BTreeMap::from([
            (
                DeviceId {
                    node: "n1".into(),
                    pci: "0".into(),
                },
                card("NVIDIA H100 80GB HBM3", true),
            ),
            (
                DeviceId {
                    node: "n1".into(),
                    pci: "1".into(),
                },
                card("NVIDIA A100-SXM4-80GB", false),
            ),
        ])),
        policies: Arc::clone(admission.in_force()),
        verdicts: Arc::clone(admission.verdicts()),
        rejected: Arc::default(),
    }
}

pub(crate) fn options() -> BuildOptions {
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("gateway.wasm");
    std::fs::write(&path, b"\0asm\x01\0\0\0").unwrap();
    let filter = FilterModule::load(&path, Delivery::Inline).unwrap();
    BuildOptions {
        gateway: ([0, 0, 0, 0], 8080).into(),
        filter,
        runtime_ttl: None,
        access_log: true,
        sync_cluster: "control-plane".to_owned(),
    }
}

/// Placed by weights that see it for the first time.
pub(crate) fn placement() -> Placement {
    let (mesh, mut weights) = (mesh(), Weights::default());
    weights.follow(&mesh, Instant::now());
    placement::place(&mesh, &weights)
}

fn build(mesh: &Mesh, options: &BuildOptions) -> Snapshot {
    Builder::new(options.clone(), SharedWeights::default()).build(mesh, Instant::now())
}

fn decode<T: Message + Default>(snapshot: &Snapshot, kind: ResourceType, name: &str) -> T {
    T::decode(snapshot.set(kind).unwrap().get(name).unwrap().body.as_ref()).unwrap()
}

/// The debug form without the fields that are not set and without the bytes of nested messages, which the tests decode.
fn compact(message: &impl std::fmt::Debug) -> String {
    let (text, mut lines, mut bytes) = (format!("{message:#?}"), Vec::new(), None);
    for line in text.lines() {
        let bare = line.trim();
        match &mut bytes {
            Some(count) if bare == "]," => {
                lines.push(format!("{} {count} bytes,", lines_indent(line) + "value:"));
                bytes = None;
            }
            Some(count) => *count += 1,
            None if bare == "value: [" => bytes = Some(0),
            None if [": None,", ": [],", ": \"\",", ": 0,", ": false,", ": {},"]
                .iter()
                .any(|d| bare.ends_with(d)) => {}
            None => lines.push(line.to_owned()),
        }
    }
    lines.join("\n")
}

fn lines_indent(line: &str) -> String {
    line.chars().take_while(|c| c.is_whitespace()).collect()
}

fn match_map(routes: &RouteConfiguration) -> BTreeMap<String, Route> {
    let Some(matcher) = &routes.virtual_hosts[0].matcher else {
        return BTreeMap::new();
    };
    let versions = exact_matches(matcher).into_iter();
    versions
        .map(|(key, on_match)| (key, default_route(&on_match)))
        .collect()
}

/// The route of a version that names no pool.
fn default_route(on_match: &OnMatch) -> Route {
    let Some(on_match::OnMatch::Matcher(matcher)) = &on_match.on_match else {
        panic!("no matcher: {on_match:?}")
    };
    route_of(matcher.on_no_match.as_ref().unwrap())
}

/// The routes of a version by pool.
fn exact_matches(matcher: &Matcher) -> BTreeMap<String, OnMatch> {
    let Some(MatcherType::MatcherTree(tree)) = &matcher.matcher_type else {
        panic!("no tree: {matcher:?}")
    };
    let Some(TreeType::ExactMatchMap(map)) = &tree.tree_type else {
        panic!("no map: {tree:?}")
    };
    map.map.clone().into_iter().collect()
}

fn route_of(on_match: &OnMatch) -> Route {
    let Some(on_match::OnMatch::Action(action)) = &on_match.on_match else {
        panic!("no action: {on_match:?}")
    };
    let config = action.typed_config.as_ref().unwrap();
    assert_eq!(config.type_url, "type.googleapis.com/envoy.config.route.v3.Route");
    Route::decode(config.value.as_slice()).unwrap()
}

#[test]
fn the_listener_decides_by_wasm_and_then_routes() {
    let listener: Listener = decode(&build(&mesh(), &options()), ResourceType::Listener, GATEWAY);
    let filter = &listener.filter_chains[0].filters[0];
    let Some(network_filter::ConfigType::TypedConfig(config)) = &filter.config_type else {
        panic!("{filter:?}")
    };
    let manager = HttpConnectionManager::decode(config.value.as_slice()).unwrap();
    insta::assert_snapshot!(format!("{}\n{}", compact(&listener), compact(&manager)));
}

#[test]
fn a_route_leads_to_the_cluster_of_its_name_and_everything_else_nowhere() {
    let routes: RouteConfiguration = decode(&build(&mesh(), &options()), ResourceType::Route, GATEWAY);
    let map = match_map(&routes);
    assert_eq!(map.keys().collect::<Vec<_>>(), ["minilm/v1", "minilm/v2", "other/v9"]);
    let matcher = routes.virtual_hosts[0].matcher.as_ref().unwrap();
    let otherwise = route_of(matcher.on_no_match.as_ref().unwrap());
    insta::assert_snapshot!(format!("{}\n{}", compact(&map["minilm/v1"]), compact(&otherwise)));
}

#[test]
fn without_models_every_request_is_told_so() {
    let snapshot = build(&Mesh::default(), &options());
    let routes: RouteConfiguration = decode(&snapshot, ResourceType::Route, GATEWAY);
    assert!(routes.virtual_hosts[0].matcher.is_none());
    assert!(matches!(
        routes.virtual_hosts[0].routes[0].action,
        Some(Action::DirectResponse(_))
    ));
}

#[test]
fn a_cluster_speaks_http2_and_ejects_dead_workers_fast() {
    let cluster: Cluster = decode(&build(&mesh(), &options()), ResourceType::Cluster, "minilm/v1");
    insta::assert_snapshot!(compact(&cluster));
}

/// [`mesh`] with these PoolPolicies besides, `minilm` being for embeddings.
#[test]
fn proxies_keep_connections_alive_as_workers_do() {
    let Keepalive {
        interval_s, timeout_s, ..
    } = Keepalive::default();
    assert_eq!(u64::from(interval_s), keepalive::INTERVAL.as_secs());
    assert_eq!(u64::from(timeout_s), keepalive::TIMEOUT.as_secs());
}

#[test]
fn endpoints_carry_weights_and_a_version_without_workers_has_none() {
    let snapshot = build(&mesh(), &options());
    let assignment: ClusterLoadAssignment = decode(&snapshot, ResourceType::Endpoints, "minilm/v1");
    let weights: Vec<u32> = assignment.endpoints[0]
        .lb_endpoints
        .iter()
        .map(|endpoint| endpoint.load_balancing_weight.unwrap().value)
        .collect();
    assert_eq!(weights, [400, 101], "on a grid of 5 % from the prior");
    let empty: ClusterLoadAssignment = decode(&snapshot, ResourceType::Endpoints, "minilm/v2");
    assert!(empty.endpoints.is_empty());
}

#[test]
fn an_endpoint_that_is_drained_stays_known_and_is_marked() {
    let mut mesh = mesh();
    let worker = Arc::make_mut(Arc::make_mut(&mut mesh.workers).get_mut("a").unwrap());
    let mut telemetry = Telemetry::default();
    telemetry.gpu.xids = vec![XidEvent { code: 79, at_ms: 0 }];
    worker.telemetry = Some(telemetry);
    let assignment: ClusterLoadAssignment = decode(&build(&mesh, &options()), ResourceType::Endpoints, "minilm/v1");
    let endpoints = assignment.endpoints[0].lb_endpoints.iter();
    let health: Vec<HealthStatus> = endpoints.map(LbEndpoint::health_status).collect();
    assert_eq!(health, [HealthStatus::Draining, HealthStatus::Unknown]);
}

#[test]
fn endpoints_carry_the_tags_that_requests_for_a_gpu_ask_for() {
    let assignment: ClusterLoadAssignment = decode(&build(&mesh(), &options()), ResourceType::Endpoints, "minilm/v1");
    insta::assert_snapshot!(compact(&assignment));
}

#[test]
fn of_two_workers_with_one_address_the_younger_is_believed() {
    let mut mesh = mesh();
    let (id, mut twin) = worker("0-restarted", 8001, &[("minilm", "v1")], None);
    Arc::make_mut(&mut twin).created = 9_999;
    Arc::make_mut(&mut mesh.workers).insert(id, twin);
    let mut weights = Weights::default();
    weights.follow(&mesh, Instant::now());
    let placement = placement::place(&mesh, &weights);
    let workers: Vec<&String> = placement[&served("minilm", "v1")].keys().collect();
    assert_eq!(workers, ["0-restarted", "b"]);
}

#[test]
fn a_builder_that_has_built_before_gives_the_same_as_a_new_one() {
    let (options, now) = (options(), Instant::now());
    let mut builder = Builder::new(options.clone(), SharedWeights::default());
    builder.build(&Mesh::default(), now);
    let first = mesh();
    assert_eq!(builder.build(&first, now), build(&first, &options));
    let mut second = first.clone();
    Arc::make_mut(Arc::make_mut(&mut second.workers).get_mut("b").unwrap()).telemetry = None;
    // Its weights follow slowly.
    builder.build(&second, now);
    let now = now + Duration::from_secs(120);
    assert_ne!(builder.build(&second, now), build(&first, &options));
    assert_eq!(builder.build(&second, now), build(&second, &options));
    let without_policies = Mesh {
        policies: Arc::default(),
        ..second
    };
    builder.build(&without_policies, now);
    let after = builder.build(&without_policies, now + linger::GRACE);
    assert_eq!(after, build(&without_policies, &options));
}

#[test]
fn a_version_that_leaves_policy_and_workers_at_once_keeps_its_route_while_old_filters_decide_for_it() {
    let (mut builder, now) = (Builder::new(options(), SharedWeights::default()), Instant::now());
    builder.build(&mesh(), now);
    let clusters = |snapshot: &Snapshot| snapshot.set(ResourceType::Cluster).unwrap().len();
    let routes = |snapshot: &Snapshot| match_map(&decode(snapshot, ResourceType::Route, GATEWAY)).len();
    let soon = builder.build(&Mesh::default(), now);
    assert_eq!((routes(&soon), clusters(&soon)), (3, 3));
    let assignment: ClusterLoadAssignment = decode(&soon, ResourceType::Endpoints, "minilm/v1");
    assert_eq!(assignment.endpoints[0].lb_endpoints.len(), 2);
    let filter = |snapshot: &Snapshot| snapshot.set(ResourceType::Extension).unwrap().version().clone();
    let later = builder.build(&Mesh::default(), builder.due().unwrap());
    assert_eq!(filter(&soon), filter(&later), "the filter does not linger");
    assert_eq!((routes(&later), clusters(&later)), (0, 0));
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(48))]

    #[test]
    fn a_mesh_gives_the_same_bytes_in_whatever_order_it_came_to_be(
        ids in prop::collection::vec((0u8..12, 0u8..4, 0u8..3), 1..12),
    ) {
        let options = options();
        let all = |order: &mut dyn Iterator<Item = &(u8, u8, u8)>| {
            let mut mesh = mesh();
            for (id, model, version) in order {
                let (model, version) = (format!("m{model}"), format!("v{version}"));
                let id = format!("w{id}-{model}-{version}");
                let port = 9000 + id.bytes().map(u16::from).sum::<u16>();
                let (id, worker) = worker(&id, port, &[(&model, &version)], None);
                Arc::make_mut(&mut mesh.workers).insert(id, worker);
            }
            build(&mesh, &options)
        };
        let (forth, back) = (all(&mut ids.iter()), all(&mut ids.iter().rev()));
        prop_assert_eq!(forth.version(), back.version());
        prop_assert_eq!(&forth, &back);

        let routes: RouteConfiguration = decode(&forth, ResourceType::Route, GATEWAY);
        let clusters: BTreeSet<&str> =
            forth.set(ResourceType::Cluster).unwrap().iter().map(|cluster| cluster.name.as_str()).collect();
        let map = match_map(&routes);
        prop_assert_eq!(map.len(), clusters.len());
        for (key, route) in &map {
            let Some(Action::Route(action)) = &route.action else { panic!("{route:?}") };
            prop_assert_eq!(&action.cluster_specifier, &Some(ClusterSpecifier::Cluster(key.clone())));
            prop_assert!(clusters.contains(key.as_str()));
            prop_assert!(forth.set(ResourceType::Endpoints).unwrap().get(key).is_some());
        }
    }
}
