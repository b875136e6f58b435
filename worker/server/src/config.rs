//! The flags of `serve`, checked: everything that can be known to be wrong before anything starts.

use crate::{
    cli::ServeArgs,
    simulated_gpu::{SimulatedGpu, SimulatedGpuError, is_pci_address},
};
use kilocard_engine::{backend::device::DeviceChoice, repository::VersionId};
use kilocard_registry::{
    connect::{CredentialsError, EtcdArgs},
    layout::InvalidPrefix,
};
use std::{fs, net::SocketAddr, path::PathBuf, time::Duration};

/// What a worker is started with.
#[derive(Clone, Debug)]
pub struct Config {
    /// The repository's folder.
    pub repository: PathBuf,
    /// What to serve; empty for all.
    pub models: Vec<VersionId>,
    /// Where to serve gRPC.
    pub listen: SocketAddr,
    /// Where to serve the admin endpoint.
    pub admin_listen: SocketAddr,
    /// Name of this worker.
    pub id: String,
    /// What to compute on.
    pub device: DeviceChoice,
    /// Texts that may wait.
    pub max_queue: usize,
    /// Most padded tokens in one batch; `None` for the device's default.
    pub max_batch_tokens: Option<usize>,
    /// Where to write the bound addresses.
    pub endpoints_file: Option<PathBuf>,
    /// How to register; `None` to serve unknown.
    pub registration: Option<RegistrationConfig>,
    /// How long to go on serving after leaving etcd.
    pub drain_delay: Duration,
    /// How long requests in flight may then take.
    pub drain_timeout: Duration,
}

/// How to register.
#[derive(Clone, Debug)]
pub struct RegistrationConfig {
    /// Where etcd is.
    pub etcd: EtcdArgs,
    /// What to register; the bound address when `None`.
    pub advertise: Option<SocketAddr>,
    /// Name of this machine.
    pub node: String,
    /// The zone that it runs in, if it was told.
    pub zone: Option<String>,
    /// The rack within the zone.
    pub rack: Option<String>,
    /// How long a dead worker is remembered.
    pub lease_ttl: Duration,
    /// The GPU it computes on, if any.
    pub gpu: Option<Gpu>,
    /// The slice of it, if it is cut.
    pub mig_profile: Option<String>,
    /// Most time between two load reports.
    pub report_interval: Duration,
}

/// The GPU that a worker computes on.
#[derive(Clone, Debug)]
pub enum Gpu {
    /// By its PCI address. What card that is says the inventory, or else the card.
    Real(String),
    /// One to pretend to have, and the file that says so.
    Simulated(PathBuf, Box<SimulatedGpu>),
}

impl Gpu {
    /// Its PCI address.
    pub fn pci(&self) -> &str {
        match self {
            Self::Real(pci) => pci,
            Self::Simulated(_, gpu) => &gpu.pci,
        }
    }
}

/// A flag that cannot be followed.
#[derive(Debug, thiserror::Error)]
pub enum ConfigError {
    /// Proxies cannot connect to it.
    #[error("--listen {0} is every address of this machine, so --advertise must say which one proxies reach it at")]
    AdvertiseMissing(SocketAddr),
    /// Proxies cannot connect to it.
    #[error("--advertise {0} is no address to connect to: it needs a concrete IP and a port")]
    AdvertiseUnusable(SocketAddr),
    /// Not usable in a key.
    #[error("{flag} {value:?} must be 1 to 128 of A-Z, a-z, 0-9, '.', '_' and '-'")]
    Name {
        /// The flag.
        flag: &'static str,
        /// Its value.
        value: String,
    },
    /// The prefix is wrong.
    #[error("--etcd-prefix: {0}")]
    Prefix(#[from] InvalidPrefix),
    /// The flags or files for TLS or authentication are wrong.
    #[error(transparent)]
    Credentials(#[from] CredentialsError),
    /// Not usable in a key.
    #[error("--gpu-pci {0:?} is no PCI address such as \"0000:3b:00.0\"")]
    GpuPci(String),
    /// The simulated GPU is wrong.
    #[error("--simulated-gpu: {0}")]
    SimulatedGpu(#[from] SimulatedGpuError),
}

impl Config {
    /// For the log: without the credentials that URLs may hold.
    #[must_use]
    pub fn redacted(&self) -> Self {
        let mut config = self.clone();
        if let Some(registration) = &mut config.registration {
            for url in &mut registration.etcd.endpoints {
                *url = redact(url);
            }
        }
        config
    }
}

fn redact(url: &str) -> String {
    let host = url.find("://").map_or(0, |at| at + 3);
    match (url.get(..host), url.rsplit_once('@')) {
        (Some(scheme), Some((_, rest))) => format!("{scheme}***@{rest}"),
        _ => url.to_owned(),
    }
}

impl TryFrom<ServeArgs> for Config {
    type Error = ConfigError;

    fn try_from(args: ServeArgs) -> Result<Self, ConfigError> {
        let node = name("--node", args.node.clone().unwrap_or_else(host_name))?;
        // Random, and not the process id: containers all have the same.
        let id = args
            .id
            .clone()
            .unwrap_or_else(|| format!("{node}-{:08x}", fastrand::u32(..)));
        Ok(Self {
            id: name("--id", id)?,
            registration: if args.no_register {
                None
            } else {
                Some(registration(&args, node)?)
            },
            repository: args.model_repository,
            models: args.models,
            listen: args.listen,
            admin_listen: args.admin_listen,
            device: args.device.into(),
            max_queue: args.max_queue as usize,
            max_batch_tokens: args.max_batch_tokens.map(|tokens| tokens as usize),
            endpoints_file: args.endpoints_file,
            drain_delay: Duration::from_millis(args.drain_delay_ms),
            drain_timeout: Duration::from_secs(args.drain_timeout_s),
        })
    }
}

fn registration(args: &ServeArgs, node: String) -> Result<RegistrationConfig, ConfigError> {
    match args.advertise {
        None if args.listen.ip().is_unspecified() => return Err(ConfigError::AdvertiseMissing(args.listen)),
        Some(address) if address.ip().is_unspecified() || address.port() == 0 => {
            return Err(ConfigError::AdvertiseUnusable(address));
        }
        _ => {}
    }
    args.etcd.layout()?;
    args.etcd.check_credentials()?;
    let gpu = match (&args.gpu_pci, &args.simulated_gpu) {
        (Some(pci), _) if !is_pci_address(pci) => return Err(ConfigError::GpuPci(pci.clone())),
        (Some(pci), _) => Some(Gpu::Real(pci.clone())),
        (None, Some(path)) => Some(Gpu::Simulated(path.clone(), Box::new(SimulatedGpu::read(path)?))),
        (None, None) => None,
    };
    Ok(RegistrationConfig {
        etcd: args.etcd.clone(),
        advertise: args.advertise,
        node,
        lease_ttl: Duration::from_secs(args.lease_ttl_s.into()),
        mig_profile: args.mig_profile.clone(),
        zone: args.zone.clone().map(|zone| name("--zone", zone)).transpose()?,
        rack: args.rack.clone().map(|rack| name("--rack", rack)).transpose()?,
        report_interval: Duration::from_millis(args.report_interval_ms.into()),
        gpu,
    })
}

fn name(flag: &'static str, value: String) -> Result<String, ConfigError> {
    let plain = |byte: u8| byte.is_ascii_alphanumeric() || matches!(byte, b'.' | b'_' | b'-');
    if (1..=128).contains(&value.len()) && value.bytes().all(plain) {
        Ok(value)
    } else {
        Err(ConfigError::Name { flag, value })
    }
}

/// What this machine calls itself.
pub fn host_name() -> String {
    fs::read_to_string("/proc/sys/kernel/hostname")
        .map_or_else(|_| "localhost".to_owned(), |name| name.trim().to_owned())
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::cli::{Cli, Command};
    use clap::Parser;

    #[test]
    fn credentials_do_not_get_into_the_log() {
        let etcd = "http://10.0.0.1:2379,http://root:p@ss@etcd:2379,me:secret@etcd:1";
        let config = parse(&["--etcd", etcd]).unwrap();
        let endpoints = config.redacted().registration.unwrap().etcd.endpoints;
        assert_eq!(
            endpoints,
            ["http://10.0.0.1:2379", "http://***@etcd:2379", "***@etcd:1"]
        );
        assert!(!format!("{:?}", config.redacted()).contains("secret"));
    }

    #[test]
    fn a_gpu_is_named_by_its_pci_address_or_simulated() {
        let registration = parse(&["--gpu-pci", "0000:3b:00.0"]).unwrap().registration.unwrap();
        let gpu = registration.gpu.unwrap();
        assert!(matches!(&gpu, Gpu::Real(_)) && gpu.pci() == "0000:3b:00.0");
        let error = parse(&["--gpu-pci", "3b:00"]).unwrap_err().to_string();
        assert!(error.contains("--gpu-pci \"3b:00\" is no PCI address"), "{error}");
        let both = [
            "kilocard-worker",
            "serve",
            "--model-repository",
            "m",
            "--gpu-pci",
            "a",
            "--simulated-gpu",
            "b",
        ];
        let error = Cli::try_parse_from(both).unwrap_err();
        assert_eq!(error.kind(), clap::error::ErrorKind::ArgumentConflict);
    }

    fn parse(flags: &[&str]) -> Result<Config, ConfigError> {
        let line = [
            "kilocard-worker",
            "serve",
            "--model-repository",
            "models",
            "--node",
            "n1",
        ];
        let Command::Serve(args) = Cli::parse_from(line.iter().chain(flags)).command else {
            panic!("serve was asked for")
        };
        Config::try_from(*args)
    }

    #[test]
    fn an_address_that_proxies_cannot_reach_is_refused() {
        for (flags, part) in [
            (&["--listen", "0.0.0.0:8001"][..], "--advertise must say"),
            (&["--listen", "[::]:8001"], "--advertise must say"),
            (
                &["--advertise", "0.0.0.0:8001"],
                "--advertise 0.0.0.0:8001 is no address",
            ),
            (&["--advertise", "10.0.0.1:0"], "--advertise 10.0.0.1:0 is no address"),
        ] {
            let error = parse(flags).unwrap_err().to_string();
            assert!(error.contains(part), "{error}");
        }
        assert!(parse(&["--listen", "0.0.0.0:8001", "--advertise", "10.0.0.1:8001"]).is_ok());
        assert!(parse(&["--listen", "0.0.0.0:8001", "--no-register"]).is_ok());
    }

    #[test]
    fn names_that_would_break_a_key_are_refused() {
        for flags in [["--id", "a/b"], ["--id", ""], ["--id", "a b"]] {
            let error = parse(&flags).unwrap_err().to_string();
            assert!(error.contains(flags[0]), "{error}");
        }
        assert!(parse(&[]).unwrap().id.starts_with("n1-"));
    }

    #[test]
    fn a_simulated_gpu_is_read_before_anything_starts() {
        let error = parse(&["--simulated-gpu", "/nonexistent.json"])
            .unwrap_err()
            .to_string();
        assert!(error.starts_with("--simulated-gpu: /nonexistent.json: "), "{error}");
    }
}
