//! A running Envoy of one variant, and what it uses.

use super::ext_proc;
use super::variant::{self, Variant};
use crate::bench::usage::{cpu, kibibytes};
use crate::harness::admin::Admin;
use crate::harness::control_plane::ControlPlane;
use crate::install::Install;
use crate::poll::{self, DEADLINE};
use crate::process::Process;
use anyhow::{Context, Result};
use serde::Serialize;
use serde_json::Value;
use std::net::SocketAddr;
use std::path::Path;
use std::process::Command;
use std::time::Duration;

/// What a filter asks.
#[derive(Debug)]
enum Server {
    ExtProc(ext_proc::Server),
    RateLimits(Box<ControlPlane>),
}

impl Server {
    async fn start(install: &Install, dir: &Path, name: &str, variant: Variant) -> Result<Option<Self>> {
        let name = format!("{name}-server");
        Ok(match variant {
            Variant::ExtProc => {
                let server = ext_proc::Server::start(dir, &name, &variant::filter_config()?).await?;
                Some(Self::ExtProc(server))
            }
            Variant::Rls => {
                let source = dir.join(&name).join("source");
                std::fs::create_dir_all(source.join("policies"))?;
                std::fs::write(source.join("policies/all.json"), variant::limit("all").to_string())?;
                let source = source.display().to_string();
                let server = ControlPlane::start_alone(install, dir, &name, &["--source-dir", &source]).await?;
                server.await_ready().await?;
                Some(Self::RateLimits(Box::new(server)))
            }
            _ => None,
        })
    }

    fn address(&self) -> SocketAddr {
        match self {
            Self::ExtProc(server) => server.address(),
            Self::RateLimits(server) => server.xds(),
        }
    }

    fn pid(&self) -> Result<u32> {
        match self {
            Self::ExtProc(server) => Ok(server.pid()),
            Self::RateLimits(server) => server.pid().context("the control plane has ended"),
        }
    }
}

/// Envoy with so many worker threads, and the server that its filter asks where the variant has one.
#[derive(Debug)]
pub(super) struct Proxy {
    variant: Variant,
    threads: u32,
    envoy: Process,
    admin: Admin,
    address: SocketAddr,
    server: Option<Server>,
}

/// CPU time of the processes so far.
#[derive(Clone, Copy, Debug)]
pub(super) struct Cpu {
    pub(super) envoy: Duration,
    /// Zero without one.
    pub(super) server: Duration,
}

/// Memory of an Envoy process, in bytes.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize)]
pub(super) struct Memory {
    /// What is in RAM of it, shared pages included.
    pub(super) resident: u64,
    /// Of that, what no file backs: heap, stacks, V8.
    pub(super) anonymous: u64,
    /// What Envoy itself has allocated (tcmalloc, `/memory`).
    pub(super) allocated: u64,
    /// What tcmalloc holds for it in RAM.
    pub(super) heap: u64,
}

impl Memory {
    /// Anonymous memory that is not Envoy's heap: V8 with the modules' code and linear memories, and the threads' stacks.
    /// Envoy tells no figure of V8's own.
    pub(super) fn outside_heap(&self) -> u64 {
        self.anonymous.saturating_sub(self.heap)
    }
}

impl Proxy {
    /// `forwards`: to a listener of its own, instead of answering at once.
    pub(super) async fn start(
        install: &Install,
        dir: &Path,
        (variant, threads): (Variant, u32),
        forwards: bool,
    ) -> Result<Self> {
        let name = format!("{}-{threads}", variant.name());
        let server = Server::start(install, dir, &name, variant).await?;
        let upstream = forwards.then(|| format!("@kilocard-bench-{}-{name}", std::process::id()));
        let config = variant.bootstrap(install, server.as_ref().map(Server::address), upstream.as_deref())?;
        let config_file = dir.join(format!("{name}.json"));
        std::fs::write(&config_file, serde_json::to_vec_pretty(&config)?)?;
        let admin_file = dir.join(format!("{name}.admin"));
        let mut command = Command::new(&install.envoy);
        command
            .arg("--config-path")
            .arg(&config_file)
            .arg("--admin-address-path")
            .arg(&admin_file)
            .args(["--concurrency", &threads.to_string()])
            .args(["--disable-hot-restart", "--log-level", "warn"]);
        let mut envoy = Process::start(&name, command, &dir.join(format!("{name}.log")))?;
        let (admin, address) = poll::until("Envoy to listen", DEADLINE, async || match envoy.check() {
            Ok(()) => listening(&admin_file).await.map(Ok),
            Err(ended) => Ok(Err(ended)),
        })
        .await??;
        Ok(Self {
            variant,
            threads,
            envoy,
            admin,
            address,
            server,
        })
    }

    pub(super) fn variant(&self) -> Variant {
        self.variant
    }

    /// Envoy's worker threads.
    pub(super) fn threads(&self) -> u32 {
        self.threads
    }

    pub(super) fn address(&self) -> SocketAddr {
        self.address
    }

    pub(super) fn cpu(&self) -> Result<Cpu> {
        let server = self.server.as_ref().map(|server| cpu(server.pid()?)).transpose()?;
        Ok(Cpu {
            envoy: cpu(self.envoy.pid())?,
            server: server.unwrap_or_default(),
        })
    }

    pub(super) async fn memory(&self) -> Result<Memory> {
        let path = format!("/proc/{}/smaps_rollup", self.envoy.pid());
        let rollup = std::fs::read_to_string(&path).with_context(|| format!("read {path}"))?;
        let page = self.admin.json("/memory").await?;
        // Envoy prints 64-bit numbers as strings, as proto3's JSON does.
        let told = |name: &str| -> Result<u64> {
            let text = page[name]
                .as_str()
                .with_context(|| format!("/memory has no {name}: {page}"))?;
            Ok(text.parse()?)
        };
        Ok(Memory {
            resident: kibibytes(&rollup, "Rss:")?,
            anonymous: kibibytes(&rollup, "Anonymous:")?,
            allocated: told("allocated")?,
            heap: told("total_physical_bytes")?,
        })
    }
}

/// Its admin interface, and where it listens.
async fn listening(admin_file: &Path) -> Result<(Admin, SocketAddr)> {
    let admin = Admin::new(std::fs::read_to_string(admin_file)?.trim().parse()?);
    let page = admin.json("/listeners?format=json").await?;
    let port = page.pointer("/listener_statuses/0/local_address/socket_address/port_value");
    let port = port.and_then(Value::as_u64).filter(|port| *port != 0);
    Ok((admin, format!("127.0.0.1:{}", port.context("not bound yet")?).parse()?))
}
