//! CPU and memory that validation and routing add to Envoy, as modules of ours, in Lua and in an ext_proc server.
//!
//! Envoys that differ in their filters only answer the request themselves (a direct response: no upstream blurs the
//! picture). They run side by side and are loaded in turn, in an order shuffled anew each round, so that neither a busier
//! minute of the machine nor a place in the order favours one. The load is an open loop: the same for all, however fast they
//! are. What counts is CPU time of the processes as the scheduler accounts it, not requests per second: generator and Envoy
//! share the cores.

mod border;
pub mod ext_proc;
mod keys;
mod memory;
mod proxy;
mod report;
mod request;
mod variant;

use super::record;
use crate::demo::say;
use crate::install::{Install, state_dir};
use crate::open_loop::OpenLoop;
use anyhow::Result;
use clap::{Args, ValueEnum as _};
use hdrhistogram::Histogram;
use memory::Growth;
use proxy::Proxy;
use report::Cell;
use serde_json::{Value, json};
use std::path::Path;
use variant::Variant;

/// Connections to each worker thread of Envoy.
const CONNECTIONS: u32 = 2;

/// Flags of `bench filter`.
#[derive(Args, Clone, Debug)]
pub struct Filter {
    /// How many rounds; each measures every variant once
    #[arg(long, default_value_t = 11, value_parser = clap::value_parser!(u32).range(1..=1000))]
    rounds: u32,
    /// Requests of one measurement
    #[arg(long, default_value_t = 10_000, value_parser = clap::value_parser!(u32).range(100..=10_000_000))]
    requests: u32,
    /// Requests a second, whatever the answers
    #[arg(long, default_value_t = 4000, value_parser = clap::value_parser!(u32).range(1..=1_000_000))]
    rate: u32,
    /// Worker threads of Envoy, each number measured on its own
    #[arg(long, value_delimiter = ',', default_values_t = [1, 2], value_parser = clap::value_parser!(u32).range(1..=64))]
    concurrency: Vec<u32>,
    /// What to measure; "none" is always there to compare with
    #[arg(long, value_enum, value_delimiter = ',', default_values_t = Variant::value_variants().to_vec())]
    variants: Vec<Variant>,
    /// Let Envoy forward the requests, to a listener of its own that answers them: some filters look at no others
    #[arg(long)]
    forward: bool,
    /// Requests that the gateway module gets while its memory is watched; 0 leaves it out
    #[arg(long, default_value_t = 1_000_000, value_parser = clap::value_parser!(u32).range(0..=50_000_000))]
    requests_memory: u32,
}

impl Filter {
    pub(super) async fn run(self) -> Result<()> {
        let install = Install::locate()?;
        let state = state_dir()?;
        std::fs::create_dir_all(&state)?;
        let dir = tempfile::Builder::new().prefix("bench-filter-").tempdir_in(state)?;
        let mut proxies = Vec::new();
        for threads in sorted(&self.concurrency) {
            let variants = sorted(&[&[Variant::None], self.variants.as_slice()].concat());
            let can_show = |variant: &Variant| self.forward || !variant.needs_upstream();
            for variant in variants.into_iter().filter(can_show) {
                let proxy = Proxy::start(&install, dir.path(), (variant, threads), self.forward);
                proxies.push(proxy.await?);
            }
        }
        for proxy in &proxies {
            if proxy.variant().is_verified() {
                border::verify(proxy).await?;
            }
            // Warm: connections, caches, the VM's optimising compiler.
            self.load(proxy)
                .run(proxy.address(), &request::ask())
                .await?
                .all(request::PASSED)?;
        }
        let cells = self.measure(&proxies).await?;
        say(&format!(
            "CPU per request; {} rounds of {} requests at {} a second in an open loop, {CONNECTIONS} connections to each worker thread",
            self.rounds, self.requests, self.rate
        ));
        let cpu = report::present(&cells);
        let sizes = sizes(&install)?;
        let memory = self.watch_memory(&install, dir.path(), &proxies).await?;
        record(
            "filter",
            &json!({
                "rounds": self.rounds, "requests": self.requests, "rate": self.rate, "forward": self.forward, "connections_per_thread": CONNECTIONS,
                "cpu": cpu, "module_bytes": sizes, "memory": memory,
            }),
        )
    }

    fn load(&self, proxy: &Proxy) -> OpenLoop {
        OpenLoop {
            requests: self.requests,
            rate: self.rate,
            connections: CONNECTIONS * proxy.threads(),
        }
    }

    /// Every round measures each proxy once, in random order.
    async fn measure(&self, proxies: &[Proxy]) -> Result<Vec<Cell>> {
        let mut cells = Vec::new();
        for proxy in proxies {
            cells.push(Cell {
                variant: proxy.variant(),
                threads: proxy.threads(),
                envoy: Vec::new(),
                server: Vec::new(),
                latency: Histogram::new(3)?,
                lateness: Histogram::new(3)?,
            });
        }
        for _ in 0..self.rounds {
            let mut order: Vec<(&Proxy, &mut Cell)> = proxies.iter().zip(&mut cells).collect();
            fastrand::shuffle(&mut order);
            for (proxy, cell) in order {
                let before = proxy.cpu()?;
                let seen = self.load(proxy).run(proxy.address(), &request::ask()).await?;
                let after = proxy.cpu()?;
                let per_request = |spent: std::time::Duration| spent.as_secs_f64() * 1e6 / f64::from(self.requests);
                cell.envoy.push(per_request(after.envoy.saturating_sub(before.envoy)));
                cell.server
                    .push(per_request(after.server.saturating_sub(before.server)));
                let (latency, lateness) = seen.all(request::PASSED)?;
                cell.latency.add(latency)?;
                cell.lateness.add(lateness)?;
            }
        }
        Ok(cells)
    }

    /// The gateway module's memory over many requests, what a worker thread costs with it and without any filter, and what
    /// the keys of a limit cost.
    async fn watch_memory(&self, install: &Install, dir: &Path, proxies: &[Proxy]) -> Result<Value> {
        if self.forward {
            return Ok(Value::Null);
        }
        let gateway = proxies.iter().find(|proxy| proxy.variant() == Variant::Gateway);
        let Some(gateway) = gateway.filter(|_| self.requests_memory > 0) else {
            return Ok(Value::Null);
        };
        let growth = Growth::measure(gateway, self.requests_memory).await?;
        growth.print();
        let threads = memory::per_thread(install, dir).await?;
        memory::print_threads(&threads);
        let keys = keys::measure(install, dir).await?;
        keys::print(&keys);
        Ok(json!({"growth": growth, "one_worker_thread": threads, "keys": keys}))
    }
}

/// Prints the modules' sizes and gives them.
fn sizes(install: &Install) -> Result<Value> {
    say("\nmodule                                bytes");
    let sizes = variant::module_sizes(install)?;
    for (name, bytes) in &sizes {
        say(&format!("{:<32} {bytes:>10}", format!("{name}.wasm")));
    }
    Ok(sizes.into_iter().collect())
}

/// In order, each once.
fn sorted<T: Copy + Ord>(values: &[T]) -> Vec<T> {
    let mut sorted = values.to_vec();
    sorted.sort_unstable();
    sorted.dedup();
    sorted
}
