//! Zones: a proxy prefers the workers of its own, and others take what those cannot bear.

use anyhow::{Context, Result, ensure};
use kilocard_registry::layout::Key;
use kilocard_registry::report::LocalityReport;
use kilocard_registry::worker::{ServedModel, Telemetry, WorkerRecord};
use kilocard_testbed::harness::Testbed;
use kilocard_testbed::harness::worker::WorkerSpec;
use kilocard_testbed::load::Load;
use kilocard_testbed::outage;
use kilocard_testbed::poll::{self, DEADLINE};
use kilocard_testbed::starter;
use kilocard_testbed::tally::{self, Tally};
use std::net::SocketAddr;
use std::time::Instant;

const LANES: usize = 4;
const V1: [(&str, &str); 1] = [("x-model-version", "v1")];
const HERE: &str = "here";
const THERE: &str = "there";

/// A share that moves fast, up to a third, so that a test sees it rest there.
const WEIGHTS: &str = "api_version: kilocard/v1
kind: WeightPolicy
metadata: {name: quick}
spec:
  slow_start: {over_ms: 0}
  spillover: {step_percent: 20, most_percent: 30, hold_ms: 1000}
";

fn worker(zone: &str) -> WorkerSpec {
    WorkerSpec::minilm(&format!("worker-{zone}"), "v1").in_zone(zone)
}

async fn mesh(name: &str) -> Result<Testbed> {
    let builder = Testbed::builder(name)
        .zone(HERE)
        .policy(starter::routing(0))
        .policy(WEIGHTS);
    builder.worker(worker(HERE)).worker(worker(THERE)).start().await
}

async fn ask(testbed: &Testbed, calls: usize) -> Result<Tally> {
    tally::workers_in_lanes(testbed.gateway(), 2, calls, &V1).await
}

#[tokio::test]
async fn a_proxy_keeps_to_its_zone_and_goes_elsewhere_only_while_nobody_is_left_there() -> Result<()> {
    let mut testbed = mesh("e2e-zones").await?;
    testbed.start_worker(WorkerSpec::minilm("worker-nowhere", "v1")).await?;
    ensure!(ask(&testbed, 100).await?.only("worker-here"), "its own zone serves");
    let status = testbed.status().await?;
    ensure!(status.nodes.iter().all(|node| node.zone == HERE), "{:?}", status.nodes);

    let load = Load::start(testbed.gateway(), LANES, &V1).await?;
    outage::await_served_by(&load, "worker-here").await?;
    let address = testbed.worker("worker-here")?.grpc().context("it serves")?;
    testbed.worker("worker-here")?.drain().await?;
    testbed.envoy().await_endpoint(address, false).await?;
    load.await_served(20, Instant::now()).await?;
    let others = ask(&testbed, 100).await?;
    // How much of it each gets depends on what their reports say by now.
    ensure!(
        others.of("worker-here") == 0 && others.of("worker-there") > 0 && others.of("worker-nowhere") > 0,
        "the other zone serves, and who is in none: {others}"
    );
    testbed.start_worker(worker(HERE)).await?;
    await_only(&testbed, "worker-here").await?;
    outage::ensure_unharmed(load).await?;
    testbed.finish().await
}

async fn await_only(testbed: &Testbed, worker: &str) -> Result<()> {
    poll::until(&format!("{worker} alone to serve"), DEADLINE, async || {
        let tally = ask(testbed, 50).await?;
        ensure!(tally.only(worker), "{tally}");
        Ok(())
    })
    .await
}

/// What workers say of themselves is written by the test, in records of its own at their addresses: the younger of two at one
/// address is believed. Envoy, the control plane, and the workers that answer are real.
#[tokio::test]
async fn an_overloaded_zone_sends_its_excess_to_the_next_and_takes_it_back() -> Result<()> {
    let mut testbed = mesh("e2e-spill").await?;
    let load = Load::start(testbed.gateway(), LANES, &V1).await?;
    outage::await_served_by(&load, "worker-here").await?;
    let mut told = Told::of(&mut testbed)?;

    told.say(&mut testbed, [0.97, 0.2]).await?;
    await_away(&mut testbed, &mut told, [0.97, 0.2], 30).await?;
    let status = testbed.kilocard(&["status"]).await?;
    let status = String::from_utf8_lossy(&status.stdout).into_owned();
    ensure!(status.contains("30 % to there"), "{status}");
    const CALLS: usize = 600;
    poll::until("Envoy to split its requests", DEADLINE, async || {
        let tally = ask(&testbed, CALLS).await?;
        let band = tally::binomial_band(CALLS, 0.3);
        ensure!(
            band.contains(&tally.of("worker-there")),
            "{band:?} expected, {tally} seen"
        );
        Ok(())
    })
    .await?;

    await_away(&mut testbed, &mut told, [0.3, 0.2], 0).await?;
    await_only(&testbed, "worker-here").await?;
    outage::ensure_unharmed(load).await?;
    testbed.finish().await
}

/// Reports until so many percent of the requests go elsewhere.
async fn await_away(testbed: &mut Testbed, told: &mut Told, busy: [f64; 2], percent: u32) -> Result<()> {
    poll::until(&format!("{percent} % to go elsewhere"), DEADLINE, async || {
        told.say(testbed, busy).await?;
        let here = here(testbed).await?;
        ensure!(here.away_percent == percent, "{here:?}");
        Ok(())
    })
    .await
}

async fn here(testbed: &Testbed) -> Result<LocalityReport> {
    let status = testbed.status().await?;
    let mut localities = status.clusters.into_iter().flat_map(|cluster| cluster.localities);
    localities
        .find(|locality| locality.zone == HERE)
        .context("the zone is reported")
}

/// Reports in the workers' stead.
struct Told {
    workers: [(String, SocketAddr); 2],
    sequence: u64,
}

impl Told {
    fn of(testbed: &mut Testbed) -> Result<Self> {
        let mut address = |zone: &str| -> Result<(String, SocketAddr)> {
            let worker = testbed.worker(&format!("worker-{zone}"))?;
            Ok((zone.to_owned(), worker.grpc().context("it serves")?))
        };
        Ok(Self {
            workers: [address(HERE)?, address(THERE)?],
            sequence: 0,
        })
    }

    async fn say(&mut self, testbed: &mut Testbed, busy: [f64; 2]) -> Result<()> {
        self.sequence += 1;
        let mut etcd = testbed.etcd().client().await?;
        for ((zone, address), busy) in self.workers.iter().zip(busy) {
            let mut telemetry = Telemetry {
                simulated: true,
                sequence: self.sequence,
                refresh_ms: Some(60_000),
                ..Telemetry::default()
            };
            telemetry.engine.busy_fraction = Some(busy);
            let record = WorkerRecord {
                id: format!("told-{zone}"),
                address: address.to_string(),
                node: "nowhere".to_owned(),
                zone: Some(zone.clone()),
                models: vec![ServedModel {
                    model: "minilm".to_owned(),
                    version: "v1".to_owned(),
                }],
                telemetry: Some(telemetry),
                ..WorkerRecord::default()
            };
            let key = testbed.layout().key(&Key::Worker(record.id.clone()));
            etcd.put(key, serde_json::to_vec(&record)?, None).await?;
        }
        Ok(())
    }
}
