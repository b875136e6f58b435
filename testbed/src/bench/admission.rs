//! What limits are worth under overload: none, queries only, memory only, both together.
//!
//! Real Envoy, configured by the real control plane from policies in real etcd, before a worker that generates tokens out of a
//! real arena of memory (see [`worker`]): a sequence takes blocks as it grows, and one that finds none is lost. The load is an
//! open loop that changes every second between once and three times what the worker can do. Each way of limiting has a
//! model of its own and the worker for itself; they are measured in turn, in an order shuffled anew each round.

mod report;
mod variant;
mod worker;

use super::record;
use crate::demo::say;
use crate::harness::Testbed;
use crate::harness::record::{Record, StandIn};
use crate::open_loop::{Answer, Ask, OpenLoop};
use crate::poll::{self, DEADLINE};
use anyhow::{Context, Result, ensure};
use clap::Args;
use report::{Cell, Round};
use serde_json::json;
use std::net::SocketAddr;
use std::time::{Duration, Instant};
use tokio::task::JoinSet;
use variant::Variant;
use worker::{Arena, ArenaWorker};

/// Flags of `bench admission`.
#[derive(Args, Clone, Debug)]
pub struct Admission {
    /// How many rounds; each measures every way of limiting once
    #[arg(long, default_value_t = 3, value_parser = clap::value_parser!(u32).range(1..=1000))]
    rounds: u32,
    /// Seconds of one measurement
    #[arg(long, default_value_t = 20, value_parser = clap::value_parser!(u32).range(4..=3600))]
    seconds: u32,
    /// Requests a second that count as the worker's capacity, and that the limit on queries lets through
    #[arg(long, default_value_t = 60, value_parser = clap::value_parser!(u32).range(1..=10_000))]
    capacity: u32,
    /// The percentile of output by which memory is reserved
    #[arg(long, default_value_t = 95, value_parser = clap::value_parser!(u32).range(50..=99))]
    percentile: u32,
    /// Blocks of the worker's arena, 64 KiB each, for 16 tokens each
    #[arg(long, default_value_t = 400, value_parser = clap::value_parser!(u32).range(64..=1_000_000))]
    blocks: u32,
    /// Sequences that the worker runs at a time
    #[arg(long, default_value_t = 64, value_parser = clap::value_parser!(u32).range(1..=100_000))]
    sequences: u32,
    /// Measure only these ways
    #[arg(long, value_enum, value_delimiter = ',')]
    ways: Vec<Variant>,
}

impl Admission {
    pub(super) async fn run(self) -> Result<()> {
        let mut builder = Testbed::builder("bench-admission");
        for document in variant::documents(self.capacity, self.percentile) {
            builder = builder.policy(document.to_string());
        }
        let mut testbed = builder.start().await?;
        let is_wanted = |way: &Variant| self.ways.is_empty() || self.ways.contains(way);
        let ways = Variant::ALL.into_iter().filter(is_wanted);
        let mut cells: Vec<Cell> = ways.map(Cell::new).collect();
        for _ in 0..self.rounds {
            let mut order: Vec<&mut Cell> = cells.iter_mut().collect();
            fastrand::shuffle(&mut order);
            for cell in order {
                cell.rounds.push(self.round(&mut testbed, cell.variant).await?);
                testbed.check()?;
            }
        }
        testbed.finish().await?;
        say(&format!(
            "{} rounds of {} s; an open loop that changes every second between {} and {} requests a second; a worker that \
             pretends to compute, with a real arena of {} blocks, of which {} would be needed for all sequences that it runs at \
             once",
            self.rounds,
            self.seconds,
            self.capacity,
            3 * self.capacity,
            self.blocks,
            u64::from(self.sequences) * 12,
        ));
        let rows = report::present(&cells, f64::from(self.seconds))?;
        record(
            "admission",
            &json!({
                "rounds": self.rounds, "seconds": self.seconds, "capacity_per_second": self.capacity, "blocks": self.blocks,
                "sequences": self.sequences,
                "output_percentile": self.percentile,
                "policies": variant::documents(self.capacity, self.percentile), "ways": rows,
            }),
        )
    }

    async fn round(&self, testbed: &mut Testbed, variant: Variant) -> Result<Round> {
        // Of the reference nothing may be lost: it says what the worker can do when memory is no question.
        let blocks = if variant == Variant::Ample {
            self.blocks * 16
        } else {
            self.blocks
        };
        let worker = ArenaWorker::start(Arena::new(blocks), self.sequences).await?;
        let stand_in = StandIn {
            id: format!("arena-{}", variant.model()),
            address: worker.address(),
            model: variant.model().to_owned(),
            version: variant::VERSION.to_owned(),
        };
        let arena = worker.arena();
        let record = Record::keep(testbed.etcd(), stand_in, move || arena.memory()).await?;
        await_served(testbed.gateway(), variant).await?;
        let before = worker.counts();
        let answers = self.load(testbed.gateway(), variant).await?;
        let after = worker.counts();
        record.withdraw().await?;
        Ok(Round {
            answers,
            tokens: after.tokens - before.tokens,
            lost: after.lost - before.lost,
        })
    }

    /// Every other second a burst on top of a steady load.
    async fn load(&self, gateway: SocketAddr, variant: Variant) -> Result<Vec<Answer>> {
        let steady = match variant {
            Variant::Below => self.capacity * 8 / 10,
            _ => self.capacity,
        };
        let load = |rate: u32, seconds: u32| OpenLoop {
            requests: rate * seconds,
            rate,
            connections: self.sequences.div_ceil(32),
        };
        let asks = variant.asks();
        let mut loads = JoinSet::new();
        let (first, of_steady) = (load(steady, self.seconds), asks.clone());
        loads.spawn(async move { first.answers(gateway, &of_steady).await });
        if variant != Variant::Below {
            let begun = Instant::now();
            for second in (0..self.seconds).step_by(2) {
                let (burst, asks) = (load(2 * self.capacity, 1), shifted(&asks, second));
                loads.spawn(async move {
                    tokio::time::sleep_until((begun + Duration::from_secs(second.into())).into()).await;
                    burst.answers(gateway, &asks).await
                });
            }
        }
        let mut answers = Vec::new();
        while let Some(of_one) = loads.join_next().await {
            answers.extend(of_one??);
        }
        Ok(answers)
    }
}

/// The same in another order, so that bursts do not all begin alike.
fn shifted(asks: &[Ask], by: u32) -> Vec<Ask> {
    let mut asks = asks.to_vec();
    let middle = (by as usize * 37) % asks.len().max(1);
    asks.rotate_left(middle);
    asks
}

/// Until one request in a row of some is served: then the memory is known too.
async fn await_served(gateway: SocketAddr, variant: Variant) -> Result<()> {
    let one = OpenLoop {
        requests: 1,
        rate: 100,
        connections: 1,
    };
    let asks = variant.asks();
    poll::until(&format!("{variant:?} to be served"), DEADLINE, async || {
        let answers = one.answers(gateway, &asks).await?;
        let answer = answers.first().context("no answer")?;
        ensure!(answer.status == report::SERVED, "answered {}", answer.status);
        Ok(())
    })
    .await
}
