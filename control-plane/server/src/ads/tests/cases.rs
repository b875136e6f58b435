//! Cases of the specification (docs/xds.md) that are the transport's, not the machines'. Each quotes Envoy's `xds_protocol`.

use super::*;

/// "Only the first request on a stream is guaranteed to carry the node identifier. The subsequent discovery requests on the same
/// stream may carry an empty node identifier. [...] It is sufficient to only check the first message for the node identifier
/// as a result."
#[tokio::test]
async fn case_01_only_the_first_request_has_to_carry_the_node() {
    let plane = Plane::start().await;
    plane.serve(ResourceType::Cluster, &[("a", "1")]);
    let mut proxy = plane.open(hello("envoy-1", ResourceType::Cluster)).await;
    let first = proxy.response().await;
    proxy.send(ack(&first)).await;
    // Nor does a later one rename it.
    proxy.send(hello("envoy-2", ResourceType::Listener)).await;
    let second = proxy.response().await;
    assert_eq!(second.type_url, ResourceType::Listener.url());
    proxy.send(ack(&second)).await;
    let report = plane
        .until("both accepted", |report| {
            let types = report.first().map(|node| &node.types);
            types.is_some_and(|types| types.len() == 2 && types.iter().all(|t| !t.in_flight))
        })
        .await;
    let ids: Vec<&str> = report.iter().map(|node| node.id.as_str()).collect();
    assert_eq!(ids, ["envoy-1"]);
}

/// "Each xDS stream begins with a DiscoveryRequest from the client, which specifies [...] the node identifier".
#[tokio::test]
async fn case_01_a_stream_that_begins_without_a_node_is_refused() {
    let plane = Plane::start().await;
    for first in [hello("", ResourceType::Cluster), request(ResourceType::Cluster)] {
        let mut proxy = plane.open(first).await;
        let status = tokio::time::timeout(DEADLINE, proxy.responses.message())
            .await
            .expect("in time")
            .expect_err("refused");
        assert_eq!(status.code(), tonic::Code::InvalidArgument);
        assert!(status.message().contains("node.id"), "{status}");
    }
    assert_eq!(plane.nodes.counters().connected_streams, 0);
}

/// "With ADS, a single stream is used with multiple independent DiscoveryRequest/DiscoveryResponse sequences multiplexed via the
/// type URL": a client that refuses everything is served its other types, and so are all other clients, whatever one does.
#[tokio::test]
async fn case_40_a_slow_or_refusing_client_holds_up_nobody() {
    let plane = Plane::start().await;
    let large = "x".repeat(1 << 20);
    plane.serve(ResourceType::Cluster, &[("a", &large)]);
    // Never read.
    let silent = plane.open(hello("silent", ResourceType::Cluster)).await;
    let mut refusing = plane.open(hello("refusing", ResourceType::Cluster)).await;
    let mut quick = plane.open(hello("quick", ResourceType::Cluster)).await;
    for round in 0..6 {
        let response = refusing.response().await;
        refusing.refuse(&response, "not this one either").await;
        let response = quick.response().await;
        assert_eq!(names(&response), ["a"]);
        quick.send(ack(&response)).await;
        plane.serve(ResourceType::Cluster, &[("a", &format!("{round}{large}"))]);
    }
    let last = refusing.response().await;
    refusing.refuse(&last, "nor the last").await;
    refusing.send(request(ResourceType::Listener)).await;
    assert_eq!(refusing.response().await.type_url, ResourceType::Listener.url());
    let counters = plane.nodes.counters();
    let clusters = counters.types.get(&ResourceType::Cluster);
    assert_eq!(clusters.map(|counters| counters.nacks), Some(7));
    drop(silent);
}

/// "With ADS, a single stream is used with multiple independent DiscoveryRequest/DiscoveryResponse sequences multiplexed via the
/// type URL": one of a type that is not served disturbs none of the others.
#[tokio::test]
async fn case_45_a_type_that_is_not_served_is_ignored() {
    let plane = Plane::start().await;
    plane.serve(ResourceType::Cluster, &[("a", "1")]);
    let unknown = DeltaDiscoveryRequest {
        type_url: "type.googleapis.com/envoy.config.route.v3.ScopedRouteConfiguration".into(),
        ..hello("envoy-1", ResourceType::Cluster)
    };
    let mut proxy = plane.open(unknown.clone()).await;
    proxy.send(request(ResourceType::Cluster)).await;
    let first = proxy.response().await;
    assert_eq!(
        (first.type_url.as_str(), names(&first)),
        (ResourceType::Cluster.url(), vec!["a"])
    );
    // Nor is a refusal of something that was never sent a refusal of what was.
    proxy
        .send(DeltaDiscoveryRequest {
            response_nonce: first.nonce.clone(),
            error_detail: Some(RpcStatus::default()),
            ..unknown
        })
        .await;
    proxy.send(ack(&first)).await;
    let report = plane
        .until("accepted", |report| {
            only_type(report).is_some_and(|t| t.acked_version.is_some() && !t.in_flight)
        })
        .await;
    assert_eq!(report.first().map(|node| node.types.len()), Some(1));
    let counters = plane.nodes.counters();
    let refused: u64 = counters.types.values().map(|counters| counters.nacks).sum();
    assert_eq!(refused, 0);
}

/// "The delivery of the updates is eventually consistent": what nobody has read yet is replaced by what is newer, so that a
/// client that does not read costs one response.
#[tokio::test]
async fn case_46_a_client_that_does_not_read_costs_one_response_and_gets_the_newest_state_later() {
    let plane = Plane::start().await;
    let large = "x".repeat(1 << 20);
    plane.serve(ResourceType::Cluster, &[("a", &large)]);
    let mut slow = plane.open(hello("slow", ResourceType::Cluster)).await;
    // Never read at all, to the end.
    let dead = plane.open(hello("dead", ResourceType::Cluster)).await;
    let mut quick = plane.open(hello("quick", ResourceType::Cluster)).await;
    let response = quick.response().await;
    quick.send(ack(&response)).await;
    for round in 0..20 {
        let body = format!("{round}{large}");
        plane.serve(ResourceType::Cluster, &[("a", &body)]);
        let response = quick.response().await;
        assert_eq!(names(&response), ["a"]);
        quick.send(ack(&response)).await;
    }
    let stale = slow.response().await;
    slow.send(ack(&stale)).await;
    let newest = slow.response().await;
    let body = newest
        .resources
        .first()
        .and_then(|resource| resource.resource.as_ref())
        .expect("a body");
    assert!(body.value.starts_with(b"19x"), "skips what it slept through");
    // What waits for the dead one is a response, not twenty.
    let counters = plane.nodes.counters();
    let sent = counters
        .types
        .get(&ResourceType::Cluster)
        .map(|counters| counters.responses);
    assert_eq!(sent, Some(21 + 2 + 1));
    drop(dead);
}
