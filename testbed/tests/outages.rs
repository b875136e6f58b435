//! etcd and the control plane away: the last good state serves on, and what changed meanwhile arrives afterwards.

use anyhow::{Context, Result, ensure};
use etcd_client::{Client as EtcdClient, CompactionOptions, ResponseHeader};
use kilocard_registry::layout::{Key, PolicyId};
use kilocard_testbed::effect::{Probe, raise_share};
use kilocard_testbed::harness::Testbed;
use kilocard_testbed::harness::worker::WorkerSpec;
use kilocard_testbed::load::Load;
use kilocard_testbed::outage;
use kilocard_testbed::poll::{self, DEADLINE};
use kilocard_testbed::prometheus;
use kilocard_testbed::starter::{self, Cohorts, V1_A};
use std::collections::BTreeMap;
use std::time::{Duration, Instant};

/// Longer than the workers' leases.
const OUTAGE: Duration = Duration::from_secs(4);

/// Weights that stand still under load and after a worker has registered anew: what is sent then is sent for nothing else.
const STILL: &str = "api_version: kilocard/v1
kind: WeightPolicy
metadata: {name: still}
spec:
  load: {queue_half: 100000, error_penalty: 0}
  capacity: {least_ms: 86400000}
  publication: {grid_percent: 50}
  slow_start: {over_ms: 0}
";

/// One worker a version: enough to see where a user is.
async fn small_mesh(name: &str) -> Result<Testbed> {
    let builder = Testbed::builder(name).policy(starter::routing(10)).policy(STILL);
    builder.worker(starter::v1_a()).worker(starter::v2()).start().await
}

/// One in which no lease runs out, however long etcd is kept busy.
async fn patient_mesh(name: &str) -> Result<Testbed> {
    let patient = |spec| WorkerSpec {
        lease_ttl_s: 120,
        ..spec
    };
    let builder = Testbed::builder(name).policy(starter::routing(10));
    builder
        .worker(patient(starter::v1_a()))
        .worker(patient(starter::v2()))
        .start()
        .await
}

#[tokio::test]
async fn an_outage_of_etcd_or_of_the_control_plane_is_not_felt_by_clients() -> Result<()> {
    let mut testbed = small_mesh("e2e-outages").await?;
    etcd_away(&mut testbed).await?;
    a_restarted_control_plane_sends_nothing_that_envoy_has(&mut testbed).await?;
    testbed.finish().await
}

async fn etcd_away(testbed: &mut Testbed) -> Result<()> {
    let load = Load::start(testbed.gateway(), 2, &[]).await?;
    load.await_served(10, Instant::now()).await?;
    let stopped = Instant::now();
    testbed.etcd().stop().await?;
    load.await_served(10, stopped + OUTAGE).await?;
    testbed.etcd().restart().await?;
    outage::await_etcd_connected(testbed).await?;
    load.await_served(10, Instant::now()).await?;
    outage::ensure_unharmed(load).await?;
    // Leases outlived the outage, and the mesh follows etcd again.
    let address = testbed.worker(V1_A)?.grpc().context("it serves")?;
    testbed.envoy().await_endpoint(address, true).await?;
    let user = Cohorts::new()?.users(10..30, 1)?.concat();
    raise_share(testbed, &user, 10, 30).await
}

async fn a_restarted_control_plane_sends_nothing_that_envoy_has(testbed: &mut Testbed) -> Result<()> {
    let before = updates(testbed).await?;
    let load = Load::start(testbed.gateway(), 2, &[]).await?;
    load.await_served(10, Instant::now()).await?;
    testbed.control_plane().kill().await?;
    load.await_served(10, Instant::now()).await?;
    testbed.control_plane().restart().await?;
    // One stream carries all types in order: once a later change is felt, everything before it has arrived.
    let user = Cohorts::new()?.users(30..50, 1)?.concat();
    raise_share(testbed, &user, 30, 50).await?;
    outage::ensure_unharmed(load).await?;
    let after = updates(testbed).await?;
    ensure!(before.len() >= 5, "updates of every type are counted: {before:?}");
    for (name, count) in &after {
        let more = count - before.get(name).copied().unwrap_or(0);
        let allowed = u64::from(name.contains("extension_config_discovery") && name.ends_with("update_success"));
        ensure!(more == allowed, "{name} rose by {more}, expected {allowed}");
    }
    Ok(())
}

/// Envoy's counters of accepted and rejected updates, by name.
async fn updates(testbed: &mut Testbed) -> Result<BTreeMap<String, u64>> {
    let stats = testbed.envoy().stats("").await?;
    let wanted = |name: &str| name.ends_with(".update_success") || name.ends_with(".update_rejected");
    Ok(stats
        .into_iter()
        .filter(|(name, _)| wanted(name) && !name.starts_with("cluster.control-plane"))
        .collect())
}

#[tokio::test]
async fn what_changed_in_a_history_that_etcd_has_compacted_away_still_arrives() -> Result<()> {
    let mut testbed = patient_mesh("e2e-compaction").await?;
    compacted_while_cut_off(&mut testbed).await?;
    compacted_while_lagging(&mut testbed).await?;
    testbed.finish().await
}

fn policy_key(testbed: &Testbed, name: &str) -> String {
    testbed.layout().key(&Key::Policy(PolicyId::new("RoutingPolicy", name)))
}

/// The watch breaks, and the history since is gone when the control plane connects again.
async fn compacted_while_cut_off(testbed: &mut Testbed) -> Result<()> {
    let extra = starter::routing(0)
        .replace("minilm}", "extra}")
        .replace("model: minilm", "model: extra");
    testbed.apply(&extra.replace("default: true", "default: false")).await?;
    let user = Cohorts::new()?.users(10..50, 1)?.concat();
    let probe = Probe::start(testbed, &user).await?;
    probe.await_version("v1").await?;

    testbed.control_plane().pause();
    // The restart of etcd breaks the watch; with the control plane frozen, nothing of the next lines reaches it.
    testbed.etcd().stop().await?;
    testbed.etcd().restart().await?;
    let mut etcd = testbed.etcd().client().await?;
    for percent in [20, 30, 50] {
        let document = serde_json::to_vec(&starter::routing_document(percent)?)?;
        etcd.put(policy_key(testbed, "minilm"), document, None).await?;
    }
    let deleted = etcd.delete(policy_key(testbed, "extra"), None).await?;
    compact(&mut etcd, deleted.header()).await?;
    testbed.control_plane().resume();

    probe.await_version("v2").await?;
    poll::until("the deleted policy to leave", DEADLINE, async || {
        let policies = testbed.status().await?.policies;
        ensure!(policies.iter().all(|policy| policy.name != "extra"), "{policies:?}");
        Ok(())
    })
    .await
}

/// The watch stays, but its reader falls so far behind that etcd compacts away what it has not been sent.
async fn compacted_while_lagging(testbed: &mut Testbed) -> Result<()> {
    /// Far more than what etcd and the connection between them buffer for one watch.
    const WRITES: usize = 2000;
    const LANES: usize = 16;
    let user = Cohorts::new()?.users(50..60, 1)?.concat();
    let probe = Probe::start(testbed, &user).await?;
    probe.await_version("v1").await?;

    testbed.control_plane().pause();
    let mut lanes = tokio::task::JoinSet::new();
    for lane in 0..LANES {
        let (mut etcd, root) = (testbed.etcd().client().await?, testbed.layout().root());
        lanes.spawn(async move {
            for _ in 0..WRITES / LANES {
                etcd.put(format!("{root}unknown/{lane}"), vec![b'x'; 8192], None)
                    .await?;
            }
            etcd.delete(format!("{root}unknown/{lane}"), None).await
        });
    }
    while let Some(lane) = lanes.join_next().await {
        lane??;
    }
    let mut etcd = testbed.etcd().client().await?;
    let document = serde_json::to_vec(&starter::routing_document(60)?)?;
    let written = etcd.put(policy_key(testbed, "minilm"), document, None).await?;
    compact(&mut etcd, written.header()).await?;
    testbed.control_plane().resume();

    probe.await_version("v2").await?;
    let metrics = testbed.control_plane().page("/metrics").await?;
    let relists = prometheus::sum(
        &metrics,
        "kilocard_control_plane_etcd_relists_total",
        &[("reason", "compacted")],
    );
    ensure!(relists >= 1.0, "the watch did not run into the compaction:\n{metrics}");
    Ok(())
}

/// Forgets all history up to the revision of this response.
async fn compact(etcd: &mut EtcdClient, header: Option<&ResponseHeader>) -> Result<()> {
    let revision = header.context("a header")?.revision();
    etcd.compact(revision, Some(CompactionOptions::new().with_physical()))
        .await?;
    Ok(())
}
