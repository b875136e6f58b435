//! The control plane as a process.

use super::reserved_port::ReservedPort;
use super::worker::read_endpoints;
use crate::install::Install;
use crate::poll::{self, DEADLINE};
use crate::process::{GRACE, Process};
use anyhow::{Context, Result, bail};
use kilocard_registry::report::MeshReport;
use nix::sys::signal::Signal;
use serde::Deserialize;
use std::net::SocketAddr;
use std::path::{Path, PathBuf};
use std::process::Command;

const ELECTION_TTL: &str = "--election-ttl-s";
const GATEWAY: &str = "--gateway-listen";

#[derive(Clone, Copy, Debug, Deserialize)]
struct Endpoints {
    xds: SocketAddr,
    admin: SocketAddr,
}

/// The control plane; a restart takes the same ports, as a service with a fixed address would, and finds the state that
/// it left on disk.
#[derive(Debug)]
pub struct ControlPlane {
    process: Option<Process>,
    program: PathBuf,
    filter: PathBuf,
    dir: PathBuf,
    /// Tells replicas apart, and is what the election calls it.
    name: String,
    /// What it is told besides addresses and folders.
    arguments: Vec<String>,
    gateway: ReservedPort,
    endpoints: Option<Endpoints>,
}

impl ControlPlane {
    /// One whose source is the etcd at this endpoint; it is ready.
    ///
    /// # Errors
    /// If it does not start, or does not get ready.
    pub async fn start(install: &Install, dir: &Path, etcd: &str) -> Result<Self> {
        let mut control_plane = Self::new(install, dir, "control-plane", &["--etcd", etcd])?;
        control_plane.launch().await?;
        control_plane.await_ready().await?;
        Ok(control_plane)
    }

    /// One by itself, with these arguments (its source among them); it listens, and need not be ready.
    ///
    /// # Errors
    /// If it does not start.
    pub async fn start_alone(install: &Install, dir: &Path, name: &str, arguments: &[&str]) -> Result<Self> {
        let mut control_plane = Self::new(install, dir, name, arguments)?;
        control_plane.launch().await?;
        Ok(control_plane)
    }

    fn new(install: &Install, dir: &Path, name: &str, arguments: &[&str]) -> Result<Self> {
        Ok(Self {
            process: None,
            program: install.control_plane.clone(),
            filter: install.filter.clone(),
            dir: dir.to_owned(),
            name: name.to_owned(),
            arguments: arguments.iter().map(|&argument| argument.to_owned()).collect(),
            gateway: ReservedPort::take()?,
            endpoints: None,
        })
    }

    /// Its process id, while it runs.
    pub fn pid(&self) -> Option<u32> {
        self.process.as_ref().map(Process::pid)
    }

    /// Where Envoy reaches it.
    pub fn xds(&self) -> SocketAddr {
        self.endpoints.map_or_else(unbound, |endpoints| endpoints.xds)
    }

    /// Where `/ready`, `/metrics` and `/status` are.
    pub fn admin(&self) -> SocketAddr {
        self.endpoints.map_or_else(unbound, |endpoints| endpoints.admin)
    }

    /// Where it makes Envoy serve clients.
    pub fn gateway(&self) -> SocketAddr {
        self.gateway.address()
    }

    /// SIGKILL.
    ///
    /// # Errors
    /// If it does not run.
    pub async fn kill(&mut self) -> Result<()> {
        self.process
            .take()
            .context("the control plane does not run")?
            .kill()
            .await?;
        Ok(())
    }

    /// Ends it with SIGTERM.
    ///
    /// # Errors
    /// If it has to be killed or ends with an error.
    pub async fn stop(&mut self) -> Result<()> {
        match self.process.take() {
            Some(mut process) => process.drain(GRACE).await,
            None => Ok(()),
        }
    }

    /// Starts it after [`ControlPlane::kill`] or [`ControlPlane::stop`] and waits until it is ready.
    ///
    /// # Errors
    /// If it runs already or does not become ready.
    pub async fn restart(&mut self) -> Result<()> {
        if self.process.is_some() {
            bail!("the control plane runs already");
        }
        self.launch().await?;
        self.await_ready().await
    }

    /// Starts it after [`ControlPlane::kill`] or [`ControlPlane::stop`] with these arguments, and does not wait until it is
    /// ready.
    ///
    /// # Errors
    /// If it runs already or does not start.
    pub async fn restart_with(&mut self, arguments: &[&str]) -> Result<()> {
        if self.process.is_some() {
            bail!("the control plane runs already");
        }
        self.arguments = arguments.iter().map(|&argument| argument.to_owned()).collect();
        self.launch().await
    }

    /// The folder in which it keeps its last good state.
    pub fn state_dir(&self) -> PathBuf {
        self.dir.join(format!("{}.state", self.name))
    }

    /// Freezes it: connections stay open, nothing is answered.
    pub fn pause(&self) {
        self.process.iter().for_each(|process| process.signal(Signal::SIGSTOP));
    }

    /// Ends [`ControlPlane::pause`].
    pub fn resume(&self) {
        self.process.iter().for_each(|process| process.signal(Signal::SIGCONT));
    }

    /// The page of its admin server at `path`.
    ///
    /// # Errors
    /// If it does not answer with success.
    pub async fn page(&self, path: &str) -> Result<String> {
        let url = format!("http://{}{path}", self.admin());
        Ok(reqwest::get(url).await?.error_for_status()?.text().await?)
    }

    /// Its status report.
    ///
    /// # Errors
    /// If it does not answer with one.
    pub async fn report(&self) -> Result<MeshReport> {
        Ok(serde_json::from_str(&self.page("/status").await?)?)
    }

    /// Lets go of the workers that are held, as an operator does; how many there were.
    ///
    /// # Errors
    /// If it does not answer with success.
    pub async fn release_hold(&self) -> Result<u64> {
        let url = format!("http://{}/hold/release", self.admin());
        let answer = reqwest::Client::new().post(url).send().await?.error_for_status()?;
        let answer: serde_json::Value = answer.json().await?;
        answer["released"].as_u64().context("a number")
    }

    /// Its process, while it runs.
    pub fn process_mut(&mut self) -> Option<&mut Process> {
        self.process.as_mut()
    }

    async fn launch(&mut self) -> Result<()> {
        let file = self.dir.join(format!("{}.endpoints.json", self.name));
        let _ = std::fs::remove_file(&file);
        let mut command = Command::new(&self.program);
        command
            .args([
                "--xds-listen",
                &self.xds().to_string(),
                "--admin-listen",
                &self.admin().to_string(),
            ])
            .args(["--replica", &self.name])
            .arg("--state-dir")
            .arg(self.state_dir())
            .arg("--filter-wasm")
            .arg(&self.filter)
            .arg("--endpoints-file")
            .arg(&file)
            .args(&self.arguments);
        // A test that ends a leader does not want to wait for the next.
        for (flag, value) in [(GATEWAY, self.gateway().to_string()), (ELECTION_TTL, "2".to_owned())] {
            if !self.arguments.iter().any(|argument| argument == flag) {
                command.args([flag, &value]);
            }
        }
        let log = self.dir.join(format!("{}.log", self.name));
        let process = self.process.insert(Process::start(&self.name, command, &log)?);
        self.endpoints = Some(read_endpoints(process, &file).await?);
        Ok(())
    }

    /// Waits until it can serve proxies.
    ///
    /// # Errors
    /// After the deadline.
    pub async fn await_ready(&self) -> Result<()> {
        poll::until("the control plane to be ready", DEADLINE, async || {
            self.page("/ready").await
        })
        .await
        .map(drop)
    }
}

/// Port 0: the first start takes what is free.
fn unbound() -> SocketAddr {
    SocketAddr::from(([127, 0, 0, 1], 0))
}
