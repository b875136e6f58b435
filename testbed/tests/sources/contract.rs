//! What holds of every source, run against each: a real etcd, and a folder.

use crate::store::{
    BROKEN, Store, accepted, endpoints, eventually, policy, refused, routing, routing_key, worker, worker_key,
};
use anyhow::{Context, Result, ensure};
use kilocard_registry::layout::{DeviceId, Key, PolicyId};
use kilocard_registry::policy_status::PolicyState;
use kilocard_registry::report::MeshReport;
use kilocard_testbed::harness::Run;
use kilocard_testbed::harness::control_plane::ControlPlane;
use kilocard_testbed::install::Install;
use kilocard_testbed::poll::{self, DEADLINE};
use serde_json::{Value, json};
use std::fs;

#[tokio::test]
async fn etcd_keeps_the_contract_of_a_source() -> Result<()> {
    let (install, run) = (Install::locate()?, Run::create("e2e-source-etcd")?);
    let store = Store::etcd(&install, &run).await?;
    keeps_the_contract(&install, run, store).await
}

#[tokio::test]
async fn a_folder_keeps_the_contract_of_a_source() -> Result<()> {
    let (install, run) = (Install::locate()?, Run::create("e2e-source-folder")?);
    let store = Store::folder(&run)?;
    keeps_the_contract(&install, run, store).await
}

/// A store and the control plane that reads it.
struct Bench {
    store: Store,
    control_plane: ControlPlane,
}

async fn keeps_the_contract(install: &Install, mut run: Run, mut store: Store) -> Result<()> {
    store.put(routing_key("m"), &routing("m", true, "1")).await?;
    store.put(worker_key("a"), &worker("a", 9001)).await?;
    let device = Key::Device(DeviceId {
        node: "n1".to_owned(),
        pci: "0000:3b:00.0".to_owned(),
    });
    store
        .put(device, &json!({"model": "NVIDIA L4", "memory_gb": 24}))
        .await?;
    let arguments = store.arguments();
    let arguments: Vec<&str> = arguments.iter().map(String::as_str).collect();
    let control_plane = ControlPlane::start_alone(install, run.dir(), "control-plane", &arguments).await?;
    control_plane.await_ready().await?;
    let mut bench = Bench { store, control_plane };
    changes_are_followed(&mut bench).await?;
    a_bad_document_leaves_the_last_good_one_also_after_a_restart(&mut bench).await?;
    of_two_in_conflict_the_older_one_wins(&mut bench).await?;
    what_is_referred_to_outlives_its_deletion(&mut bench).await?;
    records_are_refused_with_the_reason(&mut bench).await?;
    many_that_vanish_at_once_are_held(&mut bench).await?;
    the_last_good_state_is_served_while_the_source_is_away(&mut bench).await?;
    bench.control_plane.stop().await?;
    run.discard();
    Ok(())
}

async fn changes_are_followed(Bench { store, control_plane }: &mut Bench) -> Result<()> {
    let report = control_plane.report().await?;
    let first = accepted(&report, "m")?;
    ensure!(endpoints(&report) == ["a"], "{:?}", report.clusters);
    ensure!(
        report.control_plane.source.serving == "source",
        "{:?}",
        report.control_plane
    );

    store.put(routing_key("m"), &routing("m", true, "2")).await?;
    store.put(worker_key("b"), &worker("b", 9002)).await?;
    let report = eventually(control_plane, "the changes to be followed", |report| {
        ensure!(accepted(report, "m")? > first && endpoints(report) == ["a", "b"]);
        Ok(())
    })
    .await?;
    let revision = accepted(&report, "m")?;
    poll::until("the verdict to be written", DEADLINE, async || {
        let verdict = store.verdict("m").await?;
        ensure!(
            verdict.revision == revision && verdict.state == PolicyState::Accepted,
            "{verdict:?}"
        );
        Ok(())
    })
    .await?;

    store.delete(&[worker_key("b")]).await?;
    eventually(control_plane, "the deletion to be followed", |report| {
        ensure!(endpoints(report) == ["a"], "{:?}", report.clusters);
        Ok(())
    })
    .await
    .map(drop)
}

async fn a_bad_document_leaves_the_last_good_one_also_after_a_restart(bench: &mut Bench) -> Result<()> {
    let Bench { store, control_plane } = bench;
    let good = accepted(&control_plane.report().await?, "m")?;
    let mut bad = routing("m", true, "3");
    bad["spec"]["versions"][0]["weight"] = json!(90);
    store.put(routing_key("m"), &bad).await?;
    eventually(control_plane, "the bad document to be refused", |report| {
        let reasons = refused(report, "m", Some(good))?;
        ensure!(reasons.contains("spec.versions: the weights sum to 90"), "{reasons}");
        Ok(())
    })
    .await?;
    store.put_text(routing_key("m"), BROKEN).await?;
    let what = "the broken text to be refused";
    let broken = |report: &MeshReport| {
        let reasons = refused(report, "m", Some(good))?;
        ensure!(reasons.contains("JSON") || reasons.contains("YAML"), "{reasons}");
        Ok(())
    };
    eventually(control_plane, what, broken).await?;
    control_plane.kill().await?;
    control_plane.restart().await?;
    let report = eventually(control_plane, what, broken).await?;
    ensure!(endpoints(&report) == ["a"], "{:?}", report.clusters);

    store.put(routing_key("m"), &routing("m", true, "4")).await?;
    eventually(control_plane, "the mended document to be accepted", |report| {
        ensure!(accepted(report, "m")? > good);
        Ok(())
    })
    .await
    .map(drop)
}

async fn of_two_in_conflict_the_older_one_wins(Bench { store, control_plane }: &mut Bench) -> Result<()> {
    store.put(routing_key("a"), &routing("a", true, "1")).await?;
    eventually(control_plane, "the younger default to be refused", |report| {
        accepted(report, "m")?;
        let reasons = refused(report, "a", None)?;
        ensure!(reasons.contains("spec.default"), "{reasons}");
        Ok(())
    })
    .await?;
    control_plane.stop().await?;
    control_plane.restart().await?;
    eventually(control_plane, "the older default to win again", |report| {
        accepted(report, "m")?;
        refused(report, "a", None).map(drop)
    })
    .await?;
    store.delete(&[routing_key("a")]).await?;
    eventually(control_plane, "the verdict to go with the policy", |report| {
        ensure!(policy(report, "a").is_err());
        Ok(())
    })
    .await
    .map(drop)
}

async fn what_is_referred_to_outlives_its_deletion(Bench { store, control_plane }: &mut Bench) -> Result<()> {
    let mesh = Key::Policy(PolicyId::new("MeshPolicy", "mesh"));
    let classes = json!({
        "api_version": "kilocard/v1", "kind": "MeshPolicy", "metadata": {"name": "mesh"},
        "spec": {"gpu_classes": [{"name": "hopper", "select": {"archs": ["hopper"]}}]},
    });
    let mut asking = routing("asking", false, "1");
    asking["spec"]["gpu"] = json!({"class": "hopper"});
    store.put(mesh.clone(), &classes).await?;
    eventually(control_plane, "the classes to be known", |report| {
        accepted(report, "mesh").map(drop)
    })
    .await?;
    store.put(routing_key("asking"), &asking).await?;
    eventually(control_plane, "the policy that asks for a class", |report| {
        accepted(report, "asking").map(drop)
    })
    .await?;
    store.delete(&[mesh]).await?;
    eventually(control_plane, "the deletion to be held", |report| {
        accepted(report, "asking")?;
        let status = &policy(report, "mesh")?.status;
        let reasons = refused(report, "mesh", Some(status.revision))?;
        ensure!(reasons.contains("was deleted"), "{reasons}");
        Ok(())
    })
    .await?;
    store.delete(&[routing_key("asking")]).await?;
    eventually(control_plane, "both to be gone", |report| {
        ensure!(policy(report, "mesh").is_err() && policy(report, "asking").is_err());
        Ok(())
    })
    .await
    .map(drop)
}

async fn records_are_refused_with_the_reason(Bench { store, control_plane }: &mut Bench) -> Result<()> {
    let mut nowhere = worker("nowhere", 9009);
    nowhere["address"] = json!("0.0.0.0:9009");
    store.put(worker_key("nowhere"), &nowhere).await?;
    eventually(control_plane, "the record to be refused", |report| {
        let rejected = report
            .rejected_records
            .iter()
            .find(|record| record.key.contains("nowhere"));
        let reason = &rejected.context("it is not told")?.reason;
        ensure!(reason.contains("unspecified address"), "{reason}");
        Ok(())
    })
    .await?;
    store.delete(&[worker_key("nowhere")]).await?;
    eventually(control_plane, "the refusal to go with the record", |report| {
        ensure!(report.rejected_records.is_empty(), "{:?}", report.rejected_records);
        Ok(())
    })
    .await
    .map(drop)
}

async fn many_that_vanish_at_once_are_held(Bench { store, control_plane }: &mut Bench) -> Result<()> {
    const ALL: [&str; 6] = ["a", "c", "d", "e", "f", "g"];
    for (port, id) in (9010..).zip(ALL) {
        store.put(worker_key(id), &worker(id, port)).await?;
    }
    let all_there = |report: &MeshReport| {
        ensure!(endpoints(report) == ALL, "{:?}", report.clusters);
        Ok(())
    };
    eventually(control_plane, "all workers", all_there).await?;

    // Those that say that they leave are not missed.
    for id in ["f", "g"] {
        let mut leaving = worker(id, 9100);
        leaving["draining"] = json!(true);
        store.put(worker_key(id), &leaving).await?;
    }
    eventually(control_plane, "those that leave to get nothing more", |report| {
        ensure!(endpoints(report) == ALL[..4], "{:?}", report.clusters);
        Ok(())
    })
    .await?;
    store
        .delete(&ALL[3..].iter().map(|id| worker_key(id)).collect::<Vec<_>>())
        .await?;
    eventually(control_plane, "one of four to be gone", |report| {
        ensure!(endpoints(report) == ALL[..3] && report.control_plane.source.hold.is_none());
        Ok(())
    })
    .await?;

    store
        .delete(&ALL[..3].iter().map(|id| worker_key(id)).collect::<Vec<_>>())
        .await?;
    let report = eventually(control_plane, "the rest to be held", |report| {
        ensure!(report.control_plane.source.hold.is_some());
        Ok(())
    })
    .await?;
    let hold = report.control_plane.source.hold.as_ref().context("a hold")?;
    ensure!(
        ALL[..3].iter().all(|id| hold.workers.iter().any(|held| held == id)),
        "{hold:?}"
    );
    ensure!(hold.until_unix_ms > hold.since_unix_ms, "{hold:?}");
    ensure!(
        ALL[..3].iter().all(|id| endpoints(&report).contains(id)),
        "{:?}",
        report.clusters
    );
    // One comes back, and the others are let go of.
    store.put(worker_key("a"), &worker("a", 9001)).await?;
    eventually(control_plane, "the one that is back not to be held", |report| {
        let hold = report.control_plane.source.hold.as_ref().context("a hold")?;
        ensure!(!hold.workers.iter().any(|held| held == "a"), "{hold:?}");
        Ok(())
    })
    .await?;
    ensure!(control_plane.release_hold().await? >= 2);
    eventually(control_plane, "those that were held to be gone", |report| {
        ensure!(endpoints(report) == ["a"] && report.control_plane.source.hold.is_none());
        Ok(())
    })
    .await
    .map(drop)
}

async fn the_last_good_state_is_served_while_the_source_is_away(bench: &mut Bench) -> Result<()> {
    let Bench { store, control_plane } = bench;
    let good = accepted(&control_plane.report().await?, "m")?;
    poll::until("the state without a hold to be on disk", DEADLINE, async || {
        let saved = newest_state(control_plane)?;
        ensure!(saved["held"] == json!([]), "{saved}");
        Ok(())
    })
    .await?;
    store.vanish().await?;
    eventually(control_plane, "the loss to be noticed", |report| {
        ensure!(!report.control_plane.etcd_connected);
        accepted(report, "m")?;
        ensure!(endpoints(report) == ["a"] && report.control_plane.source.serving == "source");
        Ok(())
    })
    .await?;
    control_plane.kill().await?;
    // Ready, from disk.
    control_plane.restart().await?;
    let report = control_plane.report().await?;
    let source = &report.control_plane.source;
    ensure!(
        !report.control_plane.etcd_connected && source.serving == "disk",
        "{source:?}"
    );
    ensure!(
        source.saved.as_ref().is_some_and(|saved| saved.revision >= good),
        "{source:?}"
    );
    // It is ready with the state; what endpoints weigh follows with the first build, a moment later.
    eventually(control_plane, "the endpoints from disk", |report| {
        ensure!(accepted(report, "m")? == good && endpoints(report) == ["a"]);
        Ok(())
    })
    .await?;
    let metrics = control_plane.page("/metrics").await?;
    ensure!(
        metrics.contains("kilocard_control_plane_state_source{source=\"disk\"} 1"),
        "{metrics}"
    );

    store.return_again().await?;
    eventually(control_plane, "the source to be followed again", |report| {
        ensure!(report.control_plane.etcd_connected && report.control_plane.source.serving == "source");
        ensure!(accepted(report, "m")? == good && endpoints(report) == ["a"]);
        Ok(())
    })
    .await?;
    store.put(routing_key("m"), &routing("m", true, "5")).await?;
    eventually(control_plane, "a change after the return", |report| {
        ensure!(accepted(report, "m")? > good);
        Ok(())
    })
    .await
    .map(drop)
}

/// What the control plane last wrote to its disk.
fn newest_state(control_plane: &ControlPlane) -> Result<Value> {
    let entries = fs::read_dir(control_plane.state_dir())?;
    let mut files: Vec<_> = entries.map(|entry| Ok(entry?.path())).collect::<Result<_>>()?;
    files.retain(|path| path.extension().is_some_and(|suffix| suffix == "state"));
    let text = fs::read_to_string(files.into_iter().max().context("no file")?)?;
    let (_, body) = text.split_once('\n').context("a first line")?;
    Ok(serde_json::from_str(body)?)
}
