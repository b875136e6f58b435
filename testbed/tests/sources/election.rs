//! Several replicas: all serve, one writes.

use crate::store::{Store, accepted, eventually, routing, routing_key, worker, worker_key};
use anyhow::{Context, Result, ensure};
use kilocard_registry::report::MeshReport;
use kilocard_testbed::harness::Run;
use kilocard_testbed::harness::control_plane::ControlPlane;
use kilocard_testbed::harness::envoy::{Ads, Envoy};
use kilocard_testbed::install::Install;
use kilocard_testbed::poll::{self, DEADLINE};

#[tokio::test]
async fn replicas_serve_the_same_and_when_the_leader_stops_or_dies_another_writes() -> Result<()> {
    let (install, mut run) = (Install::locate()?, Run::create("e2e-source-election")?);
    let mut store = Store::etcd(&install, &run).await?;
    store.put(routing_key("m"), &routing("m", true, "1")).await?;
    store.put(worker_key("a"), &worker("a", 9001)).await?;
    let mut arguments = store.arguments();
    let mut replicas: Vec<ControlPlane> = Vec::new();
    for name in ["replica-a", "replica-b", "replica-c"] {
        let given: Vec<&str> = arguments.iter().map(String::as_str).collect();
        replicas.push(ControlPlane::start_alone(&install, run.dir(), name, &given).await?);
        if let [first] = replicas.as_slice() {
            // All configure the same gateway.
            arguments.extend(["--gateway-listen".to_owned(), first.gateway().to_string()]);
        }
    }
    let leader = sole_leader(&replicas).await?;
    same_for_proxies(&install, &run, &replicas).await?;

    one_that_was_frozen_follows_when_it_wakes(&mut store, &mut replicas, leader).await?;
    let leader = sole_leader(&replicas).await?;

    // One that is asked to stop resigns at once; one that is killed is replaced when its lease is over.
    let mut stopping = replicas.remove(leader);
    stopping.stop().await?;
    let leader = sole_leader(&replicas).await?;
    verdicts_are_written(&mut store, &replicas, "2").await?;
    let mut dying = replicas.remove(leader);
    dying.kill().await?;
    let leader = sole_leader(&replicas).await?;
    verdicts_are_written(&mut store, &replicas, "3").await?;
    let metrics = replicas[leader].page("/metrics").await?;
    ensure!(metrics.contains("kilocard_control_plane_leader 1"), "{metrics}");
    for replica in &mut replicas {
        replica.stop().await?;
    }
    run.discard();
    Ok(())
}

/// The frozen leader believes in itself until it looks; what it would write then etcd refuses.
async fn one_that_was_frozen_follows_when_it_wakes(
    store: &mut Store,
    replicas: &mut Vec<ControlPlane>,
    leader: usize,
) -> Result<()> {
    let frozen = replicas.remove(leader);
    frozen.pause();
    let outcome = async {
        sole_leader(replicas).await?;
        verdicts_are_written(store, replicas, "while frozen").await
    }
    .await;
    frozen.resume();
    outcome?;
    replicas.push(frozen);
    let leader = sole_leader(replicas).await?;
    ensure!(leader < replicas.len() - 1, "the one that woke does not lead");
    verdicts_are_written(store, replicas, "awake").await
}

/// Waits until all agree on who leads, and it is one of them.
async fn sole_leader(replicas: &[ControlPlane]) -> Result<usize> {
    poll::until("the replicas to agree on a leader", DEADLINE, async || {
        let mut reports = Vec::new();
        for replica in replicas {
            reports.push(replica.report().await?.control_plane.election);
        }
        let leading: Vec<usize> = (0..reports.len()).filter(|index| reports[*index].leads).collect();
        ensure!(leading.len() == 1, "{reports:?}");
        let leader = &reports[leading[0]].replica;
        ensure!(
            reports.iter().all(|report| report.leader.as_ref() == Some(leader)),
            "{reports:?}"
        );
        Ok(leading[0])
    })
    .await
}

/// An Envoy of each of two replicas, and what they are given.
async fn same_for_proxies(install: &Install, run: &Run, replicas: &[ControlPlane]) -> Result<()> {
    let mut envoys = Vec::new();
    for (index, replica) in replicas.iter().take(2).enumerate() {
        let dir = run.dir().join(format!("envoy-{index}"));
        std::fs::create_dir_all(&dir)?;
        envoys.push(Envoy::start(install, &dir, replica.xds(), Ads::Incremental, None)?);
    }
    let given = |report: &MeshReport| -> Result<()> {
        let node = report.nodes.first().context("no proxy")?;
        ensure!(
            !node.types.is_empty()
                && node
                    .types
                    .iter()
                    .all(|kind| kind.acked_version.is_some() && kind.nack.is_none()),
            "{node:?}"
        );
        Ok(())
    };
    let first = eventually(&replicas[0], "a proxy to be in sync", given).await?;
    let second = eventually(&replicas[1], "the other proxy to be in sync", given).await?;
    ensure!(
        first.control_plane.snapshot_version == second.control_plane.snapshot_version,
        "{:?}, {:?}",
        first.control_plane,
        second.control_plane
    );
    for envoy in &mut envoys {
        let process = envoy.process_mut().context("it runs")?;
        process.drain(kilocard_testbed::process::GRACE).await?;
    }
    Ok(())
}

async fn verdicts_are_written(store: &mut Store, replicas: &[ControlPlane], salt: &str) -> Result<()> {
    let before = accepted(&replicas[0].report().await?, "m")?;
    store.put(routing_key("m"), &routing("m", true, salt)).await?;
    let report = eventually(&replicas[0], "the change to arrive", |report| {
        ensure!(accepted(report, "m")? > before);
        Ok(())
    })
    .await?;
    let revision = accepted(&report, "m")?;
    poll::until("the verdict to be written", DEADLINE, async || {
        let verdict = store.verdict("m").await?;
        ensure!(verdict.revision == revision, "{verdict:?}");
        Ok(())
    })
    .await
}
