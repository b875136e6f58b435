//! Step 1: everything is up.

use super::{Report, V2_PERCENT};
use crate::harness::Testbed;
use crate::starter;
use anyhow::Result;
use serde_json::Value;

/// Responses carry the decision record, a rule of one's own comes on top of the built-in checks, and workers that come back
/// have their whole share soon.
const RULES: &str = "api_version: kilocard/v1
kind: MeshPolicy
metadata: {name: mesh}
spec:
  decision_record: {response_header: true}
---
api_version: kilocard/v1
kind: ValidationPolicy
metadata: {name: edge}
spec:
  rules:
    - {name: known-team, header: x-team, one_of: [search, ads]}
---
api_version: kilocard/v1
kind: WeightPolicy
metadata: {name: demo}
spec:
  slow_start: {over_ms: 3000}
";

pub(super) async fn run(report: &mut Report) -> Result<Testbed> {
    report.step(1, "etcd, control plane, three workers and Envoy are up");
    let mesh = starter::mesh("demo", V2_PERCENT[0]);
    let mut testbed = mesh.policy(RULES).start().await?;
    let mut hosts = testbed.envoy().hosts().await?;
    hosts.retain(|host| host.cluster.starts_with("minilm/"));
    hosts.sort_by_key(|host| (host.cluster.clone(), host.address));
    let seen: Vec<String> = hosts
        .iter()
        .map(|host| {
            format!(
                "{} at {} {}",
                host.cluster,
                host.address,
                if host.healthy { "ready" } else { "not ready" }
            )
        })
        .collect();
    let of = |cluster: &str| {
        hosts
            .iter()
            .filter(|host| host.cluster == cluster && host.healthy)
            .count()
    };
    let expected = "two of minilm/v1 and one of minilm/v2, ready in Envoy";
    report.check(
        "workers, from their records in etcd",
        expected,
        seen.join(", "),
        of("minilm/v1") == 2 && of("minilm/v2") == 1,
    );
    report.note(format!(
        "gateway {}, Envoy admin {}",
        testbed.gateway(),
        testbed.envoy().admin()?
    ));
    bootstrap(&mut testbed, report)?;
    Ok(testbed)
}

/// Everything but the address of the control plane must have come over ADS.
fn bootstrap(testbed: &mut Testbed, report: &mut Report) -> Result<()> {
    let text = testbed.envoy().bootstrap()?;
    let bootstrap: Value = serde_norway::from_str(&text)?;
    let keys: Vec<&str> = bootstrap
        .as_object()
        .into_iter()
        .flat_map(|map| map.keys().map(String::as_str))
        .collect();
    let resources = &bootstrap["static_resources"];
    let count = |kind: &str| resources[kind].as_array().map_or(0, Vec::len);
    let allowed = [
        "node",
        "admin",
        "dynamic_resources",
        "static_resources",
        "layered_runtime",
    ];
    // The runtime comes over ADS too, or from whoever is at the admin address: no layer may bring values along.
    let layers = bootstrap["layered_runtime"]["layers"].as_array();
    let brought = |layer: &Value| layer.get("rtds_layer").or(layer.get("admin_layer")).is_none();
    let fetched = layers.is_none_or(|layers| !layers.iter().any(brought));
    let bare = keys.iter().all(|key| allowed.contains(key)) && count("listeners") == 0 && count("clusters") == 1;
    let seen = format!(
        "{}; static: {} clusters, {} listeners",
        keys.join(", "),
        count("clusters"),
        count("listeners")
    );
    let node = bootstrap["node"]["id"].is_string();
    report.check(
        "Envoy's bootstrap",
        "node id, admin, the runtime by ADS, and the one cluster of the control plane",
        seen,
        bare && fetched && node,
    );
    Ok(())
}
