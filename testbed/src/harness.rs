//! The mesh as real processes: etcd, the control plane, workers, Envoy, on ports that nobody else uses.
//!
//! A [`Testbed`] owns them all. [`Testbed::finish`] ends them in order and removes the run's folder; dropping a testbed
//! instead (an error, a failed assertion) also ends them, and keeps the logs.

pub mod admin;
pub mod certificates;
pub mod control_plane;
pub mod envoy;
pub mod etcd;
pub mod etcd_cluster;
pub mod proxy;
pub mod record;
pub(crate) mod reserved_port;
mod run;
pub mod static_envoy;
pub mod static_mesh;
pub mod upstream;
pub mod worker;

use crate::client::Client;
use crate::install::Install;
use crate::poll::{self, DEADLINE};
use crate::process::{GRACE, Process};
use anyhow::{Context, Result, bail};
use control_plane::ControlPlane;
use envoy::{Ads, Envoy};
use etcd::Etcd;
use kilocard_registry::layout::Layout;
use kilocard_registry::report::MeshReport;
pub use run::{Run, interrupted};
use std::collections::BTreeMap;
use std::net::SocketAddr;
use std::path::Path;
use std::process::{Command, Output};
use worker::{Worker, WorkerSpec};

/// What to start.
#[derive(Debug)]
pub struct Builder {
    name: String,
    workers: Vec<WorkerSpec>,
    documents: Vec<String>,
    zone: Option<String>,
}

impl Builder {
    /// Puts Envoy into a zone.
    #[must_use]
    pub fn zone(mut self, zone: &str) -> Self {
        self.zone = Some(zone.to_owned());
        self
    }

    /// Adds a worker.
    #[must_use]
    pub fn worker(mut self, spec: WorkerSpec) -> Self {
        self.workers.push(spec);
        self
    }

    /// Adds policy documents (YAML) that are applied before Envoy is awaited.
    #[must_use]
    pub fn policy(mut self, yaml: impl Into<String>) -> Self {
        self.documents.push(yaml.into());
        self
    }

    /// Starts everything and waits until a request to every version would be served.
    ///
    /// # Errors
    /// If something is missing, does not start, or is not ready within the deadline; what was started is ended.
    pub async fn start(self) -> Result<Testbed> {
        let install = Install::locate()?;
        let run = Run::create(&self.name)?;
        let logs = run.dir().display().to_string();
        let context = || format!("the testbed did not start; logs: {logs}");
        Testbed::assemble(self, install, run).await.with_context(context)
    }

    /// Starts everything, expecting that it does not come up, and gives the reason.
    ///
    /// # Errors
    /// If it did come up.
    pub async fn start_refused(self) -> Result<String> {
        let install = Install::locate()?;
        let mut run = Run::create(&self.name)?;
        run.discard();
        let refused = Testbed::assemble(self, install, run).await.err();
        let reason = refused.context("the testbed came up, and was expected not to")?;
        Ok(format!("{reason:#}"))
    }
}

/// A running mesh.
#[derive(Debug)]
pub struct Testbed {
    // Dropped in this order: etcd after the others, since a worker takes its record out of etcd when it ends; the folder
    // last, since all of them write into it.
    workers: BTreeMap<String, Worker>,
    envoy: Envoy,
    zone: Option<String>,
    control_plane: ControlPlane,
    etcd: Etcd,
    install: Install,
    run: Run,
}

impl Testbed {
    /// A testbed of this name, which shows in its folder under `target/testbed/`.
    pub fn builder(name: &str) -> Builder {
        Builder {
            name: name.to_owned(),
            workers: Vec::new(),
            documents: Vec::new(),
            zone: None,
        }
    }

    async fn assemble(builder: Builder, install: Install, run: Run) -> Result<Self> {
        let etcd = Etcd::start(&install, run.dir()).await?;
        let control_plane = ControlPlane::start(&install, run.dir(), &etcd.endpoint()).await?;
        let mut workers = BTreeMap::new();
        for spec in builder.workers {
            let worker = Worker::start(&install, run.dir(), &etcd.endpoint(), spec)?;
            workers.insert(worker.spec().id.clone(), worker);
        }
        let envoy = Envoy::start(
            &install,
            run.dir(),
            control_plane.xds(),
            Ads::Incremental,
            builder.zone.as_deref(),
        )?;
        let mut testbed = Self {
            workers,
            envoy,
            zone: builder.zone,
            control_plane,
            etcd,
            install,
            run,
        };
        for yaml in &builder.documents {
            testbed.apply(yaml).await?;
        }
        testbed.await_ready(!builder.documents.is_empty()).await?;
        Ok(testbed)
    }

    async fn await_ready(&mut self, routed: bool) -> Result<()> {
        for worker in self.workers.values_mut() {
            worker.await_serving().await?;
        }
        let addresses: Vec<SocketAddr> = self.workers.values().filter_map(Worker::grpc).collect();
        for address in addresses {
            self.envoy.await_endpoint(address, true).await?;
        }
        if !routed {
            return Ok(());
        }
        self.envoy.await_listener(self.gateway()).await?;
        let targets: Vec<WorkerSpec> = self.workers.values().map(|worker| worker.spec().clone()).collect();
        for spec in targets {
            self.await_served(&spec.model, &spec.version).await?;
        }
        Ok(())
    }

    /// Waits until a request pinned to this version is served through Envoy.
    ///
    /// # Errors
    /// After the deadline, with the last refusal.
    pub async fn await_served(&mut self, model: &str, version: &str) -> Result<()> {
        let client = self.client().await?;
        let pin = [("x-model", model), ("x-model-version", version)];
        poll::until(&format!("{model}/{version} to be served"), DEADLINE, async || {
            self.check()?;
            Ok(client.ready(&pin).await?)
        })
        .await
        .map(drop)
    }

    /// # Errors
    /// If a process that should run has ended; the error holds its last lines.
    pub fn check(&mut self) -> Result<()> {
        self.processes().into_iter().try_for_each(Process::check)
    }

    /// Where Envoy serves clients.
    pub fn gateway(&self) -> SocketAddr {
        self.control_plane.gateway()
    }

    /// A client on a connection of its own to Envoy.
    ///
    /// # Errors
    /// If it cannot connect.
    pub async fn client(&self) -> Result<Client> {
        Client::connect(self.gateway()).await
    }

    /// etcd.
    pub fn etcd(&mut self) -> &mut Etcd {
        &mut self.etcd
    }

    /// The control plane.
    pub fn control_plane(&mut self) -> &mut ControlPlane {
        &mut self.control_plane
    }

    /// Envoy.
    pub fn envoy(&mut self) -> &mut Envoy {
        &mut self.envoy
    }

    /// A worker by id.
    ///
    /// # Errors
    /// If there is none of this id.
    pub fn worker(&mut self, id: &str) -> Result<&mut Worker> {
        self.workers
            .get_mut(id)
            .with_context(|| format!("the testbed has no worker {id:?}"))
    }

    /// All workers, by id.
    pub fn workers(&self) -> impl Iterator<Item = &Worker> {
        self.workers.values()
    }

    /// Starts one more worker, or one that has ended again, and waits until Envoy has its endpoint.
    ///
    /// # Errors
    /// If it does not start or its endpoint does not reach Envoy.
    pub async fn start_worker(&mut self, spec: WorkerSpec) -> Result<()> {
        let id = spec.id.clone();
        let mut worker = Worker::start(&self.install, self.run.dir(), &self.etcd.endpoint(), spec)?;
        worker.await_serving().await?;
        let address = worker.grpc().context("a serving worker has an address")?;
        self.workers.insert(id, worker);
        self.envoy.await_endpoint(address, true).await
    }

    /// Ends Envoy and starts it anew with this variant of xDS, and waits until it has every endpoint and the listener.
    ///
    /// # Errors
    /// If it does not end well, does not start, or is not ready within the deadline.
    pub async fn replace_envoy(&mut self, ads: Ads) -> Result<()> {
        if let Some(process) = self.envoy.process_mut() {
            process.drain(GRACE).await?;
        }
        let (xds, zone) = (self.control_plane.xds(), self.zone.as_deref());
        self.envoy = Envoy::start(&self.install, self.run.dir(), xds, ads, zone)?;
        self.await_ready(true).await
    }

    /// Process ids by name.
    pub fn pids(&mut self) -> BTreeMap<String, u32> {
        self.processes()
            .into_iter()
            .map(|process| (process.name().to_owned(), process.pid()))
            .collect()
    }

    /// What is installed where.
    pub fn install(&self) -> &Install {
        &self.install
    }

    /// The run's folder, with the logs.
    pub fn dir(&self) -> &Path {
        self.run.dir()
    }

    /// The keys of this mesh in etcd.
    pub fn layout(&self) -> Layout {
        Layout::default()
    }

    /// Runs the real `kilocard` command line against this mesh.
    ///
    /// # Errors
    /// If it cannot be run; its own failure is in the output's status.
    pub async fn kilocard(&self, arguments: &[&str]) -> Result<Output> {
        let mut command = Command::new(&self.install.cli);
        command
            .args(arguments)
            .env("KILOCARD_ETCD", self.etcd.endpoint())
            .env(
                "KILOCARD_CONTROL_PLANE",
                format!("http://{}", self.control_plane.admin()),
            )
            .env_remove("KILOCARD_ETCD_PREFIX");
        tokio::task::spawn_blocking(move || command.output())
            .await?
            .context("run kilocard")
    }

    /// Applies policy documents through `kilocard apply -f`.
    ///
    /// # Errors
    /// With the command's own words if it refuses.
    pub async fn apply(&self, yaml: &str) -> Result<String> {
        let file = tempfile::Builder::new().suffix(".yaml").tempfile_in(self.run.dir())?;
        std::fs::write(file.path(), yaml)?;
        let output = self.kilocard(&["apply", "-f", &file.path().to_string_lossy()]).await?;
        said(&output)
    }

    /// The report of `kilocard status --output json`.
    ///
    /// # Errors
    /// With the command's own words if it fails.
    pub async fn status(&self) -> Result<MeshReport> {
        let output = self.kilocard(&["status", "--output", "json"]).await?;
        let text = said(&output)?;
        serde_json::from_str(&text).with_context(|| format!("kilocard status printed {text}"))
    }

    /// Ends everything in order and removes the run's folder.
    ///
    /// # Errors
    /// If a process does not end by itself after SIGTERM, or one of ours or Envoy ends with an error.
    pub async fn finish(mut self) -> Result<()> {
        let drains = self.workers.values().map(|worker| worker.spec().drain_delay);
        let grace = drains.max().unwrap_or_default() + GRACE;
        let mut outcome = Ok(());
        self.ask_front_to_end();
        for process in self.front() {
            outcome = outcome.and(process.drain(grace).await);
        }
        self.etcd.stop().await?;
        outcome?;
        self.run.discard();
        Ok(())
    }

    fn processes(&mut self) -> Vec<&mut Process> {
        let workers = self.workers.values_mut().filter_map(Worker::process_mut);
        let single = [
            self.envoy.process_mut(),
            self.control_plane.process_mut(),
            self.etcd.process_mut(),
        ];
        workers.chain(single.into_iter().flatten()).collect()
    }

    /// All but etcd, which the others need to end well.
    fn front(&mut self) -> Vec<&mut Process> {
        let etcd = self.etcd.process_mut().map(|process| process.pid());
        let mut processes = self.processes();
        processes.retain(|process| Some(process.pid()) != etcd);
        processes
    }

    fn ask_front_to_end(&mut self) {
        self.front().into_iter().for_each(Process::ask_to_end);
    }
}

impl Drop for Testbed {
    fn drop(&mut self) {
        // All at once; the fields then wait for each.
        self.ask_front_to_end();
    }
}

fn said(output: &Output) -> Result<String> {
    let out = String::from_utf8_lossy(&output.stdout);
    if !output.status.success() {
        bail!(
            "kilocard ended with {}: {}{}",
            output.status,
            out,
            String::from_utf8_lossy(&output.stderr)
        );
    }
    Ok(out.into_owned())
}
