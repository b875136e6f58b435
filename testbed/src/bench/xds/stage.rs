//! One measurement: a mesh of one size, loaded, followed by so many proxies, changed every second.

use super::fleet::{Fleet, Received, Return};
use super::inventory::Inventory;
use super::plane::Plane;
use super::proxy::Endpoints;
use super::rider::Rider;
use crate::bench::usage;
use crate::demo::say;
use crate::install::Install;
use crate::poll;
use anyhow::{Context, Result};
use hdrhistogram::Histogram;
use kilocard_registry::report::MeshReport;
use serde::Serialize;
use std::collections::BTreeMap;
use std::path::Path;
use std::time::{Duration, Instant};

/// Between two bursts of changes.
const PERIOD: Duration = Duration::from_secs(1);
/// The same changes each time.
const SEED: u64 = 0x6b69_6c6f_6361_7264;
/// A change after which every proxy must have been served: it ends a phase.
const PROBE: usize = 1;

/// What is measured.
#[derive(Clone, Debug, Serialize)]
pub(super) struct Stage {
    pub(super) name: String,
    pub(super) proxies: usize,
    pub(super) clusters: usize,
    pub(super) endpoints: usize,
    /// Workers that report another state each second.
    pub(super) changed: usize,
    /// Bursts of changes.
    pub(super) seconds: u64,
    /// Whether all reconnect at the end, with and without their versions.
    pub(super) storms: bool,
    /// Whether a real Envoy rides along, and must end with the same endpoints.
    pub(super) envoy: bool,
    /// Further arguments of the control plane.
    pub(super) arguments: Vec<String>,
}

/// What was seen.
#[derive(Debug, Serialize)]
pub(super) struct Figures {
    pub(super) stage: Stage,
    /// Memory of the control plane, in bytes: without a mesh, with it, with proxies in sync, at the end, and at most.
    pub(super) memory: Memory,
    /// All proxies connect at once, with nothing.
    pub(super) first: Sync,
    pub(super) churn: Churn,
    /// All reconnect at once with their versions; until each has acknowledged a change made right then.
    pub(super) reconnect: Option<Sync>,
    /// All reconnect at once without anything.
    pub(super) restart: Option<Sync>,
    /// Connections lost other than by order.
    pub(super) failures: u64,
}

#[derive(Clone, Copy, Debug, Default, Serialize)]
pub(super) struct Memory {
    pub(super) empty: u64,
    pub(super) loaded: u64,
    pub(super) synced: u64,
    pub(super) end: u64,
    pub(super) peak: u64,
}

/// A phase after which every proxy is in sync.
#[derive(Clone, Copy, Debug, Serialize)]
pub(super) struct Sync {
    pub(super) seconds: f64,
    pub(super) bytes: u64,
    pub(super) control_plane_cpu_s: f64,
}

/// The steady state.
#[derive(Debug, Serialize)]
pub(super) struct Churn {
    pub(super) bursts: usize,
    /// For each proxy and burst, from the commit in etcd until the proxy acknowledged it, in ms.
    pub(super) latency_ms: Quantiles,
    /// For each burst, until the last proxy.
    pub(super) slowest_ms: Quantiles,
    /// Until etcd had committed the burst.
    pub(super) commit_ms: Quantiles,
    /// CPU seconds a second.
    pub(super) control_plane_cpu: f64,
    pub(super) etcd_cpu: f64,
    pub(super) clients_cpu: f64,
    /// Snapshots built for each burst, and how long each took.
    pub(super) builds_per_burst: f64,
    pub(super) build_ms: f64,
    /// CPU of the control plane for each proxy and each endpoint changed, in µs.
    pub(super) cpu_us_per_proxy_change: f64,
    /// Received by all proxies.
    pub(super) bytes_per_s: f64,
    pub(super) bytes_per_proxy_burst: f64,
    pub(super) responses_per_proxy_burst: f64,
}

#[derive(Clone, Copy, Debug, Serialize)]
pub(super) struct Quantiles {
    pub(super) p50: f64,
    pub(super) p90: f64,
    pub(super) p99: f64,
    pub(super) max: f64,
}

/// What had been used at one moment.
struct Used {
    when: Instant,
    control_plane: Duration,
    etcd: Duration,
    clients: Duration,
    received: Received,
    /// Builds of a snapshot, and the seconds that they took.
    builds: (f64, f64),
}

/// A burst that was written.
struct Burst {
    revision: i64,
    committed: Instant,
    commit: Duration,
}

impl Stage {
    pub(super) async fn run(&self, install: &Install, dir: &Path) -> Result<Figures> {
        let dir = tempfile::Builder::new().prefix("stage-").tempdir_in(dir)?;
        say(&format!(
            "\n{}: {} proxies, {} endpoints in {} clusters, {} changed a second",
            self.name, self.proxies, self.endpoints, self.clusters, self.changed
        ));
        let mut plane = Plane::start(install, dir.path(), &self.arguments).await?;
        let mut memory = Memory {
            empty: plane.resident()?,
            ..Memory::default()
        };
        let mut inventory = Inventory::new(self.clusters, self.endpoints);
        let revision = plane.write(inventory.entries()).await?;
        plane.await_revision(revision).await?;
        memory.loaded = plane.resident()?;
        let rider = if self.envoy {
            Some(Rider::start(install, dir.path(), plane.xds()).await?)
        } else {
            None
        };

        let (begun, cpu) = (Instant::now(), plane.cpu()?);
        let fleet = Fleet::connect(plane.xds(), self.proxies, VERIFYING.min(self.proxies));
        let synced = fleet.await_synced().await?;
        let first = self.sync("all connected and in sync", (&plane, &fleet), (begun, synced, cpu, 0))?;
        memory.synced = plane.resident()?;

        let mut random = fastrand::Rng::with_seed(SEED);
        let churn = self.churn(&mut plane, &fleet, &mut inventory, &mut random).await?;
        let (mut reconnect, mut restart) = (None, None);
        if self.storms {
            reconnect = Some(
                self.storm(Return::WithVersions, &plane, &fleet, (&mut inventory, &mut random))
                    .await?,
            );
            restart = Some(
                self.storm(Return::Empty, &plane, &fleet, (&mut inventory, &mut random))
                    .await?,
            );
        }
        memory.end = plane.resident()?;
        memory.peak = plane.peak_resident()?;
        let failures = fleet.received().failures;
        self.verify(plane, fleet, rider).await?;
        Ok(Figures {
            stage: self.clone(),
            memory,
            first,
            churn,
            reconnect,
            restart,
            failures,
        })
    }

    /// A burst of changes every second, on a schedule of its own whatever becomes of them.
    async fn churn(
        &self,
        plane: &mut Plane,
        fleet: &Fleet,
        inventory: &mut Inventory,
        random: &mut fastrand::Rng,
    ) -> Result<Churn> {
        let before = Used::now(plane, fleet).await?;
        let mut schedule = tokio::time::interval(PERIOD);
        let mut bursts = Vec::new();
        for _ in 0..self.seconds {
            schedule.tick().await;
            plane.check()?;
            bursts.push(write(plane, inventory.change(self.changed, random)).await?);
        }
        schedule.tick().await;
        // Where it is too much, the last proxies have the last burst some time later: that is a part of the cost.
        let last = bursts.last().context("no burst")?;
        fleet.await_revision(last.revision).await?;
        let after = Used::now(plane, fleet).await?;
        let (mut latency, mut slowest, mut commit) = (histogram()?, histogram()?, histogram()?);
        for burst in &bursts {
            let mut last = Duration::ZERO;
            for seen in fleet.latencies(burst.revision, burst.committed) {
                let seen = seen.context("a proxy never acknowledged a change")?;
                latency.record(micros(seen))?;
                last = last.max(seen);
            }
            slowest.record(micros(last))?;
            commit.record(micros(burst.commit))?;
        }
        let churn = Churn::of(self, &before, &after, [&latency, &slowest, &commit]);
        churn.print();
        Ok(churn)
    }

    async fn storm(
        &self,
        comes: Return,
        plane: &Plane,
        fleet: &Fleet,
        (inventory, random): (&mut Inventory, &mut fastrand::Rng),
    ) -> Result<Sync> {
        let (cpu, bytes) = (plane.cpu()?, fleet.received().bytes);
        let begun = fleet.reconnect(comes);
        let (what, done) = match comes {
            Return::WithVersions => {
                let probe = write(plane, inventory.change(PROBE, random)).await?;
                (
                    "all reconnected with versions, and served a change",
                    fleet.await_revision(probe.revision).await?,
                )
            }
            Return::Empty => ("all reconnected without, and in sync", fleet.await_synced().await?),
        };
        self.sync(what, (plane, fleet), (begun, done, cpu, bytes))
    }

    fn sync(
        &self,
        what: &str,
        (plane, fleet): (&Plane, &Fleet),
        (begun, done, cpu, bytes): (Instant, Instant, Duration, u64),
    ) -> Result<Sync> {
        let sync = Sync {
            seconds: done.duration_since(begun).as_secs_f64(),
            bytes: fleet.received().bytes - bytes,
            control_plane_cpu_s: plane.cpu()?.saturating_sub(cpu).as_secs_f64(),
        };
        say(&format!(
            "  {what}: {:.2} s, {:.0} MB, control plane {:.2} CPU s, {:.0} MB resident",
            sync.seconds,
            sync.bytes as f64 / 1e6,
            sync.control_plane_cpu_s,
            plane.resident()? as f64 / 1e6
        ));
        Ok(sync)
    }

    /// All proxies, the real one too, must come to hold what the control plane says that it gives. Weights may still be on
    /// their way to what the last reports call for, so both are looked at again until they agree.
    async fn verify(&self, plane: Plane, fleet: Fleet, rider: Option<Rider>) -> Result<()> {
        let count = poll::until("proxies to hold what /status says", SETTLING, async || {
            let expected = given(&plane.status().await?);
            fleet.check(&expected)?;
            if let Some(rider) = &rider {
                rider.check(&expected).await?;
            }
            Ok(expected.values().map(BTreeMap::len).sum::<usize>())
        })
        .await?;
        let also = if rider.is_some() { "; the real Envoy too" } else { "" };
        say(&format!(
            "  verified: all proxies hold the same {count} endpoints and weights as /status{also}"
        ));
        drop((fleet, rider));
        plane.finish().await
    }
}

/// The endpoints that the control plane says that it gives to proxies.
fn given(report: &MeshReport) -> Endpoints {
    let clusters = report.clusters.iter().map(|cluster| {
        let endpoints = cluster.endpoints.iter();
        let endpoints = endpoints.map(|endpoint| (endpoint.address.clone(), u64::from(endpoint.weight)));
        (format!("{}/{}", cluster.model, cluster.version), endpoints.collect())
    });
    clusters.collect()
}

/// How long weights may go on moving after the last report.
const SETTLING: Duration = Duration::from_secs(120);

/// So many of the simulated proxies decode what they get.
const VERIFYING: usize = 3;

async fn write(plane: &Plane, entries: Vec<super::inventory::Entry>) -> Result<Burst> {
    let begun = Instant::now();
    let revision = plane.write(entries).await?;
    let committed = Instant::now();
    Ok(Burst {
        revision,
        committed,
        commit: committed.duration_since(begun),
    })
}

impl Used {
    async fn now(plane: &mut Plane, fleet: &Fleet) -> Result<Self> {
        let builds = plane.metric("kilocard_control_plane_rebuild_seconds_count").await?;
        let took = plane.metric("kilocard_control_plane_rebuild_seconds_sum").await?;
        Ok(Self {
            builds: (builds, took),
            when: Instant::now(),
            control_plane: plane.cpu()?,
            etcd: plane.etcd_cpu()?,
            clients: usage::cpu(std::process::id())?,
            received: fleet.received(),
        })
    }
}

impl Churn {
    fn of(stage: &Stage, before: &Used, after: &Used, [latency, slowest, commit]: [&Histogram<u64>; 3]) -> Self {
        let seconds = after.when.duration_since(before.when).as_secs_f64();
        let spent = |after: Duration, before: Duration| after.saturating_sub(before).as_secs_f64();
        let control_plane = spent(after.control_plane, before.control_plane);
        let bursts = stage.seconds as f64;
        let proxy_bursts = stage.proxies as f64 * bursts;
        let bytes = (after.received.bytes - before.received.bytes) as f64;
        Self {
            bursts: stage.seconds as usize,
            latency_ms: Quantiles::of(latency),
            slowest_ms: Quantiles::of(slowest),
            commit_ms: Quantiles::of(commit),
            control_plane_cpu: control_plane / seconds,
            etcd_cpu: spent(after.etcd, before.etcd) / seconds,
            clients_cpu: spent(after.clients, before.clients) / seconds,
            builds_per_burst: (after.builds.0 - before.builds.0) / bursts,
            build_ms: (after.builds.1 - before.builds.1) * 1e3 / (after.builds.0 - before.builds.0).max(1.0),
            cpu_us_per_proxy_change: control_plane * 1e6 / (proxy_bursts * stage.changed as f64),
            bytes_per_s: bytes / seconds,
            bytes_per_proxy_burst: bytes / proxy_bursts,
            responses_per_proxy_burst: (after.received.responses - before.received.responses) as f64 / proxy_bursts,
        }
    }

    fn print(&self) {
        let line = |name: &str, of: &Quantiles| {
            say(&format!(
                "  {name:<36} p50 {:>8.1}  p90 {:>8.1}  p99 {:>8.1}  max {:>8.1} ms",
                of.p50, of.p90, of.p99, of.max
            ));
        };
        line("etcd commit of a burst", &self.commit_ms);
        line("commit → ACK, each proxy and burst", &self.latency_ms);
        line("commit → ACK of the last proxy", &self.slowest_ms);
        say(&format!(
            "  CPU s/s: control plane {:.2}, etcd {:.2}, all clients together {:.2}; {:.3} µs a proxy and change; {:.2} builds of {:.1} ms a burst; {:.1} MB/s, {:.1} kB and {:.2} responses a proxy and burst",
            self.control_plane_cpu,
            self.etcd_cpu,
            self.clients_cpu,
            self.cpu_us_per_proxy_change,
            self.builds_per_burst,
            self.build_ms,
            self.bytes_per_s / 1e6,
            self.bytes_per_proxy_burst / 1e3,
            self.responses_per_proxy_burst
        ));
    }
}

impl Quantiles {
    fn of(histogram: &Histogram<u64>) -> Self {
        let at = |quantile| histogram.value_at_quantile(quantile) as f64 / 1e3;
        Self {
            p50: at(0.5),
            p90: at(0.9),
            p99: at(0.99),
            max: at(1.0),
        }
    }
}

fn histogram() -> Result<Histogram<u64>> {
    Ok(Histogram::new(3)?)
}

fn micros(duration: Duration) -> u64 {
    u64::try_from(duration.as_micros()).unwrap_or(u64::MAX)
}
