//! The control plane as a process.

use super::reserved_port::ReservedPort;
use super::worker::read_endpoints;
use crate::install::Install;
use crate::poll::{self, DEADLINE};
use crate::process::{GRACE, Process};
use anyhow::{Context, Result, bail};
use nix::sys::signal::Signal;
use serde::Deserialize;
use std::net::SocketAddr;
use std::path::{Path, PathBuf};
use std::process::Command;

#[derive(Clone, Copy, Debug, Deserialize)]
struct Endpoints {
    xds: SocketAddr,
    admin: SocketAddr,
}

/// The control plane; a restart takes the same ports, as a service with a fixed address would.
#[derive(Debug)]
pub struct ControlPlane {
    process: Option<Process>,
    program: PathBuf,
    filter: PathBuf,
    dir: PathBuf,
    etcd: String,
    gateway: ReservedPort,
    endpoints: Option<Endpoints>,
}

impl ControlPlane {
    pub(super) async fn start(install: &Install, dir: &Path, etcd: &str) -> Result<Self> {
        let mut control_plane = Self {
            process: None,
            program: install.control_plane.clone(),
            filter: install.filter.clone(),
            dir: dir.to_owned(),
            etcd: etcd.to_owned(),
            gateway: ReservedPort::take()?,
            endpoints: None,
        };
        control_plane.launch().await?;
        Ok(control_plane)
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
        self.launch().await
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

    /// Its process, while it runs.
    pub fn process_mut(&mut self) -> Option<&mut Process> {
        self.process.as_mut()
    }

    async fn launch(&mut self) -> Result<()> {
        let file = self.dir.join("control-plane.endpoints.json");
        let _ = std::fs::remove_file(&file);
        let mut command = Command::new(&self.program);
        command
            .args(["--etcd", &self.etcd])
            .args([
                "--xds-listen",
                &self.xds().to_string(),
                "--admin-listen",
                &self.admin().to_string(),
            ])
            .args(["--gateway-listen", &self.gateway().to_string()])
            .arg("--filter-wasm")
            .arg(&self.filter)
            .arg("--endpoints-file")
            .arg(&file);
        let log = self.dir.join("control-plane.log");
        let process = self.process.insert(Process::start("control-plane", command, &log)?);
        let endpoints: Endpoints = read_endpoints(process, &file).await?;
        self.endpoints = Some(endpoints);
        let ready = format!("http://{}/ready", endpoints.admin);
        poll::until("the control plane to be ready", DEADLINE, async || {
            Ok(reqwest::get(&ready).await?.error_for_status()?)
        })
        .await
        .map(drop)
    }
}

/// Port 0: the first start takes what is free.
fn unbound() -> SocketAddr {
    SocketAddr::from(([127, 0, 0, 1], 0))
}
