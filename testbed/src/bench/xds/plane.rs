//! etcd and the control plane as processes, and what they use.

use super::inventory::Entry;
use crate::bench::usage;
use crate::harness::etcd::Etcd;
use crate::harness::reserved_port::ReservedPort;
use crate::harness::worker::read_endpoints;
use crate::install::Install;
use crate::poll::{self, DEADLINE};
use crate::process::{GRACE, Process};
use anyhow::{Context, Result, ensure};
use etcd_client::{Client, Txn, TxnOp};
use kilocard_registry::report::MeshReport;
use serde::Deserialize;
use std::net::SocketAddr;
use std::path::Path;
use std::process::Command;
use std::time::Duration;
use tokio::task::JoinSet;

/// Writes of one transaction: etcd's own default limit (`--max-txn-ops`).
const TRANSACTION: usize = 128;
/// Transactions under way at the same time: workers write independently of one another.
const AT_A_TIME: usize = 8;

#[derive(Clone, Copy, Debug, Deserialize)]
struct Endpoints {
    xds: SocketAddr,
    admin: SocketAddr,
}

/// The two processes under measurement.
pub(super) struct Plane {
    control_plane: Process,
    endpoints: Endpoints,
    etcd: Etcd,
    client: Client,
    _gateway: ReservedPort,
}

impl Plane {
    /// Starts etcd, empty, and the control plane, with these further arguments.
    pub(super) async fn start(install: &Install, dir: &Path, arguments: &[String]) -> Result<Self> {
        let etcd = Etcd::start(install, dir).await?;
        let gateway = ReservedPort::take()?;
        let file = dir.join("control-plane.endpoints.json");
        let mut command = Command::new(&install.control_plane);
        command
            .args(["--etcd", &etcd.endpoint()])
            .args(["--xds-listen", "127.0.0.1:0", "--admin-listen", "127.0.0.1:0"])
            .arg("--state-dir")
            .arg(dir.join("state"))
            .args(["--gateway-listen", &gateway.address().to_string()])
            .arg("--filter-wasm")
            .arg(&install.filter)
            .arg("--endpoints-file")
            .arg(&file)
            .args(arguments)
            // A line for each stream that opens or closes is a thousand at a time here.
            .env("RUST_LOG", "warn");
        let mut control_plane = Process::start("control-plane", command, &dir.join("control-plane.log"))?;
        let endpoints: Endpoints = read_endpoints(&mut control_plane, &file).await?;
        let client = etcd.client().await?;
        let plane = Self {
            control_plane,
            endpoints,
            etcd,
            client,
            _gateway: gateway,
        };
        poll::until("the control plane to be ready", DEADLINE, async || {
            plane.page("/ready").await
        })
        .await?;
        Ok(plane)
    }

    /// Where proxies connect.
    pub(super) fn xds(&self) -> SocketAddr {
        self.endpoints.xds
    }

    /// Writes the records in transactions, so many at a time; gives the newest revision.
    pub(super) async fn write(&self, entries: Vec<Entry>) -> Result<i64> {
        let mut newest = 0;
        for parts in entries.chunks(TRANSACTION * AT_A_TIME) {
            let mut writing = JoinSet::new();
            for part in parts.chunks(TRANSACTION) {
                let puts: Vec<TxnOp> = part
                    .iter()
                    .map(|(key, value)| TxnOp::put(key.as_str(), value.as_slice(), None))
                    .collect();
                let mut client = self.client.clone();
                writing.spawn(async move { client.txn(Txn::new().and_then(puts)).await });
            }
            while let Some(done) = writing.join_next().await {
                let done = done??;
                let revision = done.header().context("etcd's answer has no header")?.revision();
                newest = newest.max(revision);
            }
        }
        Ok(newest)
    }

    /// Waits until the control plane has taken in everything up to this revision.
    pub(super) async fn await_revision(&self, revision: i64) -> Result<()> {
        poll::until("the control plane to take in the records", DEADLINE, async || {
            let seen = self.metric("kilocard_control_plane_etcd_revision").await?;
            ensure!(seen >= revision as f64, "it is at revision {seen} of {revision}");
            Ok(())
        })
        .await
    }

    /// The value of a metric without labels.
    pub(super) async fn metric(&self, name: &str) -> Result<f64> {
        let page = self.page("/metrics").await?;
        let line = page.lines().find_map(|line| line.strip_prefix(name)?.strip_prefix(' '));
        Ok(line.with_context(|| format!("there is no metric {name}"))?.parse()?)
    }

    /// What the control plane says that it gives to proxies.
    pub(super) async fn status(&self) -> Result<MeshReport> {
        Ok(serde_json::from_str(&self.page("/status").await?)?)
    }

    /// CPU time that the control plane has used.
    pub(super) fn cpu(&self) -> Result<Duration> {
        usage::cpu(self.control_plane.pid())
    }

    /// CPU time that etcd has used.
    pub(super) fn etcd_cpu(&mut self) -> Result<Duration> {
        let process = self.etcd.process_mut().context("etcd does not run")?;
        usage::cpu(process.pid())
    }

    /// Memory of the control plane now, in bytes.
    pub(super) fn resident(&self) -> Result<u64> {
        usage::resident(self.control_plane.pid())
    }

    /// The most memory that the control plane ever had, in bytes.
    pub(super) fn peak_resident(&self) -> Result<u64> {
        usage::peak_resident(self.control_plane.pid())
    }

    /// # Errors
    /// If the control plane has ended; with its last lines.
    pub(super) fn check(&mut self) -> Result<()> {
        self.control_plane.check()
    }

    pub(super) async fn finish(mut self) -> Result<()> {
        self.control_plane.drain(2 * GRACE).await?;
        self.etcd.stop().await
    }

    async fn page(&self, path: &str) -> Result<String> {
        let url = format!("http://{}{path}", self.endpoints.admin);
        Ok(reqwest::get(url).await?.error_for_status()?.text().await?)
    }
}
