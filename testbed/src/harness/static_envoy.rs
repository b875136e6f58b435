//! An Envoy with a configuration of its own: no control plane, one listener.

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
    address: SocketAddr,
}

impl StaticEnvoy {
    /// Starts it with one worker thread and waits until its first listener is bound. The configuration asks for ports 0;
    /// files of the run go to `dir` and are called after `name`.
    ///
    /// # Errors
    /// If Envoy refuses the configuration, with its last words.
    pub async fn start(install: &Install, dir: &Path, name: &str, config: &Value) -> Result<Self> {
        let path = dir.join(format!("{name}.json"));
        std::fs::write(&path, serde_json::to_vec_pretty(config)?)?;
        let address_file = dir.join(format!("{name}.admin"));
        let mut command = Command::new(&install.envoy);
        command
            .arg("--config-path")
            .arg(&path)
            .arg("--admin-address-path")
            .arg(&address_file)
            .args(["--concurrency", "1", "--disable-hot-restart", "--log-level", "warn"]);
        let mut process = Process::start(name, command, &dir.join(format!("{name}.log")))?;
        let address = poll::until("Envoy to listen", DEADLINE, async || {
            if let Err(ended) = process.check() {
                return Ok(Err(ended));
            }
            let admin = std::fs::read_to_string(&address_file)?;
            let url = format!("http://{}/listeners?format=json", admin.trim());
            let page: Value = serde_json::from_str(&reqwest::get(url).await?.text().await?)?;
            let port = page.pointer("/listener_statuses/0/local_address/socket_address/port_value");
            let port = port
                .and_then(Value::as_u64)
                .filter(|port| *port != 0)
                .context("not bound yet")?;
            Ok(Ok(format!("127.0.0.1:{port}").parse()?))
        })
        .await??;
        Ok(Self { process, address })
    }

    /// Where its listener is.
    pub fn address(&self) -> SocketAddr {
        self.address
    }

    /// Its process id.
    pub fn pid(&self) -> u32 {
        self.process.pid()
    }
}
