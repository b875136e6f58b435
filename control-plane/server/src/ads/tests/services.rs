//! The services of one type, who may use them, and how they end.

use super::*;
use crate::ads::authorise::AllowNodes;
use envoy_types::pb::envoy::service;
use service::cluster::v3::cluster_discovery_service_client::ClusterDiscoveryServiceClient;
use service::runtime::v3::runtime_discovery_service_client::RuntimeDiscoveryServiceClient;
use service::secret::v3::secret_discovery_service_client::SecretDiscoveryServiceClient;
use tonic::Code;

async fn end_of(mut proxy: Proxy) -> Status {
    let end = tokio::time::timeout(DEADLINE, proxy.responses.message()).await;
    end.expect("in time").expect_err("an error")
}

#[tokio::test]
async fn a_stream_of_one_type_serves_that_type_and_takes_its_url_for_granted() {
    let plane = Plane::start().await;
    plane.serve(ResourceType::Secret, &[("edge", "key")]);
    let (requests, receiver) = mpsc::channel(16);
    // "This is implicit in requests made via singleton xDS APIs such as CDS, LDS, etc."
    let first = DeltaDiscoveryRequest {
        type_url: String::new(),
        resource_names_subscribe: vec!["edge".into()],
        ..hello("envoy-1", ResourceType::Secret)
    };
    requests.send(first).await.expect("room");
    let mut client = SecretDiscoveryServiceClient::new(plane.channel.clone());
    let responses = client
        .delta_secrets(ReceiverStream::new(receiver))
        .await
        .expect("a stream");
    let mut proxy = Proxy {
        requests,
        responses: responses.into_inner(),
    };
    let response = proxy.response().await;
    assert_eq!(
        (response.type_url.as_str(), names(&response)),
        (ResourceType::Secret.url(), vec!["edge"])
    );
    proxy.send(ack(&response)).await;
    let report = plane
        .until("acked", |report| {
            only_type(report).is_some_and(|t| t.behind_ms.is_none())
        })
        .await;
    assert_eq!(report.first().map(|node| node.protocol.as_str()), Some("delta Secret"));
    // Another type is a mistake of the client's configuration, not something to wait for.
    proxy.send(request(ResourceType::Cluster)).await;
    let status = end_of(proxy).await;
    assert_eq!(status.code(), Code::InvalidArgument);
    assert!(
        status.message().contains("Cluster") && status.message().contains("or ADS"),
        "{status}"
    );
}

#[tokio::test]
async fn a_state_of_the_world_stream_of_one_type_is_served_too() {
    let plane = Plane::start().await;
    plane.serve(ResourceType::Runtime, &[("kilocard", "layer")]);
    let (requests, receiver) = mpsc::channel(16);
    let first = pb::DiscoveryRequest {
        node: hello("envoy-1", ResourceType::Runtime).node,
        resource_names: vec!["kilocard".into()],
        ..pb::DiscoveryRequest::default()
    };
    requests.send(first).await.expect("room");
    let mut client = RuntimeDiscoveryServiceClient::new(plane.channel.clone());
    let responses = client
        .stream_runtime(ReceiverStream::new(receiver))
        .await
        .expect("a stream");
    let response = tokio::time::timeout(DEADLINE, responses.into_inner().message()).await;
    let response = response.expect("in time").expect("no error").expect("open");
    assert_eq!(
        (response.type_url.as_str(), response.resources.len()),
        (ResourceType::Runtime.url(), 1)
    );
}

#[tokio::test]
async fn a_fetch_is_told_which_streams_there_are() {
    let plane = Plane::start().await;
    let mut client = ClusterDiscoveryServiceClient::new(plane.channel.clone());
    let status = client
        .fetch_clusters(pb::DiscoveryRequest::default())
        .await
        .expect_err("not served");
    assert_eq!(status.code(), Code::Unimplemented);
    for word in ["FetchClusters", "StreamClusters", "DeltaClusters"] {
        assert!(status.message().contains(word), "{status}");
    }
}

#[tokio::test]
async fn the_aggregated_service_wants_to_know_the_type() {
    let plane = Plane::start().await;
    let first = DeltaDiscoveryRequest {
        type_url: String::new(),
        ..hello("envoy-1", ResourceType::Cluster)
    };
    let status = end_of(plane.open(first).await).await;
    assert_eq!(status.code(), Code::InvalidArgument);
    assert!(status.message().contains("type_url"), "{status}");
}

#[tokio::test]
async fn case_48_a_node_that_is_not_allowed_is_turned_away_and_counted() {
    let allow = AllowNodes(vec!["gateway-*".parse().expect("a pattern")]);
    let plane = Plane::start_with(|ads| ads.authorised_by(Arc::new(allow))).await;
    plane.serve(ResourceType::Cluster, &[("a", "1")]);
    let status = end_of(plane.open(hello("intruder", ResourceType::Cluster)).await).await;
    assert_eq!(status.code(), Code::PermissionDenied);
    assert!(status.message().contains("intruder"), "{status}");
    assert_eq!(plane.nodes.counters().denied, 1);
    let mut proxy = plane.open(hello("gateway-7", ResourceType::Cluster)).await;
    assert_eq!(names(&proxy.response().await), ["a"]);
}

#[tokio::test]
async fn case_47_streams_that_drain_are_served_until_their_turn_comes() {
    let plane = Plane::start_with(|ads| ads.drained_by(Drain::within(Duration::from_secs(3600)))).await;
    plane.serve(ResourceType::Cluster, &[("a", "1")]);
    // With 400 streams each ends somewhere within two seconds: that all of them do so at once has no chance.
    let mut proxies = Vec::new();
    for index in 0..400 {
        proxies.push(
            plane
                .open(hello(&format!("envoy-{index}"), ResourceType::Cluster))
                .await,
        );
    }
    plane.until("all connected", |report| report.len() == 400).await;
    plane.shutdown.cancel();
    let mut left = Vec::new();
    while left.last() != Some(&0) {
        tokio::time::sleep(Duration::from_millis(5)).await;
        let count = plane.nodes.report().len();
        if left.last() != Some(&count) {
            left.push(count);
        }
    }
    assert!(left.len() > 10, "they end one after another: {left:?}");
    for mut proxy in proxies {
        let mut end = proxy.responses.message().await;
        while matches!(end, Ok(Some(_))) {
            end = proxy.responses.message().await;
        }
        assert!(matches!(end, Ok(None)), "a clean end: {end:?}");
    }
}

#[tokio::test]
async fn case_49_a_delta_client_gets_what_is_large_in_parts() {
    let plane = Plane::start().await;
    let body = "x".repeat(1 << 20);
    let set: Vec<(String, &str)> = (0..7).map(|index| (format!("c{index}"), body.as_str())).collect();
    let set: Vec<(&str, &str)> = set.iter().map(|(name, body)| (name.as_str(), *body)).collect();
    plane.serve(ResourceType::Cluster, &set);
    // The stock client takes 4 MiB.
    let mut proxy = plane.open(hello("envoy-1", ResourceType::Cluster)).await;
    let mut got = Vec::new();
    while got.len() < 7 {
        let response = proxy.response().await;
        got.extend(names(&response).into_iter().map(str::to_owned));
        proxy.send(ack(&response)).await;
    }
    assert_eq!(got, ["c0", "c1", "c2", "c3", "c4", "c5", "c6"]);
    let report = plane
        .until("all acked", |report| {
            only_type(report).is_some_and(|t| t.behind_ms.is_none())
        })
        .await;
    let clusters = only_type(&report).expect("clusters");
    assert_eq!(clusters.acked_version, clusters.served_version);
    let counters = plane.nodes.counters();
    let clusters = counters.types.get(&ResourceType::Cluster).expect("counted");
    assert_eq!((clusters.responses, clusters.oversized), (4, 0));
}

#[tokio::test]
async fn case_49_a_state_of_the_world_response_beyond_the_limit_is_counted() {
    let plane = Plane::start().await;
    let body = "x".repeat(3 << 20);
    plane.serve(ResourceType::Cluster, &[("a", &body), ("b", &body)]);
    let (requests, receiver) = mpsc::channel(16);
    let first = pb::DiscoveryRequest {
        node: hello("envoy-1", ResourceType::Cluster).node,
        type_url: ResourceType::Cluster.url().into(),
        ..pb::DiscoveryRequest::default()
    };
    requests.send(first).await.expect("room");
    // As Envoy, which has no such limit.
    let mut client = plane.client.clone().max_decoding_message_size(usize::MAX);
    let responses = client.stream_aggregated_resources(ReceiverStream::new(receiver)).await;
    let response = responses.expect("a stream").into_inner().message().await;
    assert_eq!(response.expect("taken").expect("open").resources.len(), 2);
    let counters = plane.nodes.counters();
    assert_eq!(
        counters
            .types
            .get(&ResourceType::Cluster)
            .map(|counters| counters.oversized),
        Some(1)
    );
}

#[tokio::test]
async fn case_42_what_has_a_ttl_is_mentioned_again_before_it_runs_out() {
    let plane = Plane::start().await;
    let layer = Resource::new("kilocard", "layer").with_ttl(Duration::from_millis(600));
    let set = ResourceSet::new([layer.clone()]);
    let snapshot = Snapshot::new([(ResourceType::Runtime, set)]);
    plane.snapshots.send_replace(Some(Arc::new(snapshot.into())));
    let first = DeltaDiscoveryRequest {
        resource_names_subscribe: vec!["kilocard".into()],
        ..hello("envoy-1", ResourceType::Runtime)
    };
    let mut proxy = plane.open(first).await;
    for round in 0..3 {
        let response = proxy.response().await;
        let resource = response.resources.first().expect("the layer");
        assert_eq!(resource.version, layer.version.to_string());
        assert_eq!(resource.ttl.as_ref().map(|ttl| ttl.nanos), Some(600_000_000));
        // "A Resource with the resource unset and version matching the most recently sent version."
        assert_eq!(resource.resource.is_some(), round == 0, "round {round}");
        proxy.send(ack(&response)).await;
    }
}
