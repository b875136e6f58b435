//! An Envoy with a configuration of its own: no control plane.

pub mod config;

use super::admin::Admin;
use crate::install::Install;
use crate::poll::{self, DEADLINE};
use crate::process::Process;
use anyhow::{Context, Result};
use serde_json::Value;
use std::net::SocketAddr;
use std::path::Path;
use std::process::Command;

/// A running Envoy; it ends when dropped.
#[derive(Debug)]
pub struct StaticEnvoy {
    process: Process,
    admin: Admin,
    address: SocketAddr,
}

impl StaticEnvoy {
    /// Starts it with one worker thread and waits until its first listener is bound. The configuration asks for ports 0;
    /// files of the run go to `dir` and are called after `name`.
    ///
    /// # Errors
    /// If Envoy refuses the configuration, with its last words.
    pub async fn start(install: &Install, dir: &Path, name: &str, config: &Value) -> Result<Self> {
        Self::with_threads(install, dir, (name, 1), config).await
    }

    /// The same with so many worker threads.
    ///
    /// # Errors
    /// As [`start`](Self::start).
    pub async fn with_threads(
        install: &Install,
        dir: &Path,
        (name, threads): (&str, u32),
        config: &Value,
    ) -> Result<Self> {
        let path = dir.join(format!("{name}.json"));
        std::fs::write(&path, serde_json::to_vec_pretty(config)?)?;
        let address_file = dir.join(format!("{name}.admin"));
        let mut command = Command::new(&install.envoy);
        command
            .arg("--config-path")
            .arg(&path)
            .arg("--admin-address-path")
            .arg(&address_file)
            .args(["--concurrency", &threads.to_string()])
            .args(["--disable-hot-restart", "--log-level", "warn"])
            // So that a test sees a line of the access log soon after the request.
            .args(["--file-flush-interval-msec", "50"])
            // The examples name the modules relative to the checkout.
            .current_dir(&install.root);
        let mut process = Process::start(name, command, &dir.join(format!("{name}.log")))?;
        let (admin, address) = poll::until("Envoy to listen", DEADLINE, async || {
            if let Err(ended) = process.check() {
                return Ok(Err(ended));
            }
            let admin = Admin::new(std::fs::read_to_string(&address_file)?.trim().parse()?);
            let page = admin.json("/listeners?format=json").await?;
            let port = page.pointer("/listener_statuses/0/local_address/socket_address/port_value");
            let port = port
                .and_then(Value::as_u64)
                .filter(|port| *port != 0)
                .context("not bound yet")?;
            Ok(Ok((admin, format!("127.0.0.1:{port}").parse()?)))
        })
        .await??;
        Ok(Self {
            process,
            admin,
            address,
        })
    }

    /// Where its listener is.
    pub fn address(&self) -> SocketAddr {
        self.address
    }

    /// Its admin interface.
    pub fn admin(&self) -> Admin {
        self.admin
    }

    /// Its process id.
    pub fn pid(&self) -> u32 {
        self.process.pid()
    }

    /// # Errors
    /// If it has ended; the error holds its last lines.
    pub fn check(&mut self) -> Result<()> {
        self.process.check()
    }

    /// All it has written so far: its log, and access logs that go to stdout.
    ///
    /// # Errors
    /// If the file cannot be read.
    pub fn log(&self) -> Result<String> {
        let bytes = std::fs::read(self.process.log())?;
        Ok(String::from_utf8_lossy(&bytes).into_owned())
    }

    /// The lines of its access logs so far, those in JSON.
    ///
    /// # Errors
    /// If the file cannot be read.
    pub fn access_log(&self) -> Result<Vec<Value>> {
        let log = self.log()?;
        Ok(log
            .lines()
            .filter(|line| line.starts_with('{'))
            .filter_map(|line| serde_json::from_str(line).ok())
            .collect())
    }
}
