//! Pools as clusters and routes.

use super::*;

fn pool_routes(routes: &RouteConfiguration, version: &str) -> BTreeMap<String, Route> {
    let outer = exact_matches(routes.virtual_hosts[0].matcher.as_ref().unwrap());
    let Some(on_match::OnMatch::Matcher(matcher)) = &outer[version].on_match else {
        panic!("no matcher for {version}")
    };
    let inner = exact_matches(matcher).into_iter();
    inner.map(|(pool, on_match)| (pool, route_of(&on_match))).collect()
}

fn with_pools(pools: &[(&str, serde_json::Value)]) -> Mesh {
    let routing = json!({
        "api_version": "kilocard/v1", "kind": "RoutingPolicy", "metadata": {"name": "minilm"},
        "spec": {"model": "minilm", "model_type": "embedding", "versions": [
            {"version": "v1", "weight": 90}, {"version": "v2", "weight": 10},
        ]},
    });
    let pool = |(name, spec): &(&str, serde_json::Value)| json!({"api_version": "kilocard/v1", "kind": "PoolPolicy", "metadata": {"name": name}, "spec": spec});
    let documents: Vec<_> = std::iter::once(routing).chain(pools.iter().map(pool)).collect();
    Mesh {
        policies: policies(&documents),
        ..mesh()
    }
}

fn cluster_of(route: &Route) -> (String, RoutingPriority) {
    let Some(Action::Route(action)) = &route.action else {
        panic!("{route:?}")
    };
    let Some(ClusterSpecifier::Cluster(name)) = &action.cluster_specifier else {
        panic!("{action:?}")
    };
    (name.clone(), RoutingPriority::try_from(action.priority).unwrap())
}

#[test]
fn a_pool_is_a_cluster_with_its_own_settings_over_the_same_endpoints() {
    let spec = json!({
        "match": {"model_types": ["embedding"], "priorities": ["P2"]},
        "limits": {"max_connections": 3, "max_pending_requests": 5, "max_requests": 7, "retry_percent": 0, "min_retries": 1},
        "connections": {
            "connect_timeout_ms": 250, "idle_timeout_s": 60, "max_concurrent_streams": 11, "max_per_worker": 2,
            "max_requests_per_connection": 1000, "initial_stream_window_bytes": 65535,
            "initial_connection_window_bytes": 1_048_576, "keepalive": {"interval_s": 20, "timeout_s": 5},
        },
    });
    let other = json!({"match": {"model_types": ["llm"]}});
    let snapshot = build(&with_pools(&[("bursts", spec), ("other", other)]), &options());
    let clusters: Vec<&str> = snapshot
        .set(ResourceType::Cluster)
        .unwrap()
        .iter()
        .map(|c| c.name.as_str())
        .collect();
    assert_eq!(
        clusters,
        [
            "minilm/v1",
            "minilm/v1/bursts",
            "minilm/v2",
            "minilm/v2/bursts",
            "other/v9"
        ]
    );
    assert_eq!(snapshot.set(ResourceType::Endpoints).unwrap().len(), 3);
    let resource = snapshot
        .set(ResourceType::Cluster)
        .unwrap()
        .get("minilm/v1/bursts")
        .unwrap();
    assert_eq!(resource.awaits(), "minilm/v1");
    let cluster: Cluster = decode(&snapshot, ResourceType::Cluster, "minilm/v1/bursts");
    assert_eq!(cluster.eds_cluster_config.as_ref().unwrap().service_name, "minilm/v1");
    let protocol = cluster.typed_extension_protocol_options.values().next().unwrap();
    let protocol = HttpProtocolOptions::decode(protocol.value.as_slice()).unwrap();
    let breakers = cluster.circuit_breakers.as_ref().unwrap();
    let keepalive = &cluster.upstream_connection_options;
    insta::assert_snapshot!(format!(
        "{}\n{}\n{}",
        compact(breakers),
        compact(keepalive),
        compact(&protocol)
    ));

    let routes: RouteConfiguration = decode(&snapshot, ResourceType::Route, GATEWAY);
    let routes = pool_routes(&routes, "minilm/v1");
    assert_eq!(routes.keys().collect::<Vec<_>>(), ["bulk", "bursts"]);
    let bulk = ("minilm/v1".to_owned(), RoutingPriority::High);
    assert_eq!(cluster_of(&routes["bulk"]), bulk);
    assert_eq!(
        cluster_of(&routes["bursts"]),
        ("minilm/v1/bursts".to_owned(), RoutingPriority::Default)
    );
}

#[test]
fn the_pool_called_default_is_the_versions_own_cluster_and_bulk_has_a_quarter_of_it() {
    let limits = json!({"limits": {"max_requests": 40, "max_pending_requests": 2}});
    let snapshot = build(&with_pools(&[("default", limits)]), &options());
    assert_eq!(snapshot.set(ResourceType::Cluster).unwrap().len(), 3);
    let cluster: Cluster = decode(&snapshot, ResourceType::Cluster, "minilm/v1");
    let thresholds = cluster.circuit_breakers.unwrap().thresholds;
    let limits: Vec<_> = thresholds
        .iter()
        .map(|of| {
            (
                of.priority(),
                of.max_requests.unwrap().value,
                of.max_pending_requests.unwrap().value,
            )
        })
        .collect();
    assert_eq!(
        limits,
        [(RoutingPriority::Default, 40, 2), (RoutingPriority::High, 10, 1)]
    );
}

#[test]
fn only_what_a_pool_says_of_clusters_and_routes_changes_them() {
    let (mut builder, now) = (Builder::new(options(), SharedWeights::default()), Instant::now());
    let of = |snapshot: &Snapshot, kind| snapshot.set(kind).unwrap().version().clone();
    let pool = |most: u32| {
        (
            "bursts",
            json!({"match": {"priorities": ["P2"]}, "limits": {"max_requests": most}}),
        )
    };
    let before = builder.build(&with_pools(&[pool(8)]), now);
    let same = builder.build(&with_pools(&[pool(8)]), now);
    assert_eq!(before, same);
    let wider = builder.build(&with_pools(&[pool(9)]), now);
    assert_ne!(of(&before, ResourceType::Cluster), of(&wider, ResourceType::Cluster));
    assert_eq!(of(&before, ResourceType::Route), of(&wider, ResourceType::Route));
    assert_eq!(
        of(&before, ResourceType::Endpoints),
        of(&wider, ResourceType::Endpoints)
    );
    let without = builder.build(&with_pools(&[]), now);
    assert_eq!(
        without.set(ResourceType::Cluster).unwrap().len(),
        3,
        "a pool does not linger: its route leads elsewhere"
    );
    assert_eq!(without, build(&with_pools(&[]), &options()));
}
