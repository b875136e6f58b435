//! Cards that fail, run hot or fall silent, on the real mesh with simulated cards.

use anyhow::{Context, Result, ensure};
use kilocard_registry::layout::Key;
use kilocard_registry::report::EndpointReport;
use kilocard_registry::telemetry::{GpuReading, XidEvent};
use kilocard_registry::worker::{ServedModel, Telemetry, WorkerRecord};
use kilocard_testbed::harness::Testbed;
use kilocard_testbed::harness::worker::SimulatedGpu;
use kilocard_testbed::load::Load;
use kilocard_testbed::outage;
use kilocard_testbed::poll::{self, DEADLINE};
use kilocard_testbed::starter::{self, V1_A, V1_B};
use kilocard_testbed::tally;
use std::time::Instant;

const LANES: usize = 4;
const V1: [(&str, &str); 1] = [("x-model-version", "v1")];

/// Everything sooner than by default.
const WEIGHTS: &str = "api_version: kilocard/v1
kind: WeightPolicy
metadata: {name: quick}
spec:
  faults: {clear_ms: 500}
  slow_start: {over_ms: 6000}
  staleness: {after_ms: 500, decay_ms: 2000}
";

fn h100() -> SimulatedGpu {
    SimulatedGpu::h100("0000:1b:00.0")
}

fn h100_that_says(gpu: GpuReading) -> SimulatedGpu {
    SimulatedGpu { gpu, ..h100() }
}

#[tokio::test]
async fn a_card_that_fails_is_drained_without_a_lost_request_and_comes_back_slowly() -> Result<()> {
    let builder = Testbed::builder("e2e-drain")
        .policy(starter::routing(0))
        .policy(WEIGHTS);
    let mut testbed = builder.worker(starter::v1_a()).worker(starter::v1_b()).start().await?;
    let load = Load::start(testbed.gateway(), LANES, &V1).await?;
    outage::await_served_by(&load, V1_A).await?;
    a_fatal_xid_drains(&mut testbed, &load).await?;
    its_end_brings_the_card_back_slowly(&mut testbed, &load).await?;
    outage::ensure_unharmed(load).await?;
    heat_derates_and_the_status_says_why(&mut testbed).await?;
    a_silent_worker_goes_to_its_prior_and_never_to_zero(&mut testbed).await?;
    testbed.finish().await
}

async fn a_fatal_xid_drains(testbed: &mut Testbed, load: &Load) -> Result<()> {
    let xids = vec![XidEvent { code: 79, at_ms: 1 }];
    let fallen = h100_that_says(GpuReading {
        xids,
        ..GpuReading::default()
    });
    testbed.worker(V1_A)?.set_gpu(&fallen)?;
    let drained = |endpoint: &EndpointReport| {
        let drained = endpoint.factors.drained.as_ref().context("it is not drained")?;
        ensure!(drained.code == "xid_fatal" && drained.text == "XID 79", "{drained:?}");
        ensure!(endpoint.factors.simulated, "a simulated card is labelled so");
        Ok(())
    };
    await_endpoint(testbed, V1_A, "to be drained", drained).await?;
    let address = testbed.worker(V1_A)?.grpc().context("it serves")?;
    poll::until("Envoy to drain it", DEADLINE, async || {
        let hosts = testbed.envoy().hosts().await?;
        let host = hosts
            .iter()
            .find(|host| host.address == address)
            .context("it stays known")?;
        ensure!(!host.healthy, "it still takes requests");
        Ok(())
    })
    .await?;
    load.await_served(20, Instant::now()).await?;
    let tally = tally::workers_in_lanes(testbed.gateway(), 1, 50, &V1).await?;
    ensure!(tally.only(V1_B), "the other card serves: {tally}");
    let shown = testbed.kilocard(&["status"]).await?;
    let shown = String::from_utf8_lossy(&shown.stdout).into_owned();
    ensure!(shown.contains("xid_fatal"), "{shown}");
    Ok(())
}

async fn its_end_brings_the_card_back_slowly(testbed: &mut Testbed, load: &Load) -> Result<()> {
    let cleared = Instant::now();
    testbed.worker(V1_A)?.set_gpu(&h100())?;
    await_endpoint(testbed, V1_A, "to come back", |endpoint| {
        ensure!(endpoint.factors.drained.is_none(), "{:?}", endpoint.factors.drained);
        Ok(())
    })
    .await?;
    let begun = endpoint(testbed, V1_A).await?;
    ensure!(begun.weight < 400, "it begins slowly: {begun:?}");
    await_endpoint(testbed, V1_A, "to take up its share", |endpoint| {
        ensure!(endpoint.weight >= 300, "{endpoint:?}");
        Ok(())
    })
    .await?;
    poll::until("it to serve again", DEADLINE, async || {
        let samples = load.samples();
        let by_it = |sample: &&kilocard_testbed::load::Sample| {
            sample.started > cleared && sample.outcome.as_deref() == Ok(V1_A)
        };
        ensure!(samples.iter().filter(by_it).count() >= 5, "it does not yet");
        Ok(())
    })
    .await
}

async fn heat_derates_and_the_status_says_why(testbed: &mut Testbed) -> Result<()> {
    let hot = h100_that_says(GpuReading {
        sm_clock_mhz: Some(693),
        max_sm_clock_mhz: Some(1980),
        throttle_reasons: vec!["hw_thermal_slowdown".to_owned()],
        temperature_c: Some(91.0),
        slowdown_temperature_c: Some(90.0),
        ..GpuReading::default()
    });
    testbed.worker(V1_A)?.set_gpu(&hot)?;
    await_endpoint(testbed, V1_A, "to be derated", |endpoint| {
        let factors = &endpoint.factors;
        let thermal = factors.factors.iter().find(|factor| factor.name == "thermal");
        let thermal = thermal.context("the factor is reported")?;
        ensure!((thermal.value - 0.35).abs() < 0.01, "{thermal:?}");
        ensure!(thermal.reason.contains("hw_thermal_slowdown"), "{thermal:?}");
        ensure!(factors.drained.is_none() && endpoint.weight <= 150, "{endpoint:?}");
        Ok(())
    })
    .await
}

/// A record that nobody keeps up to date, at the address of a worker that serves: the younger of two is believed.
async fn a_silent_worker_goes_to_its_prior_and_never_to_zero(testbed: &mut Testbed) -> Result<()> {
    const SILENT: &str = "silent";
    let address = testbed.worker(V1_B)?.grpc().context("it serves")?;
    let telemetry = Telemetry {
        memory_total_bytes: 40 << 30,
        memory_free_bytes: 1 << 30,
        sequence: 1,
        refresh_ms: Some(200),
        ..Telemetry::default()
    };
    let record = WorkerRecord {
        id: SILENT.to_owned(),
        address: address.to_string(),
        node: "nowhere".to_owned(),
        device: Some("0000:1b:00.0".to_owned()),
        models: vec![ServedModel {
            model: "minilm".to_owned(),
            version: "v1".to_owned(),
        }],
        telemetry: Some(telemetry),
        ..WorkerRecord::default()
    };
    let key = testbed.layout().key(&Key::Worker(SILENT.to_owned()));
    let mut etcd = testbed.etcd().client().await?;
    etcd.put(key, serde_json::to_vec(&record)?, None).await?;
    await_endpoint(testbed, SILENT, "to go to its prior", |endpoint| {
        ensure!(endpoint.weight >= 1, "never to zero");
        let factors = &endpoint.factors;
        ensure!(factors.telemetry_stale && factors.drained.is_none(), "{factors:?}");
        ensure!((factors.target - factors.card_prior).abs() < 1.0, "{factors:?}");
        Ok(())
    })
    .await
}

async fn endpoint(testbed: &Testbed, worker: &str) -> Result<EndpointReport> {
    let status = testbed.status().await?;
    let mut endpoints = status.clusters.into_iter().flat_map(|cluster| cluster.endpoints);
    endpoints
        .find(|endpoint| endpoint.worker == worker)
        .with_context(|| format!("{worker} is not reported"))
}

async fn await_endpoint(
    testbed: &Testbed,
    worker: &str,
    what: &str,
    is: impl Fn(&EndpointReport) -> Result<()>,
) -> Result<()> {
    poll::until(&format!("{worker} {what}"), DEADLINE, async || {
        is(&endpoint(testbed, worker).await?)
    })
    .await
}
