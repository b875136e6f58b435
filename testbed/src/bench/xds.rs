//! The control plane at the scale of a fleet: a thousand proxies, ten thousand endpoints, a tenth of the weights changing
//! each second.
//!
//! etcd and the control plane are real processes. Workers and cards are records in etcd that nobody stands behind; the
//! proxies are simulated clients of this process that speak delta xDS over connections of their own ([`proxy`]), with a few
//! that decode and compare everything and one real Envoy among them ([`rider`]). Everything shares this machine, so CPU seconds
//! and bytes are told beside the latencies: they hold elsewhere, while latencies here are those of a machine that also runs
//! etcd and all the clients.

mod fleet;
mod inventory;
mod plane;
mod proxy;
mod rider;
mod stage;
mod wire;

use super::record;
use crate::demo::say;
use crate::install::{Install, state_dir};
use anyhow::Result;
use clap::Args;
use serde_json::json;
use stage::{Figures, Stage};

/// Flags of `bench xds`.
#[derive(Args, Clone, Debug)]
pub struct Xds {
    /// Simulated proxies
    #[arg(long, default_value_t = 1000, value_parser = clap::value_parser!(u32).range(1..=5000))]
    proxies: u32,
    /// Endpoints
    #[arg(long, default_value_t = 10_000, value_parser = clap::value_parser!(u32).range(10..=200_000))]
    endpoints: u32,
    /// Model versions, each a cluster, over which the endpoints are dealt out
    #[arg(long, default_value_t = 50, value_parser = clap::value_parser!(u32).range(1..=2000))]
    clusters: u32,
    /// Share of the workers that report another state each second, in percent
    #[arg(long, default_value_t = 10, value_parser = clap::value_parser!(u32).range(1..=100))]
    changed_percent: u32,
    /// Seconds of steady changes; the sweeps take a third of it each
    #[arg(long, default_value_t = 24, value_parser = clap::value_parser!(u32).range(3..=600))]
    seconds: u32,
    /// Leave out how cost grows with proxies and endpoints
    #[arg(long)]
    no_sweeps: bool,
    /// A tenth of everything, to see that it works
    #[arg(long)]
    quick: bool,
    /// How proxies get at the filter, as the control plane's own flag; inline adds its 750 kB to every first sync
    #[arg(long, default_value = "inline", value_parser = ["inline", "path"])]
    filter_delivery: String,
    /// A further argument of the control plane; repeatable
    #[arg(long = "control-plane-argument", value_name = "ARGUMENT", allow_hyphen_values = true)]
    arguments: Vec<String>,
}

/// The aims (see docs/scale.md), for the main stage.
mod aim {
    pub(super) const P50_MS: f64 = 50.0;
    pub(super) const P99_MS: f64 = 250.0;
    pub(super) const CORES: f64 = 2.0;
    pub(super) const MEMORY_BYTES: f64 = 1e9;
    pub(super) const BYTES_PER_ENDPOINT: f64 = 500.0;
    pub(super) const STORM_S: f64 = 5.0;
}

impl Xds {
    pub(super) async fn run(mut self) -> Result<()> {
        if self.quick {
            self.proxies = (self.proxies / 10).max(1);
            self.endpoints = (self.endpoints / 10).max(10);
            self.clusters = (self.clusters / 5).max(1);
            self.seconds = (self.seconds / 4).max(3);
        }
        let install = Install::locate()?;
        let state = state_dir()?;
        std::fs::create_dir_all(&state)?;
        let dir = tempfile::Builder::new().prefix("bench-xds-").tempdir_in(state)?;
        let main = self.main();
        let figures = main.run(&install, dir.path()).await?;
        judge(&figures);
        let mut sweeps = Vec::new();
        if !self.no_sweeps {
            for stage in self.sweeps() {
                sweeps.push(stage.run(&install, dir.path()).await?);
            }
            tabulate(std::iter::once(&figures).chain(&sweeps));
        }
        record("xds", &json!({"main": figures, "sweeps": sweeps}))
    }

    fn main(&self) -> Stage {
        let mut arguments = vec!["--filter-delivery".to_owned(), self.filter_delivery.clone()];
        arguments.extend(self.arguments.iter().cloned());
        Stage {
            name: "main".to_owned(),
            proxies: self.proxies as usize,
            clusters: self.clusters as usize,
            endpoints: self.endpoints as usize,
            changed: (self.endpoints * self.changed_percent / 100).max(1) as usize,
            seconds: self.seconds.into(),
            storms: true,
            envoy: true,
            arguments,
        }
    }

    /// A tenth and a third of the proxies; a tenth and five times the endpoints; and one large cluster of which one weight
    /// changes at a time.
    fn sweeps(&self) -> Vec<Stage> {
        let main = self.main();
        let few = (main.proxies / 10).max(1);
        let stage = |name: &str, proxies: usize, endpoints: usize, clusters: usize, changed: usize| Stage {
            name: name.to_owned(),
            proxies,
            clusters,
            endpoints,
            changed: changed.max(1),
            seconds: (main.seconds / 3).max(3),
            storms: false,
            envoy: false,
            arguments: main.arguments.clone(),
        };
        let (endpoints, clusters, changed) = (main.endpoints, main.clusters, main.changed);
        vec![
            stage("a tenth of the proxies", few, endpoints, clusters, changed),
            stage("a third of the proxies", main.proxies / 3, endpoints, clusters, changed),
            stage(
                "a tenth of the endpoints",
                few,
                endpoints / 10,
                clusters.div_ceil(10),
                changed / 10,
            ),
            stage(
                "five times the endpoints",
                few,
                endpoints * 5,
                clusters * 5,
                changed * 5,
            ),
            stage("one large cluster, one weight", few, endpoints / 5, 1, 1),
        ]
    }
}

/// Says of each aim whether it was reached.
fn judge(figures: &Figures) {
    let per_endpoint = figures.per_endpoint();
    let storm = |sync: &Option<stage::Sync>| sync.map_or(f64::NAN, |sync| sync.seconds);
    let rows = [
        ("commit → ACK p50, ms", figures.churn.latency_ms.p50, aim::P50_MS),
        ("commit → ACK p99, ms", figures.churn.latency_ms.p99, aim::P99_MS),
        ("control plane, cores", figures.churn.control_plane_cpu, aim::CORES),
        (
            "control plane, peak MB",
            figures.memory.peak as f64 / 1e6,
            aim::MEMORY_BYTES / 1e6,
        ),
        (
            "control plane, bytes an endpoint",
            per_endpoint,
            aim::BYTES_PER_ENDPOINT,
        ),
        ("reconnect with versions, s", storm(&figures.reconnect), aim::STORM_S),
        ("reconnect without, s", storm(&figures.restart), aim::STORM_S),
    ];
    say("\naim                                     at most       seen");
    for (name, seen, most) in rows {
        let verdict = if seen <= most { "reached" } else { "missed" };
        say(&format!("{name:<36} {most:>10.0} {seen:>10.1}  {verdict}"));
    }
}

/// How cost grows.
fn tabulate<'a>(all: impl Iterator<Item = &'a Figures>) {
    say(
        "\nstage                            proxies endpoints clusters  p50 ms  p99 ms  CP cores  µs/proxy·change  kB/proxy·s   MB RSS  B/endpoint  first sync s",
    );
    for figures in all {
        let stage = &figures.stage;
        say(&format!(
            "{:<32} {:>7} {:>9} {:>8} {:>7.1} {:>7.1} {:>9.2} {:>16.3} {:>11.1} {:>8.0} {:>11.0} {:>13.2}",
            stage.name,
            stage.proxies,
            stage.endpoints,
            stage.clusters,
            figures.churn.latency_ms.p50,
            figures.churn.latency_ms.p99,
            figures.churn.control_plane_cpu,
            figures.churn.cpu_us_per_proxy_change,
            figures.churn.bytes_per_proxy_burst / 1e3,
            figures.memory.end as f64 / 1e6,
            figures.per_endpoint(),
            figures.first.seconds,
        ));
    }
}

impl Figures {
    /// Memory that the control plane holds for each endpoint, in bytes, before any proxy is there.
    fn per_endpoint(&self) -> f64 {
        self.memory.loaded.saturating_sub(self.memory.empty) as f64 / self.stage.endpoints as f64
    }
}
