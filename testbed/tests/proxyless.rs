//! gRPC's own xDS clients, here Python's stock one: the same routes, weights and versions without a proxy.

use anyhow::{Context, Result, ensure};
use kilocard_registry::layout::{DeviceId, Key};
use kilocard_testbed::grpc_xds::{GrpcXds, Identity};
use kilocard_testbed::harness::Testbed;
use kilocard_testbed::harness::upstream::Upstream;
use kilocard_testbed::poll::{self, DEADLINE};
use kilocard_testbed::tally;
use serde_json::json;
use std::collections::BTreeMap;

const NODE: &str = "python-client";

/// Both versions by weight, one tenant all on `v2`, and something that these clients do not do.
fn policy(v2_percent: u32) -> String {
    let v1_percent = 100 - v2_percent;
    format!(
        "api_version: kilocard/v1
kind: RoutingPolicy
metadata: {{name: minilm}}
spec:
  model: minilm
  default: true
  versions:
    - {{version: v1, weight: {v1_percent}}}
    - {{version: v2, weight: {v2_percent}}}
  rules:
    - name: acme
      match: {{tenants: [acme, globex], methods: [/inference.GRPCInferenceService/*, /a.B/C]}}
      versions: [{{version: v2, weight: 100}}]
    - name: large
      match: {{headers: [{{name: x-size, range: {{min: 10}}}}]}}
      versions: [{{version: v2, weight: 100}}]
"
    )
}

/// Upstreams in this process, registered as workers on cards.
struct Workers {
    upstreams: BTreeMap<&'static str, Upstream>,
}

impl Workers {
    async fn register(testbed: &mut Testbed) -> Result<Self> {
        let mut upstreams = BTreeMap::new();
        for (id, version, card) in [
            ("h100", "v1", Some("NVIDIA H100 80GB HBM3")),
            ("a100", "v1", Some("NVIDIA A100-SXM4-80GB")),
            ("v100", "v1", Some("Tesla V100-SXM2-16GB")),
            ("canary", "v2", None),
        ] {
            let upstream = Upstream::start(id).await?;
            let worker = json!({
                "id": id, "address": upstream.address().to_string(), "node": id,
                "device": card.map(|_| "0000:1b:00.0"), "models": [{"model": "minilm", "version": version}],
            });
            let mut etcd = testbed.etcd().client().await?;
            if let Some(card) = card {
                let device = Key::Device(DeviceId {
                    node: id.to_owned(),
                    pci: "0000:1b:00.0".to_owned(),
                });
                let record = json!({"model": card, "memory_gb": 16.0, "simulated": true});
                etcd.put(testbed.layout().key(&device), record.to_string(), None)
                    .await?;
            }
            let key = testbed.layout().key(&Key::Worker(id.to_owned()));
            etcd.put(key, worker.to_string(), None).await?;
            upstreams.insert(id, upstream);
        }
        Ok(Self { upstreams })
    }

    async fn remove(&mut self, testbed: &mut Testbed, id: &str) -> Result<()> {
        let key = testbed.layout().key(&Key::Worker(id.to_owned()));
        testbed.etcd().client().await?.delete(key, None).await?;
        self.upstreams.remove(id);
        Ok(())
    }
}

#[tokio::test]
async fn a_stock_grpc_client_follows_the_mesh_without_a_proxy() -> Result<()> {
    let mut testbed = Testbed::builder("e2e-proxyless").policy(policy(10)).start().await?;
    let mut workers = Workers::register(&mut testbed).await?;
    let xds = testbed.control_plane().xds();
    let identity = Identity { id: NODE, zone: "" };
    let mut client = GrpcXds::start(testbed.dir(), xds, identity).await?;

    pins_and_rules_choose_the_version(&mut client).await?;
    the_policy_splits_what_is_left(&mut client, 0.1).await?;
    cards_take_requests_by_their_weights(&testbed, &mut client).await?;
    what_does_not_hold_without_a_proxy_is_said(&testbed).await?;

    testbed.apply(&policy(50)).await?;
    the_policy_splits_what_is_left(&mut client, 0.5).await?;

    // The client goes on without a control plane, and follows the next one.
    testbed.control_plane().kill().await?;
    client.ask("gateway", 20, &[]).await?.all()?;
    testbed.control_plane().restart().await?;
    testbed.apply(&policy(10)).await?;
    the_policy_splits_what_is_left(&mut client, 0.1).await?;

    workers.remove(&mut testbed, "v100").await?;
    await_only(&mut client, &[("x-model-version", "v1")], &["h100", "a100"]).await?;
    // The version has lost its last worker: the policy's fallback takes its share, and a pin fails.
    workers.remove(&mut testbed, "canary").await?;
    await_only(&mut client, &[("x-tenant-id", "acme")], &["h100", "a100"]).await?;
    is_unavailable(&mut client, "gateway", &[("x-model-version", "v2")]).await?;
    nothing_was_refused(&testbed).await?;
    testbed.finish().await
}

async fn pins_and_rules_choose_the_version(client: &mut GrpcXds) -> Result<()> {
    await_only(client, &[("x-model-version", "v2")], &["canary"]).await?;
    await_only(
        client,
        &[("x-model", "minilm"), ("x-model-version", "v1")],
        &["h100", "a100", "v100"],
    )
    .await?;
    for tenant in ["acme", "globex"] {
        await_only(client, &[("x-tenant-id", tenant)], &["canary"]).await?;
    }
    await_only(
        client,
        &[("x-tenant-id", "acme"), ("x-model-version", "v1")],
        &["h100", "a100", "v100"],
    )
    .await?;
    is_unavailable(client, "gateway", &[("x-model-version", "v9")]).await?;
    is_unavailable(client, "gateway", &[("x-model", "another")]).await?;
    is_unavailable(client, "minilm", &[("x-model", "another")]).await?;
    // A model is a target by its own name.
    let by = client.ask("minilm", 20, &[("x-model-version", "v2")]).await?.all()?;
    ensure!(by.only("canary"), "{by}");
    Ok(())
}

/// Until these requests are answered, and by nobody else.
async fn await_only(client: &mut GrpcXds, metadata: &[(&str, &str)], allowed: &[&str]) -> Result<()> {
    let what = format!("{metadata:?} to be answered by {allowed:?} alone");
    poll::until(&what, DEADLINE, async || {
        let by = client.ask("gateway", 30, metadata).await?.all()?;
        let total: usize = allowed.iter().map(|name| by.of(name)).sum();
        ensure!(total == by.total(), "{by}");
        Ok(())
    })
    .await
}

async fn is_unavailable(client: &mut GrpcXds, target: &str, metadata: &[(&str, &str)]) -> Result<()> {
    poll::until(&format!("{metadata:?} to fail"), DEADLINE, async || {
        let failed = client.ask(target, 5, metadata).await?.failed;
        let (count, _) = failed.get("UNAVAILABLE").context("nothing is unavailable")?;
        ensure!(*count == 5, "{failed:?}");
        Ok(())
    })
    .await
}

/// Until a policy is felt, its shares are those of the one before, far outside the band of the new one.
async fn the_policy_splits_what_is_left(client: &mut GrpcXds, v2_share: f64) -> Result<()> {
    const CALLS: usize = 600;
    let band = tally::binomial_band(CALLS, v2_share);
    poll::until(&format!("a share of {v2_share} for v2"), DEADLINE, async || {
        let by = client.ask("gateway", CALLS, &[]).await?.all()?;
        ensure!(band.contains(&by.of("canary")), "{by}, and {band:?} expected for v2");
        Ok(())
    })
    .await
}

/// As the status shows them: 4 to 2 to 1 for cards of these kinds, nothing else being known.
async fn cards_take_requests_by_their_weights(testbed: &Testbed, client: &mut GrpcXds) -> Result<()> {
    const CALLS: usize = 700;
    let status = testbed.status().await?;
    let cluster = status.clusters.iter().find(|cluster| cluster.version == "v1");
    let endpoints = &cluster.context("v1 is reported")?.endpoints;
    let weights: BTreeMap<&str, f64> = endpoints
        .iter()
        .map(|endpoint| (endpoint.worker.as_str(), f64::from(endpoint.weight)))
        .collect();
    let lightest = weights.get("v100").context("the V100 is reported")?;
    let near = |id: &str, times: f64| {
        weights
            .get(id)
            .is_some_and(|weight| (weight / lightest - times).abs() < 0.1 * times)
    };
    ensure!(near("h100", 4.0) && near("a100", 2.0), "{weights:?}");
    let total: f64 = weights.values().sum();
    let by = client
        .ask("gateway", CALLS, &[("x-model-version", "v1")])
        .await?
        .all()?;
    for (id, weight) in &weights {
        let band = tally::binomial_band(CALLS, weight / total);
        ensure!(band.contains(&by.of(id)), "{by}, and {band:?} expected of {id}");
    }
    Ok(())
}

async fn what_does_not_hold_without_a_proxy_is_said(testbed: &Testbed) -> Result<()> {
    let proxyless = testbed.status().await?.proxyless;
    ensure!(proxyless.targets == ["gateway", "minilm"], "{proxyless:?}");
    let fields: Vec<&str> = proxyless.limits.iter().map(|limit| limit.field.as_str()).collect();
    ensure!(fields == ["spec.sticky_by", "spec.rules[1].match"], "{proxyless:?}");
    Ok(())
}

/// Since the control plane came back, that is: every type is there and accepted.
async fn nothing_was_refused(testbed: &Testbed) -> Result<()> {
    let nodes = testbed.status().await?.nodes;
    let node = nodes.iter().find(|node| node.id == NODE).context("it is connected")?;
    ensure!(node.protocol == "sotw" && node.types.len() == 4, "{node:?}");
    let accepted = node
        .types
        .iter()
        .all(|kind| kind.nack.is_none() && kind.acked_version.is_some());
    ensure!(accepted, "{node:?}");
    Ok(())
}
