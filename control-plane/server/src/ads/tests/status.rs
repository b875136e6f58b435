//! CSDS, and what `/status` tells of refusals.

use super::*;
use csds::client_status_discovery_service_client::ClientStatusDiscoveryServiceClient;
use envoy_types::pb::envoy::admin::v3::ClientResourceStatus;
use envoy_types::pb::envoy::service::status::v3 as csds;

type Row = (String, String, i32, i32, String);

/// Name, version, both statuses and the error of every resource of the first node.
async fn rows(plane: &Plane) -> Vec<Row> {
    let mut client = ClientStatusDiscoveryServiceClient::new(plane.channel.clone());
    let response = client.fetch_client_status(csds::ClientStatusRequest::default()).await;
    let client = response
        .expect("an answer")
        .into_inner()
        .config
        .into_iter()
        .next()
        .expect("a node");
    assert_eq!(client.node.map(|node| node.id), Some("envoy-1".to_owned()));
    let row = |config: csds::client_config::GenericXdsConfig| {
        let error = config.error_state.map(|state| state.details).unwrap_or_default();
        (
            config.name,
            config.version_info,
            config.config_status,
            config.client_status,
            error,
        )
    };
    client.generic_xds_configs.into_iter().map(row).collect()
}

fn row(name: &str, version: &str, statuses: (csds::ConfigStatus, ClientResourceStatus), error: &str) -> Row {
    (
        name.into(),
        version.into(),
        statuses.0.into(),
        statuses.1.into(),
        error.into(),
    )
}

#[tokio::test]
async fn csds_tells_of_each_resource_how_far_it_is() {
    let plane = Plane::start().await;
    plane.serve(ResourceType::Cluster, &[("a", "1"), ("b", "1")]);
    let mut proxy = plane.open(hello("envoy-1", ResourceType::Cluster)).await;
    let first = proxy.response().await;
    let version = |name: &str| {
        let resource = first.resources.iter().find(|resource| resource.name == name);
        resource.expect("sent").version.clone()
    };
    let sent = (csds::ConfigStatus::Stale, ClientResourceStatus::Requested);
    let expected = [row("a", &version("a"), sent, ""), row("b", &version("b"), sent, "")];
    assert_eq!(rows(&plane).await, expected);

    let error = RpcStatus {
        code: 13,
        message: "Error adding/updating cluster(s) b: unknown type".into(),
        ..RpcStatus::default()
    };
    let nack = DeltaDiscoveryRequest {
        error_detail: Some(error),
        resource_names_subscribe: vec!["*".into(), "nowhere".into()],
        ..ack(&first)
    };
    proxy.send(nack).await;
    // The client asked anew with its refusal, so everything is offered once more; it refuses once more.
    let second = proxy.response().await;
    assert_eq!(
        (names(&second), second.removed_resources.as_slice()),
        (vec!["a", "b"], ["nowhere".to_owned()].as_slice())
    );
    let error = RpcStatus {
        message: "Error adding/updating cluster(s) b: unknown type".into(),
        ..RpcStatus::default()
    };
    let nack = DeltaDiscoveryRequest {
        error_detail: Some(error),
        ..ack(&second)
    };
    proxy.send(nack).await;
    let report = plane
        .until("refused", |report| {
            only_type(report).is_some_and(|t| t.refused_total > 0)
        })
        .await;
    let refused = &only_type(&report).expect("clusters").refused;
    assert_eq!(refused.len(), 1, "only what Envoy names: {refused:?}");
    assert_eq!(
        refused.first().map(|r| (r.name.as_str(), r.reason.as_str())),
        Some(("b", "unknown type"))
    );
    assert_eq!(refused.first().and_then(|r| r.version.clone()), Some(version("b")));
    let refused = (csds::ConfigStatus::Error, ClientResourceStatus::Nacked);
    let all = rows(&plane).await;
    let b = row("b", "", refused, "unknown type");
    assert!(all.contains(&b), "{all:?}");
    let a = all.iter().find(|row| row.0 == "a").expect("listed");
    assert!(a.4.starts_with("refused along with others"), "{a:?}");
    let counters = plane.nodes.counters();
    let clusters = counters.types.get(&ResourceType::Cluster).expect("counted");
    assert_eq!((clusters.refused_resources, clusters.behind), (1, 1));

    plane.serve(ResourceType::Cluster, &[("a", "1"), ("b", "2")]);
    let third = proxy.response().await;
    proxy.send(ack(&third)).await;
    plane
        .until("accepted", |report| {
            only_type(report).is_some_and(|t| t.behind_ms.is_none())
        })
        .await;
    let acked = (csds::ConfigStatus::Synced, ClientResourceStatus::Acked);
    let all = rows(&plane).await;
    assert!(all.contains(&row("a", &version("a"), acked, "")), "{all:?}");
    assert!(all.iter().all(|row| row.4.is_empty()), "{all:?}");
}

#[tokio::test]
async fn csds_answers_each_request_of_a_stream_for_the_nodes_it_names() {
    let plane = Plane::start().await;
    plane.serve(ResourceType::Cluster, &[("a", "1")]);
    let _one = plane.open(hello("envoy-1", ResourceType::Cluster)).await;
    let _two = plane.open(hello("envoy-2", ResourceType::Cluster)).await;
    plane.until("both connected", |report| report.len() == 2).await;
    let (requests, receiver) = mpsc::channel(4);
    let mut client = ClientStatusDiscoveryServiceClient::new(plane.channel.clone());
    let answers = client
        .stream_client_status(ReceiverStream::new(receiver))
        .await
        .expect("a stream");
    let mut answers = answers.into_inner();
    use envoy_types::pb::envoy::r#type::matcher::v3::string_matcher::MatchPattern;
    use envoy_types::pb::envoy::r#type::matcher::v3::{NodeMatcher, StringMatcher};
    let suffix = |text: &str| csds::ClientStatusRequest {
        node_matchers: vec![NodeMatcher {
            node_id: Some(StringMatcher {
                ignore_case: false,
                match_pattern: Some(MatchPattern::Suffix(text.to_owned())),
            }),
            ..NodeMatcher::default()
        }],
        ..csds::ClientStatusRequest::default()
    };
    for (text, expected) in [("-2", vec!["envoy-2"]), ("", vec!["envoy-1", "envoy-2"]), ("x", vec![])] {
        requests.send(suffix(text)).await.expect("room");
        let answer = answers.message().await.expect("ok").expect("an answer");
        let ids: Vec<String> = answer
            .config
            .into_iter()
            .filter_map(|client| Some(client.node?.id))
            .collect();
        assert_eq!(ids, expected);
    }
}
