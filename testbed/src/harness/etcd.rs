//! A single-node etcd.

use crate::install::Install;
use crate::poll::{self, DEADLINE};
use crate::process::{GRACE, Process};
use anyhow::{Context, Result, bail};
use etcd_client::Client;
use std::net::{Ipv4Addr, TcpListener};
use std::path::{Path, PathBuf};
use std::process::Command;
use std::time::Duration;
use tempfile::TempDir;

/// etcd cannot tell which port it got for port 0, so free ports are picked beforehand; another process may take one in
/// between, hence the attempts.
const ATTEMPTS: usize = 5;

const REQUEST_TIMEOUT: Duration = Duration::from_secs(3);

/// etcd, which can be stopped and started again on the same port with the same data.
#[derive(Debug)]
pub struct Etcd {
    process: Option<Process>,
    program: PathBuf,
    // Ours to remove, logs kept or not; after the process, since fields are dropped in order.
    data: TempDir,
    log: PathBuf,
    client_port: u16,
    peer_port: u16,
}

impl Etcd {
    pub(crate) async fn start(install: &Install, dir: &Path) -> Result<Self> {
        let mut last = None;
        for _ in 0..ATTEMPTS {
            let (client_port, peer_port) = free_ports()?;
            let mut etcd = Self {
                process: None,
                program: install.etcd.clone(),
                data: tempfile::Builder::new().prefix("etcd-").tempdir_in(dir)?,
                log: dir.join("etcd.log"),
                client_port,
                peer_port,
            };
            match etcd.launch().await {
                Ok(()) => return Ok(etcd),
                Err(error) => last = Some(error),
            }
        }
        Err(last.context("no attempt")?)
    }

    /// Where clients reach it.
    pub fn endpoint(&self) -> String {
        format!("http://127.0.0.1:{}", self.client_port)
    }

    /// A client for tests that write or watch keys themselves.
    ///
    /// # Errors
    /// If it does not answer.
    pub async fn client(&self) -> Result<Client> {
        let options = etcd_client::ConnectOptions::new()
            .with_connect_timeout(REQUEST_TIMEOUT)
            .with_timeout(REQUEST_TIMEOUT);
        Ok(Client::connect([self.endpoint()], Some(options)).await?)
    }

    /// Ends it; the data stays.
    ///
    /// # Errors
    /// If it has to be killed.
    pub async fn stop(&mut self) -> Result<()> {
        if let Some(mut process) = self.process.take() {
            process.terminate(GRACE).await?;
        }
        Ok(())
    }

    /// Starts it after [`Etcd::stop`], on the same port with the same data.
    ///
    /// # Errors
    /// If it runs already or does not answer.
    pub async fn restart(&mut self) -> Result<()> {
        if self.process.is_some() {
            bail!("etcd runs already");
        }
        self.launch().await
    }

    /// Its process, while it runs.
    pub fn process_mut(&mut self) -> Option<&mut Process> {
        self.process.as_mut()
    }

    async fn launch(&mut self) -> Result<()> {
        let client = self.endpoint();
        let peer = format!("http://127.0.0.1:{}", self.peer_port);
        let mut command = Command::new(&self.program);
        command
            .args(["--name", "testbed", "--logger", "zap", "--log-level", "warn"])
            .arg("--data-dir")
            .arg(self.data.path())
            .args(["--listen-client-urls", &client, "--advertise-client-urls", &client])
            .args(["--listen-peer-urls", &peer, "--initial-advertise-peer-urls", &peer])
            .args(["--initial-cluster", &format!("testbed={peer}")])
            // One node has nobody to lose an election to; a short timeout makes it ready sooner and, since etcd's least
            // lease is one and a half of it, allows leases of a second.
            .args(["--heartbeat-interval", "50", "--election-timeout", "500"]);
        let process = self.process.insert(Process::start("etcd", command, &self.log)?);
        let endpoint = client.clone();
        poll::until("etcd to answer", DEADLINE, async || {
            if let Err(ended) = process.check() {
                // Waiting longer is no use; the caller may try other ports.
                return Ok(Err(ended));
            }
            let mut client = Client::connect([endpoint.as_str()], None).await?;
            tokio::time::timeout(REQUEST_TIMEOUT, client.status()).await??;
            Ok(Ok(()))
        })
        .await?
    }
}

fn free_ports() -> Result<(u16, u16)> {
    // Both are held at once, so that they differ.
    let one = TcpListener::bind((Ipv4Addr::LOCALHOST, 0))?;
    let two = TcpListener::bind((Ipv4Addr::LOCALHOST, 0))?;
    Ok((one.local_addr()?.port(), two.local_addr()?.port()))
}
