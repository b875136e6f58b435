//! A worker as a process.

use crate::install::Install;
use crate::poll::{self, DEADLINE};
use crate::process::{GRACE, Process};
use anyhow::{Context, Result};
use kilocard_registry::device::DeviceRecord;
use kilocard_registry::telemetry::{EngineLoad, GpuReading, RdmaReading, ServingHealth};
use serde::de::DeserializeOwned;
use serde::{Deserialize, Serialize};
use std::net::SocketAddr;
use std::path::{Path, PathBuf};
use std::process::Command;
use std::time::Duration;

/// What a worker serves, and as what it registers.
#[derive(Clone, Debug)]
pub struct WorkerSpec {
    /// Its id in etcd.
    pub id: String,
    /// The model's name.
    pub model: String,
    /// The model's version.
    pub version: String,
    /// The card that it claims to have; `None` for a CPU worker.
    pub gpu: Option<SimulatedGpu>,
    /// The zone that it says it runs in; `None` for its card's.
    pub zone: Option<String>,
    /// How long its record outlives it, in seconds.
    pub lease_ttl_s: u16,
    /// How long it serves on after it took its record out of etcd, so that Envoy learns of it first.
    pub drain_delay: Duration,
    /// Another model repository than the installed one.
    pub models: Option<PathBuf>,
}

impl WorkerSpec {
    /// A CPU worker of `minilm` with a short lease.
    pub fn minilm(id: &str, version: &str) -> Self {
        Self {
            id: id.to_owned(),
            model: "minilm".to_owned(),
            version: version.to_owned(),
            gpu: None,
            zone: None,
            lease_ttl_s: 3,
            drain_delay: Duration::from_millis(500),
            models: None,
        }
    }

    /// The same in a zone.
    #[must_use]
    pub fn in_zone(mut self, zone: &str) -> Self {
        self.zone = Some(zone.to_owned());
        self
    }

    /// The same with a simulated card.
    #[must_use]
    pub fn with_gpu(mut self, gpu: SimulatedGpu) -> Self {
        self.gpu = Some(gpu);
        self
    }
}

/// The file behind `kilocard-worker serve --simulated-gpu`.
#[derive(Clone, Debug, Serialize)]
pub struct SimulatedGpu {
    /// PCI address.
    pub pci: String,
    /// The inventory's entry.
    pub device: DeviceRecord,
    /// Memory that is free, bytes.
    pub memory_free_bytes: u64,
    /// What NVML would say.
    #[serde(default)]
    pub gpu: GpuReading,
    /// What the RDMA ports would be.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub rdma: Option<RdmaReading>,
    /// What the engine would say; what is absent is measured.
    #[serde(default)]
    pub engine: EngineLoad,
    /// What the health service would say in the load report.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub health: Option<ServingHealth>,
}

impl SimulatedGpu {
    /// A card with three quarters of its memory free.
    pub fn new(pci: &str, model: &str, memory_gb: u64, arch: &str) -> Self {
        let device = DeviceRecord {
            model: model.to_owned(),
            #[expect(clippy::cast_precision_loss, reason = "a card's memory in GiB is a small number")]
            memory_gb: memory_gb as f64,
            arch: Some(arch.to_owned()),
            nvlink: true,
            zone: Some("zone-a".to_owned()),
            simulated: true,
            ..DeviceRecord::default()
        };
        Self {
            pci: pci.to_owned(),
            device,
            memory_free_bytes: (memory_gb << 30) / 4 * 3,
            gpu: GpuReading::default(),
            rdma: None,
            engine: EngineLoad::default(),
            health: None,
        }
    }

    /// An H100 of 80 GB.
    pub fn h100(pci: &str) -> Self {
        Self::new(pci, "NVIDIA H100 80GB HBM3", 80, "hopper")
    }

    /// An A100 of 40 GB.
    pub fn a100(pci: &str) -> Self {
        Self::new(pci, "NVIDIA A100-SXM4-40GB", 40, "ampere")
    }
}

#[derive(Clone, Copy, Debug, Deserialize)]
struct Endpoints {
    grpc: SocketAddr,
    admin: SocketAddr,
}

/// A worker.
#[derive(Debug)]
pub struct Worker {
    spec: WorkerSpec,
    process: Option<Process>,
    file: PathBuf,
    gpu_file: PathBuf,
    endpoints: Option<Endpoints>,
}

impl Worker {
    pub(super) fn start(install: &Install, dir: &Path, etcd: &str, spec: WorkerSpec) -> Result<Self> {
        let file = dir.join(format!("{}.endpoints.json", spec.id));
        let _ = std::fs::remove_file(&file);
        let mut command = Command::new(&install.worker);
        command
            .arg("serve")
            .arg("--model-repository")
            .arg(spec.models.as_ref().unwrap_or(&install.models))
            .args(["--model", &format!("{}/{}", spec.model, spec.version)])
            .args(["--listen", "127.0.0.1:0", "--admin-listen", "127.0.0.1:0"])
            .args(["--etcd", etcd, "--id", &spec.id, "--node", &format!("node-{}", spec.id)])
            .args(["--lease-ttl-s", &spec.lease_ttl_s.to_string()])
            .args(["--drain-delay-ms", &spec.drain_delay.as_millis().to_string()])
            .arg("--endpoints-file")
            .arg(&file);
        if let Some(zone) = &spec.zone {
            command.args(["--zone", zone]);
        }
        let gpu_file = dir.join(format!("{}.gpu.json", spec.id));
        if let Some(gpu) = &spec.gpu {
            write_gpu(&gpu_file, gpu)?;
            command.arg("--simulated-gpu").arg(&gpu_file);
        }
        let process = Process::start(&spec.id, command, &dir.join(format!("{}.log", spec.id)))?;
        Ok(Self {
            spec,
            process: Some(process),
            file,
            gpu_file,
            endpoints: None,
        })
    }

    pub(super) async fn await_serving(&mut self) -> Result<()> {
        let process = self.process.as_mut().context("the worker does not run")?;
        self.endpoints = Some(read_endpoints(process, &self.file).await?);
        Ok(())
    }

    /// Changes its simulated card from now on.
    ///
    /// # Errors
    /// If the file cannot be written.
    pub fn set_gpu(&self, gpu: &SimulatedGpu) -> Result<()> {
        write_gpu(&self.gpu_file, gpu)
    }

    /// What it was started as.
    pub fn spec(&self) -> &WorkerSpec {
        &self.spec
    }

    /// Where it serves gRPC, once it does.
    pub fn grpc(&self) -> Option<SocketAddr> {
        self.endpoints.map(|endpoints| endpoints.grpc)
    }

    /// Where its admin server is, once it serves.
    pub fn admin(&self) -> Option<SocketAddr> {
        self.endpoints.map(|endpoints| endpoints.admin)
    }

    /// Its `/metrics` page.
    ///
    /// # Errors
    /// If it does not answer.
    pub async fn metrics(&self) -> Result<String> {
        let admin = self.admin().context("the worker does not serve yet")?;
        Ok(reqwest::get(format!("http://{admin}/metrics"))
            .await?
            .error_for_status()?
            .text()
            .await?)
    }

    /// SIGKILL: no drain, its record stays until the lease runs out.
    ///
    /// # Errors
    /// If it does not run.
    pub async fn sigkill(&mut self) -> Result<()> {
        self.process.take().context("the worker does not run")?.kill().await?;
        Ok(())
    }

    /// SIGTERM: drains, then ends.
    ///
    /// # Errors
    /// If it does not run, has to be killed, or ends with an error.
    pub async fn drain(&mut self) -> Result<()> {
        let mut process = self.process.take().context("the worker does not run")?;
        process.drain(self.spec.drain_delay + GRACE).await
    }

    /// Its process, while it runs.
    pub fn process_mut(&mut self) -> Option<&mut Process> {
        self.process.as_mut()
    }
}

/// The worker never reads half of it: it is written beside and renamed.
fn write_gpu(path: &Path, gpu: &SimulatedGpu) -> Result<()> {
    let beside = path.with_extension("new");
    std::fs::write(&beside, serde_json::to_vec_pretty(gpu)?)?;
    Ok(std::fs::rename(beside, path)?)
}

/// Waits for the file in which a server tells its addresses.
pub(crate) async fn read_endpoints<T: DeserializeOwned>(process: &mut Process, file: &Path) -> Result<T> {
    let what = format!("{} to serve", process.name());
    poll::until(&what, DEADLINE, async || {
        if let Err(ended) = process.check() {
            // Waiting longer is no use.
            return Ok(Err(ended));
        }
        let bytes = std::fs::read(file).with_context(|| format!("read {}", file.display()))?;
        Ok(Ok(serde_json::from_slice(&bytes)?))
    })
    .await?
    .with_context(|| format!("{what}, awaited"))
}
