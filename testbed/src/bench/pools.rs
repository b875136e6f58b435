//! Whether a burst of batch work starves interactive requests: one pool for both, against pools of their own.
//!
//! Real Envoy, configured by the real control plane from policies; workers that only pretend to compute (see [`worker`]). A
//! steady interactive load and a burst beyond what the workers can do meet the same workers, both as open loops. Each way of
//! pooling has a model of its own, hence clusters, connections and statistics of its own. All are loaded in turn, in an
//! order shuffled anew each round, so that neither a busier minute of the machine nor a place in the order favours one.

mod report;
mod variant;
mod worker;

use super::record;
use crate::demo::say;
use crate::harness::Testbed;
use crate::open_loop::{OpenLoop, Seen};
use crate::poll::{self, DEADLINE};
use anyhow::{Context, Result, ensure};
use clap::Args;
use kilocard_registry::layout::Key;
use kilocard_registry::worker::{ServedModel, WorkerRecord};
use report::{Cell, Round};
use serde_json::json;
use std::net::SocketAddr;
use variant::Variant;
use worker::{Capacity, SimulatedWorker, Work};

/// gRPC `OK`.
const SERVED: &str = "0";

/// Flags of `bench pools`.
#[derive(Args, Clone, Debug)]
pub struct Pools {
    /// How many rounds; each measures every way of pooling once
    #[arg(long, default_value_t = 7, value_parser = clap::value_parser!(u32).range(1..=1000))]
    rounds: u32,
    /// Seconds of one measurement
    #[arg(long, default_value_t = 3, value_parser = clap::value_parser!(u32).range(1..=600))]
    seconds: u32,
    /// Interactive requests a second
    #[arg(long, default_value_t = 100, value_parser = clap::value_parser!(u32).range(1..=10_000))]
    interactive: u32,
    /// Requests a second of the burst; what the workers can do by default is 400
    #[arg(long, default_value_t = 800, value_parser = clap::value_parser!(u32).range(1..=100_000))]
    burst: u32,
}

/// Workers and what each can do.
const WORKERS: usize = 2;
const CAPACITY: Capacity = Capacity { slots: 4 };

impl Pools {
    pub(super) async fn run(self) -> Result<()> {
        let mut workers = Vec::new();
        for _ in 0..WORKERS {
            workers.push(SimulatedWorker::start(CAPACITY).await?);
        }
        let mut builder = Testbed::builder("bench-pools");
        for document in variant::documents() {
            builder = builder.policy(document.to_string());
        }
        let mut testbed = builder.start().await?;
        register(&mut testbed, &workers).await?;
        for variant in Variant::ALL {
            await_served(&testbed, variant).await?;
        }
        let cells = self.measure(&mut testbed).await?;
        testbed.finish().await?;
        say(&format!(
            "{} rounds of {} s: {} interactive requests a second (P0, {} ms each) and a burst of {} a second (P2, {} ms \
             each), both open loops; {WORKERS} simulated workers with {} slots each",
            self.rounds,
            self.seconds,
            self.interactive,
            Work::Interactive.takes().as_millis(),
            self.burst,
            Work::Batch.takes().as_millis(),
            CAPACITY.slots,
        ));
        let rows = report::present(&cells, f64::from(self.seconds))?;
        record(
            "pools",
            &json!({
                "rounds": self.rounds, "seconds": self.seconds, "interactive_per_second": self.interactive,
                "burst_per_second": self.burst, "workers_simulated": WORKERS, "slots": CAPACITY.slots,
                "interactive_ms": Work::Interactive.takes().as_millis(), "batch_ms": Work::Batch.takes().as_millis(),
                "policies": variant::documents(), "pools": rows,
            }),
        )
    }

    async fn measure(&self, testbed: &mut Testbed) -> Result<Vec<Cell>> {
        let mut cells: Vec<Cell> = Variant::ALL.into_iter().map(Cell::new).collect();
        for _ in 0..self.rounds {
            let mut order: Vec<&mut Cell> = cells.iter_mut().collect();
            fastrand::shuffle(&mut order);
            for cell in order {
                cell.rounds.push(self.round(testbed, cell.variant).await?);
                testbed.check()?;
            }
        }
        Ok(cells)
    }

    async fn round(&self, testbed: &mut Testbed, variant: Variant) -> Result<Round> {
        let gateway = testbed.gateway();
        let before = Connections::read(testbed, variant).await?;
        let load = |rate: u32, work| async move {
            let load = OpenLoop {
                requests: rate * self.seconds,
                rate,
                connections: 2,
            };
            load.run(gateway, &variant.ask(work)).await
        };
        let (interactive, batch): (Result<Seen>, Result<Seen>) =
            tokio::join!(load(self.interactive, Work::Interactive), load(self.burst, Work::Batch));
        let after = Connections::read(testbed, variant).await?;
        Ok(Round {
            interactive: interactive?,
            batch: batch?,
            opened: after.opened - before.opened,
            requests: after.requests - before.requests,
        })
    }
}

/// What Envoy has counted of all clusters of a model.
#[derive(Clone, Copy, Debug)]
struct Connections {
    opened: u64,
    requests: u64,
}

impl Connections {
    async fn read(testbed: &mut Testbed, variant: Variant) -> Result<Self> {
        let stats = testbed.envoy().stats(&variant.stat_prefix()).await?;
        let sum = |counter: &str| {
            let of = stats.iter().filter(|(name, _)| name.ends_with(counter));
            of.map(|(_, value)| value).sum()
        };
        Ok(Self {
            opened: sum(".upstream_cx_total"),
            requests: sum(".upstream_rq_total"),
        })
    }
}

/// Writes the workers' records, as workers do.
async fn register(testbed: &mut Testbed, workers: &[SimulatedWorker]) -> Result<()> {
    let layout = testbed.layout();
    let mut etcd = testbed.etcd().client().await?;
    for (number, worker) in workers.iter().enumerate() {
        let id = format!("simulated-{number}");
        let served = Variant::ALL.map(|variant| ServedModel {
            model: variant.model().to_owned(),
            version: variant::VERSION.to_owned(),
        });
        let record = WorkerRecord {
            id: id.clone(),
            address: worker.address().to_string(),
            node: "simulated".to_owned(),
            device: None,
            models: served.to_vec(),
            telemetry: None,
            ..WorkerRecord::default()
        };
        etcd.put(layout.key(&Key::Worker(id)), serde_json::to_vec(&record)?, None)
            .await?;
    }
    Ok(())
}

/// Until requests of both kinds are served; at the start the clusters warm up one after the other.
async fn await_served(testbed: &Testbed, variant: Variant) -> Result<()> {
    let gateway: SocketAddr = testbed.gateway();
    let one = OpenLoop {
        requests: 1,
        rate: 100,
        connections: 1,
    };
    for work in [Work::Interactive, Work::Batch] {
        poll::until(&format!("{variant:?} to be served"), DEADLINE, async || {
            let seen = one.run(gateway, &variant.ask(work)).await?;
            let (latency, _) = seen.all(SERVED).context("not served yet")?;
            ensure!(latency.len() == 1, "one request, {} answers", latency.len());
            Ok(())
        })
        .await?;
    }
    Ok(())
}
