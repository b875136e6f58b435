//! A single-node etcd, or one member of a cluster.

use crate::harness::certificates::Certificates;
use crate::install::Install;
use crate::poll::{self, DEADLINE};
use crate::process::{GRACE, Process};
use anyhow::{Context, Result, bail};
use etcd_client::Client;
use kilocard_registry::connect::EtcdArgs;
use kilocard_registry::layout::DEFAULT_PREFIX;
use nix::sys::signal::Signal;
use std::net::{Ipv4Addr, TcpListener};
use std::path::{Path, PathBuf};
use std::process::Command;
use tempfile::TempDir;

/// etcd cannot tell which port it got for port 0, so free ports are picked beforehand; another process may take one in
/// between, hence the attempts.
const ATTEMPTS: usize = 5;

/// etcd, which can be stopped and started again on the same port with the same data.
#[derive(Debug)]
pub struct Etcd {
    process: Option<Process>,
    program: PathBuf,
    // Ours to remove, logs kept or not; after the process, since fields are dropped in order.
    data: TempDir,
    log: PathBuf,
    member: Member,
    options: Options,
}

/// One of a cluster, and the whole of it.
#[derive(Clone, Debug)]
pub(super) struct Member {
    pub(super) name: String,
    pub(super) client_port: u16,
    pub(super) peer_port: u16,
    /// `--initial-cluster`.
    pub(super) cluster: String,
}

/// How it differs from one by default.
#[derive(Clone, Debug, Default)]
pub struct Options {
    /// Further arguments.
    pub arguments: Vec<String>,
    /// What it and its clients show each other, for `https://`.
    pub tls: Option<Certificates>,
}

impl Etcd {
    /// One by itself.
    ///
    /// # Errors
    /// If it does not answer in the end.
    pub async fn start(install: &Install, dir: &Path) -> Result<Self> {
        Self::start_with(install, dir, Options::default()).await
    }

    /// One by itself, with options.
    ///
    /// # Errors
    /// If it does not answer in the end.
    pub async fn start_with(install: &Install, dir: &Path, options: Options) -> Result<Self> {
        let mut last = None;
        for _ in 0..ATTEMPTS {
            let [client_port, peer_port] = free_ports()?;
            let member = Member {
                name: "testbed".to_owned(),
                client_port,
                peer_port,
                cluster: format!("testbed=http://127.0.0.1:{peer_port}"),
            };
            let mut etcd = Self::prepare(install, dir, member, options.clone())?;
            match etcd.launch().await {
                Ok(()) => return Ok(etcd),
                Err(error) => last = Some(error),
            }
        }
        Err(last.context("no attempt")?)
    }

    /// One that has not been started.
    pub(super) fn prepare(install: &Install, dir: &Path, member: Member, options: Options) -> Result<Self> {
        Ok(Self {
            process: None,
            program: install.etcd.clone(),
            data: tempfile::Builder::new().prefix("etcd-").tempdir_in(dir)?,
            log: dir.join(format!("etcd-{}.log", member.name)),
            member,
            options,
        })
    }

    /// Where clients reach it.
    pub fn endpoint(&self) -> String {
        let scheme = if self.options.tls.is_some() { "https" } else { "http" };
        format!("{scheme}://127.0.0.1:{}", self.member.client_port)
    }

    /// How a process reaches it.
    pub fn args(&self) -> EtcdArgs {
        let mut args = EtcdArgs {
            endpoints: vec![self.endpoint()],
            prefix: DEFAULT_PREFIX.to_owned(),
            timeout_ms: 3000,
            ..EtcdArgs::default()
        };
        if let Some(tls) = &self.options.tls {
            args.ca = Some(tls.authority.clone());
            (args.cert, args.key) = (Some(tls.client.0.clone()), Some(tls.client.1.clone()));
        }
        args
    }

    /// A client for tests that write or watch keys themselves.
    ///
    /// # Errors
    /// If it does not answer.
    pub async fn client(&self) -> Result<Client> {
        Ok(self.args().connect().await?)
    }

    /// Freezes it: connections stay open, nothing is answered.
    pub fn pause(&self) {
        self.process.iter().for_each(|process| process.signal(Signal::SIGSTOP));
    }

    /// Ends [`Etcd::pause`].
    pub fn resume(&self) {
        self.process.iter().for_each(|process| process.signal(Signal::SIGCONT));
    }

    /// SIGKILL; the data stays.
    ///
    /// # Errors
    /// If it does not run.
    pub async fn kill(&mut self) -> Result<()> {
        self.process.take().context("etcd does not run")?.kill().await?;
        Ok(())
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
        self.spawn()?;
        let args = self.args();
        let process = self.process.as_mut().context("it was started")?;
        poll::until("etcd to answer", DEADLINE, async || {
            if let Err(ended) = process.check() {
                // Waiting longer is no use; the caller may try other ports.
                return Ok(Err(ended));
            }
            args.connect().await?;
            Ok(Ok(()))
        })
        .await?
    }

    /// Starts it, without waiting: a member of a cluster answers only once a majority is there.
    pub(super) fn spawn(&mut self) -> Result<()> {
        let client = self.endpoint();
        let peer = format!("http://127.0.0.1:{}", self.member.peer_port);
        let mut command = Command::new(&self.program);
        command
            .args(["--name", &self.member.name, "--logger", "zap", "--log-level", "warn"])
            .arg("--data-dir")
            .arg(self.data.path())
            .args(["--listen-client-urls", &client, "--advertise-client-urls", &client])
            .args(["--listen-peer-urls", &peer, "--initial-advertise-peer-urls", &peer])
            .args(["--initial-cluster", &self.member.cluster])
            // Loopback answers at once; a short timeout makes it ready sooner and, since etcd's least lease is one and a
            // half of it, allows leases of a second.
            .args(["--heartbeat-interval", "50", "--election-timeout", "500"]);
        if let Some(tls) = &self.options.tls {
            command
                .arg("--cert-file")
                .arg(&tls.server.0)
                .arg("--key-file")
                .arg(&tls.server.1);
            // On etcd 3.4 this also demands a certificate of every client.
            command.arg("--trusted-ca-file").arg(&tls.authority);
        }
        command.args(&self.options.arguments);
        self.process = Some(Process::start("etcd", command, &self.log)?);
        Ok(())
    }
}

/// Loopback ports that nobody has now. All are held at once, so that they differ.
pub(super) fn free_ports<const N: usize>() -> Result<[u16; N]> {
    let mut held = Vec::with_capacity(N);
    let mut ports = [0; N];
    for port in &mut ports {
        let listener = TcpListener::bind((Ipv4Addr::LOCALHOST, 0))?;
        *port = listener.local_addr()?.port();
        held.push(listener);
    }
    Ok(ports)
}
