//! The command line.

use clap::{Args, Parser, Subcommand, ValueEnum};
use kilocard_engine::{backend::device::DeviceChoice, repository::VersionId, repository::manifest::WeightType};
use kilocard_registry::connect::EtcdArgs;
use std::{net::SocketAddr, path::PathBuf};

/// Kilocard's inference worker.
#[derive(Debug, Parser)]
#[command(name = "kilocard-worker", version)]
pub struct Cli {
    /// What to do
    #[command(subcommand)]
    pub command: Command,
    /// How logs are written; RUST_LOG sets how much
    #[arg(long, global = true, default_value = "text")]
    pub log_format: LogFormat,
}

/// How logs are written.
#[derive(Clone, Copy, Debug, PartialEq, Eq, ValueEnum)]
pub enum LogFormat {
    /// For people
    Text,
    /// For machines: one JSON object a line
    Json,
}

/// What to do.
#[derive(Debug, Subcommand)]
pub enum Command {
    /// Serve models
    Serve(Box<ServeArgs>),
    /// Make a version of the repository from a Hugging Face folder
    Pack(PackArgs),
    /// Check every file of the repository against its manifest
    Verify(VerifyArgs),
    /// Show what this machine's cards and RDMA ports say: the device records and the readings that workers here would report
    Inspect(InspectArgs),
}

/// Flags of `serve`.
#[derive(Args, Clone, Debug)]
pub struct ServeArgs {
    /// Folder with <model>/<version>/ in it
    #[arg(long, env = "KILOCARD_MODEL_REPOSITORY")]
    pub model_repository: PathBuf,
    /// What to serve, as MODEL/VERSION; may be given several times [default: all there is]
    #[arg(long = "model", value_name = "MODEL/VERSION")]
    pub models: Vec<VersionId>,
    /// Where to serve gRPC; port 0 for any free one
    #[arg(long, default_value = "127.0.0.1:0")]
    pub listen: SocketAddr,
    /// The address that proxies reach this worker at [default: the bound one]
    #[arg(long, value_name = "IP:PORT")]
    pub advertise: Option<SocketAddr>,
    /// Where to serve /ready and /metrics; port 0 for any free one
    #[arg(long, default_value = "127.0.0.1:0")]
    pub admin_listen: SocketAddr,
    /// etcd
    #[command(flatten)]
    pub etcd: EtcdArgs,
    /// Serve without etcd: nothing routes here
    #[arg(long)]
    pub no_register: bool,
    /// Unique name of this worker [default: <node>-<random>]
    #[arg(long)]
    pub id: Option<String>,
    /// Name of this machine [default: its host name]
    #[arg(long)]
    pub node: Option<String>,
    /// Zone that this worker runs in; proxies prefer their own [default: its card's, from the inventory]
    #[arg(long)]
    pub zone: Option<String>,
    /// Rack within that zone
    #[arg(long, requires = "zone")]
    pub rack: Option<String>,
    /// PCI address of the GPU that this worker computes on, for example 0000:3b:00.0; `kilocard-worker inspect` lists them.
    /// The worker is weighed by what stands in etcd under devices/gpu/<node>/<ADDRESS>; where nothing does, it writes there
    /// what NVML says of the card
    #[arg(long, value_name = "ADDRESS", conflicts_with = "simulated_gpu")]
    pub gpu_pci: Option<String>,
    /// JSON file with a GPU to pretend to have, labelled as simulated; read again when it changes
    #[arg(long, value_name = "FILE")]
    pub simulated_gpu: Option<PathBuf>,
    /// The slice of that GPU that this worker computes on, if it is cut (MIG): its profile, for example 3g.40gb
    #[arg(long, value_name = "PROFILE", requires = "gpu_pci")]
    pub mig_profile: Option<String>,
    /// Most time between two load reports, in milliseconds; proxies' weights forget a report that is three times as old
    #[arg(long, default_value_t = 5000, value_parser = clap::value_parser!(u32).range(500..=60_000))]
    pub report_interval_ms: u32,
    /// Seconds after which a worker that died is forgotten
    #[arg(long, default_value_t = 5, value_parser = clap::value_parser!(u16).range(1..=3600))]
    pub lease_ttl_s: u16,
    /// What to compute on
    #[arg(long, default_value = "auto")]
    pub device: Device,
    /// Texts that may wait; more are refused with RESOURCE_EXHAUSTED
    #[arg(long, default_value_t = 4096, value_parser = clap::value_parser!(u32).range(1..=1_000_000))]
    pub max_queue: u32,
    /// Tokens computed in one batch, padding included [default: 2048 on a CPU, 16384 on a GPU]
    #[arg(long, value_parser = clap::value_parser!(u32).range(1..=1_048_576))]
    pub max_batch_tokens: Option<u32>,
    /// File to write the bound addresses to, as JSON, once serving
    #[arg(long, value_name = "PATH")]
    pub endpoints_file: Option<PathBuf>,
    /// How long to go on serving after leaving etcd, so that proxies learn of it, in milliseconds
    #[arg(long, default_value_t = 1000)]
    pub drain_delay_ms: u64,
    /// How long requests in flight may then take, in seconds
    #[arg(long, default_value_t = 30)]
    pub drain_timeout_s: u64,
}

/// What to compute on.
#[derive(Clone, Copy, Debug, PartialEq, Eq, ValueEnum)]
pub enum Device {
    /// A GPU if there is one, else the CPU
    Auto,
    /// The CPU
    Cpu,
    /// A GPU, or fail
    Cuda,
}

impl From<Device> for DeviceChoice {
    fn from(device: Device) -> Self {
        match device {
            Device::Auto => Self::Auto,
            Device::Cpu => Self::Cpu,
            Device::Cuda => Self::Cuda,
        }
    }
}

/// Flags of `pack`.
#[derive(Args, Clone, Debug)]
pub struct PackArgs {
    /// The Hugging Face folder
    pub source: PathBuf,
    /// The repository
    #[arg(long)]
    pub model_repository: PathBuf,
    /// What to make, as MODEL/VERSION
    #[arg(long, value_name = "MODEL/VERSION")]
    pub model: VersionId,
    /// How to store the weights
    #[arg(long, default_value = "f32")]
    pub dtype: Dtype,
}

/// How to store weights.
#[derive(Clone, Copy, Debug, PartialEq, Eq, ValueEnum)]
pub enum Dtype {
    /// Single precision
    F32,
    /// Half precision
    F16,
}

impl From<Dtype> for WeightType {
    fn from(dtype: Dtype) -> Self {
        match dtype {
            Dtype::F32 => Self::F32,
            Dtype::F16 => Self::F16,
        }
    }
}

/// Flags of `verify`.
#[derive(Args, Clone, Debug)]
pub struct VerifyArgs {
    /// The repository
    #[arg(long)]
    pub model_repository: PathBuf,
    /// What to check, as MODEL/VERSION; may be given several times [default: all there is]
    #[arg(long = "model", value_name = "MODEL/VERSION")]
    pub models: Vec<VersionId>,
}

/// Flags of `inspect`.
#[derive(Args, Clone, Debug)]
pub struct InspectArgs {
    /// PCI address of a GPU, for example 0000:3b:00.0; may be given several times [default: all there are]
    #[arg(long, value_name = "ADDRESS")]
    pub gpu_pci: Vec<String>,
    /// Name of this machine [default: its host name]
    #[arg(long)]
    pub node: Option<String>,
    /// How to print
    #[arg(long, short, default_value = "text")]
    pub output: Output,
}

/// How to print.
#[derive(Clone, Copy, Debug, PartialEq, Eq, ValueEnum)]
pub enum Output {
    /// For people
    Text,
    /// For machines
    Json,
}
