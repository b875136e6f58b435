//! Workers that come and go under load.

use anyhow::{Context, Result, ensure};
use kilocard_registry::layout::Key;
use kilocard_testbed::harness::Testbed;
use kilocard_testbed::harness::worker::WorkerSpec;
use kilocard_testbed::load::Load;
use kilocard_testbed::outage::{self, KillVerdict};
use kilocard_testbed::poll::{self, DEADLINE};
use kilocard_testbed::starter::{self, V1_B};
use kilocard_testbed::tally;
use std::fs;
use std::path::Path;
use std::sync::Arc;
use std::time::Instant;
use tokio::task::JoinSet;

const LANES: usize = 4;
const V1: [(&str, &str); 1] = [("x-model-version", "v1")];

#[tokio::test]
async fn a_worker_that_drains_loses_no_request_and_one_that_is_killed_only_those_in_flight() -> Result<()> {
    let builder = Testbed::builder("e2e-workers").policy(starter::routing(0));
    let mut testbed = builder.worker(starter::v1_a()).worker(starter::v1_b()).start().await?;
    traffic_follows_the_reported_weights(&testbed).await?;
    cancelled_calls_harm_nobody(&testbed).await?;
    sigterm_drains(&mut testbed).await?;
    testbed.start_worker(starter::v1_b()).await?;
    a_record_that_somebody_deleted_comes_back(&mut testbed).await?;
    sigkill_costs_only_what_was_in_flight(&mut testbed).await?;
    testbed.finish().await
}

async fn traffic_follows_the_reported_weights(testbed: &Testbed) -> Result<()> {
    const CALLS: usize = 900;
    let status = testbed.status().await?;
    let cluster = status
        .clusters
        .iter()
        .find(|cluster| cluster.version == "v1")
        .context("v1 is reported")?;
    let whole: u32 = cluster.endpoints.iter().map(|endpoint| endpoint.weight).sum();
    let tally = tally::workers_in_lanes(testbed.gateway(), 1, CALLS, &V1).await?;
    for endpoint in &cluster.endpoints {
        ensure!(
            endpoint.factors.simulated,
            "a simulated card is labelled so: {endpoint:?}"
        );
        let band = tally::binomial_band(CALLS, f64::from(endpoint.weight) / f64::from(whole));
        ensure!(
            band.contains(&tally.of(&endpoint.worker)),
            "{band:?} expected for {endpoint:?}, {tally} seen"
        );
    }
    ensure!(
        cluster.endpoints[0].weight > cluster.endpoints[1].weight,
        "an H100 weighs more than an A100"
    );
    Ok(())
}

/// All clients share Envoy's connection to a worker: what one of them cancels must not close it.
async fn cancelled_calls_harm_nobody(testbed: &Testbed) -> Result<()> {
    const BURST: usize = 100;
    let load = Load::start(testbed.gateway(), LANES, &V1).await?;
    let impatient = Arc::new(testbed.client().await?);
    for _ in 0..10 {
        let mut calls = JoinSet::new();
        for _ in 0..BURST {
            let client = impatient.clone();
            calls.spawn(async move { client.infer(&["cancelled"], &V1).await });
        }
        // The first answer says that the burst has been sent; the rest is dropped.
        calls.join_next().await;
    }
    load.await_served(20, Instant::now()).await?;
    outage::ensure_unharmed(load).await
}

async fn sigterm_drains(testbed: &mut Testbed) -> Result<()> {
    let address = testbed.worker(V1_B)?.grpc().context("it serves")?;
    let load = Load::start(testbed.gateway(), LANES, &V1).await?;
    outage::await_served_by(&load, V1_B).await?;
    testbed.worker(V1_B)?.drain().await?;
    testbed.envoy().await_endpoint(address, false).await?;
    load.await_served(20, Instant::now()).await?;
    outage::ensure_unharmed(load).await
}

async fn a_record_that_somebody_deleted_comes_back(testbed: &mut Testbed) -> Result<()> {
    let key = testbed.layout().key(&Key::Worker(V1_B.to_owned()));
    let mut etcd = testbed.etcd().client().await?;
    let deleted = etcd.delete(key.as_str(), None).await?;
    ensure!(deleted.deleted() == 1, "{key} was there");
    poll::until("the record to come back under a lease", DEADLINE, async || {
        let found = etcd.get(key.as_str(), None).await?;
        let record = found.kvs().first().context("it is not there")?;
        ensure!(record.lease() != 0, "it has no lease");
        Ok(())
    })
    .await?;
    let address = testbed.worker(V1_B)?.grpc().context("it serves")?;
    testbed.envoy().await_endpoint(address, true).await
}

async fn sigkill_costs_only_what_was_in_flight(testbed: &mut Testbed) -> Result<()> {
    let address = testbed.worker(V1_B)?.grpc().context("it serves")?;
    let load = Load::start(testbed.gateway(), LANES, &V1).await?;
    outage::await_served_by(&load, V1_B).await?;
    let killed = Instant::now();
    testbed.worker(V1_B)?.sigkill().await?;
    testbed.envoy().await_endpoint(address, false).await?;
    load.await_served(20, Instant::now()).await?;
    let verdict = KillVerdict::of(&load.stop().await, killed, LANES);
    ensure!(verdict.passed(), "{verdict}");
    Ok(())
}

#[tokio::test]
async fn a_worker_whose_model_file_is_corrupt_does_not_start_and_names_the_file() -> Result<()> {
    let folder = tempfile::tempdir()?;
    let installed = kilocard_testbed::install::Install::locate()?.models.join("minilm/v2");
    corrupt_copy(&installed, &folder.path().join("minilm/v2"), "model.safetensors")?;
    let spec = WorkerSpec {
        models: Some(folder.path().to_owned()),
        ..starter::v2()
    };
    let told = Testbed::builder("e2e-corrupt").worker(spec).start_refused().await?;
    ensure!(
        told.contains("ended with exit status: 1") && told.contains("model.safetensors"),
        "{told}"
    );
    Ok(())
}

/// A copy of a version in which one byte in the middle of one file differs.
fn corrupt_copy(from: &Path, to: &Path, name: &str) -> Result<()> {
    fs::create_dir_all(to)?;
    for entry in fs::read_dir(from)? {
        let entry = entry?;
        let mut bytes = fs::read(entry.path())?;
        if entry.file_name() == name {
            let middle = bytes.len() / 2;
            bytes[middle] ^= 1;
        }
        fs::write(to.join(entry.file_name()), bytes)?;
    }
    Ok(())
}
