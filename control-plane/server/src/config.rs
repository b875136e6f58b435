//! The static configuration: flags and environment, read once.

use crate::ads::authorise::NodePattern;
use crate::snapshot::BuildOptions;
use crate::snapshot::filter::{Delivery, FilterModule, ModuleError};
use clap::Parser;
use kilocard_quota::Settings;
use kilocard_registry::connect::{CredentialsError, EtcdArgs};
use kilocard_registry::layout::{InvalidPrefix, Layout};
use std::env;
use std::ffi::OsString;
use std::net::SocketAddr;
use std::path::PathBuf;
use std::time::Duration;

/// Kilocard's control plane: etcd in, xDS out.
#[derive(Clone, Debug, Parser)]
#[command(name = "kilocard-control-plane", version, about)]
pub struct Args {
    /// Where etcd is.
    #[command(flatten)]
    pub etcd: EtcdArgs,
    /// Folder of documents to serve instead of etcd: policies/, devices/ and workers/, see docs/operations.md
    #[arg(long, env = "KILOCARD_SOURCE_DIR", value_name = "DIR", conflicts_with = "endpoints")]
    pub source_dir: Option<PathBuf>,
    /// Folder into which verdicts on the policies of --source-dir are written; without it they are at /status only
    #[arg(long, env = "KILOCARD_STATUS_DIR", value_name = "DIR", requires = "source_dir")]
    pub status_dir: Option<PathBuf>,
    /// Address on which proxies are served (ADS over gRPC); port 0 takes a free one
    #[arg(long, env = "KILOCARD_XDS_LISTEN", default_value = "127.0.0.1:18000")]
    pub xds_listen: SocketAddr,
    /// Node ids that may connect, as patterns with `*` and `?`; everyone when left out
    #[arg(long, env = "KILOCARD_ALLOW_NODES", value_delimiter = ',', value_name = "PATTERN")]
    pub allow_nodes: Vec<NodePattern>,
    /// New xDS streams that get their first configuration each second; others wait, so that after an outage the first are done
    /// soon. 0 for no limit
    #[arg(long, env = "KILOCARD_NEW_STREAMS_PER_SECOND", default_value_t = 500)]
    pub new_streams_per_second: u32,
    /// After SIGTERM streams end spread over at most so many seconds
    #[arg(long, env = "KILOCARD_DRAIN_SECONDS", default_value_t = 5, value_parser = clap::value_parser!(u64).range(0..=600))]
    pub drain_seconds: u64,
    /// Address of /ready, /metrics and /status; port 0 takes a free one
    #[arg(long, env = "KILOCARD_ADMIN_LISTEN", default_value = "127.0.0.1:18001")]
    pub admin_listen: SocketAddr,
    /// Address on which proxies are told to listen for clients
    #[arg(long, env = "KILOCARD_GATEWAY_LISTEN", default_value = "0.0.0.0:8080")]
    pub gateway_listen: SocketAddr,
    /// The gateway filter, a wasm module
    #[arg(long, env = "KILOCARD_FILTER_WASM", value_name = "PATH")]
    pub filter_wasm: PathBuf,
    /// How proxies get at the filter: within their configuration, or as a path that they read themselves
    #[arg(long, env = "KILOCARD_FILTER_DELIVERY", value_enum, default_value_t = Delivery::Inline)]
    pub filter_delivery: Delivery,
    /// The cluster of the proxies' bootstrap that is the control plane: by it filters report what is asked of limits that the
    /// whole mesh shares
    #[arg(
        long,
        env = "KILOCARD_SYNC_CLUSTER",
        value_name = "NAME",
        default_value = "control-plane"
    )]
    pub sync_cluster: String,
    /// Let proxies log each request to their standard output, as JSON
    #[arg(long, env = "KILOCARD_ACCESS_LOG")]
    pub access_log: bool,
    /// Let proxies drop the values of MeshPolicy `spec.runtime` after so many seconds without the control plane
    #[arg(long, env = "KILOCARD_RUNTIME_TTL", value_name = "SECONDS", value_parser = clap::value_parser!(u64).range(1..=86_400))]
    pub runtime_ttl: Option<u64>,
    /// Folder of secrets to serve: `NAME/tls.crt` with `NAME/tls.key` as NAME, `NAME/ca.crt` as NAME/ca; read again when they change
    #[arg(long, env = "KILOCARD_SECRETS", value_name = "DIR")]
    pub secrets: Option<PathBuf>,
    /// File to which the bound addresses are written as JSON, once both are served
    #[arg(long, env = "KILOCARD_ENDPOINTS_FILE", value_name = "PATH")]
    pub endpoints_file: Option<PathBuf>,
    /// Folder in which the last good state is kept, to be served by a start while etcd is away; empty to keep none
    /// [default: $STATE_DIRECTORY, else $XDG_STATE_HOME/kilocard, else ~/.local/state/kilocard]
    #[arg(long, env = "KILOCARD_STATE_DIR", value_name = "DIR")]
    pub state_dir: Option<OsString>,
    /// Longest time, in seconds, for which workers stay in the mesh after many vanished at once; 0 drops them at once
    #[arg(long, env = "KILOCARD_HOLD_FOR_S", value_name = "SECONDS", default_value_t = 600)]
    pub hold_for_s: u32,
    /// Time, in seconds, for which the share of the mesh's limits is kept for a proxy that no longer reports, unless its node goes
    /// on under another process before
    #[arg(long, env = "KILOCARD_FORGET_PROXIES_SECONDS", value_name = "SECONDS", default_value_t = 600,
        value_parser = clap::value_parser!(u32).range(10..=86_400))]
    pub forget_proxies_seconds: u32,
    /// This replica's name in the election and in reports [default: the host's name and a random number]
    #[arg(long, env = "KILOCARD_REPLICA", value_name = "NAME")]
    pub replica: Option<String>,
    /// Time, in seconds, after which a leader that gives no sign of life is replaced
    #[arg(long, env = "KILOCARD_ELECTION_TTL_S", value_name = "SECONDS", default_value_t = 5,
        value_parser = clap::value_parser!(u32).range(1..))]
    pub election_ttl_s: u32,
    /// Form of the log
    #[arg(long, env = "KILOCARD_LOG_FORMAT", value_enum, default_value_t = LogFormat::Text)]
    pub log_format: LogFormat,
}

/// Form of the log, which goes to standard error.
#[derive(Clone, Copy, Debug, PartialEq, Eq, clap::ValueEnum)]
pub enum LogFormat {
    /// For people.
    Text,
    /// For machines: one JSON object a line.
    Json,
}

/// Where the mesh comes from.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum SourceConfig {
    /// As `--etcd` and its companions say.
    Etcd,
    /// A folder of documents.
    Folder {
        /// Its absolute path.
        root: PathBuf,
        /// Where verdicts are written, if anywhere.
        statuses: Option<PathBuf>,
    },
}

/// A configuration that can never work, whatever etcd says.
#[derive(Debug, thiserror::Error)]
pub enum ConfigError {
    /// `--etcd-prefix`.
    #[error(transparent)]
    Prefix(#[from] InvalidPrefix),
    /// The flags or files for TLS or authentication.
    #[error(transparent)]
    Credentials(#[from] CredentialsError),
    /// `--filter-wasm`.
    #[error(transparent)]
    Filter(#[from] ModuleError),
    /// `--source-dir`.
    #[error("--source-dir {path}: {source}", path = path.display())]
    SourceDir {
        /// As given.
        path: PathBuf,
        /// Why it cannot be used.
        source: std::io::Error,
    },
    /// `--status-dir` within `--source-dir`.
    #[error("--status-dir {0} is a part of --source-dir that is read: write the verdicts elsewhere")]
    StatusDir(PathBuf),
    /// `--gateway-listen`.
    #[error("--gateway-listen {0} has port 0: every proxy listens on it, so it must be a port that clients can know")]
    GatewayPort(SocketAddr),
}

/// The configuration, checked.
#[derive(Clone, Debug)]
pub struct Config {
    /// As given.
    pub args: Args,
    /// Keys in etcd.
    pub layout: Layout,
    /// Where the mesh comes from.
    pub source: SourceConfig,
    /// This replica's name among the others.
    pub replica: String,
    /// Where the last good state is kept, if anywhere.
    pub state_dir: Option<PathBuf>,
    /// What goes into every snapshot.
    pub build: BuildOptions,
}

impl Args {
    /// Longest time for which workers are held.
    pub fn hold_for(&self) -> Duration {
        Duration::from_secs(self.hold_for_s.into())
    }

    /// How limits of the whole mesh are divided.
    pub fn division(&self) -> Settings {
        Settings {
            forget_after: Duration::from_secs(self.forget_proxies_seconds.into()),
            ..Settings::default()
        }
    }

    /// Where the last good state is kept: as the flag says, or where the system keeps such things; `None` if it is to be
    /// nowhere, or if there is no such place.
    fn state_dir(&self) -> Option<PathBuf> {
        let named = |name: &str| env::var_os(name).filter(|value| !value.is_empty()).map(PathBuf::from);
        match &self.state_dir {
            Some(given) if given.is_empty() => None,
            Some(given) => Some(given.into()),
            // systemd's for `StateDirectory=`; it is the service's own.
            None => named("STATE_DIRECTORY")
                .or_else(|| Some(named("XDG_STATE_HOME")?.join("kilocard")))
                .or_else(|| Some(named("HOME")?.join(".local/state/kilocard"))),
        }
    }

    fn source(&self) -> Result<SourceConfig, ConfigError> {
        let Some(path) = &self.source_dir else {
            self.etcd.check_credentials()?;
            return Ok(SourceConfig::Etcd);
        };
        let absolute = |path: &PathBuf| {
            std::path::absolute(path).map_err(|source| ConfigError::SourceDir {
                path: path.clone(),
                source,
            })
        };
        let root = absolute(path)?;
        let statuses = self.status_dir.as_ref().map(absolute).transpose()?;
        // A folder that is not there may be mounted later; a file will not become one.
        if root.exists() && !root.is_dir() {
            let source = std::io::ErrorKind::NotADirectory.into();
            return Err(ConfigError::SourceDir {
                path: path.clone(),
                source,
            });
        }
        if let Some(statuses) = &statuses
            && ["policies", "devices", "workers"]
                .iter()
                .any(|room| statuses.starts_with(root.join(room)))
        {
            return Err(ConfigError::StatusDir(statuses.clone()));
        }
        Ok(SourceConfig::Folder { root, statuses })
    }

    /// Checks what can be checked without etcd, and reads the filter.
    ///
    /// # Errors
    /// [`ConfigError`] for what an operator has to mend before anything can work.
    pub fn check(self) -> Result<Config, ConfigError> {
        let layout = self.etcd.layout()?;
        let source = self.source()?;
        if self.gateway_listen.port() == 0 {
            return Err(ConfigError::GatewayPort(self.gateway_listen));
        }
        let filter = FilterModule::load(&self.filter_wasm, self.filter_delivery)?;
        let build = BuildOptions {
            gateway: self.gateway_listen,
            filter,
            access_log: self.access_log,
            sync_cluster: self.sync_cluster.clone(),
            runtime_ttl: self.runtime_ttl.map(Duration::from_secs),
        };
        let state_dir = self.state_dir();
        let replica = self.replica.clone().unwrap_or_else(replica_name);
        Ok(Config {
            args: self,
            layout,
            source,
            replica,
            state_dir,
            build,
        })
    }
}

/// Random, and not the process id: containers all have the same.
fn replica_name() -> String {
    let host = std::fs::read_to_string("/proc/sys/kernel/hostname").unwrap_or_default();
    format!("{}-{:08x}", host.trim(), fastrand::u32(..))
}

#[cfg(test)]
mod tests {
    use super::*;
    use clap::CommandFactory;

    fn args(extra: &[&str]) -> Args {
        let given = ["kilocard-control-plane", "--filter-wasm", "/nonexistent/gateway.wasm"];
        Args::try_parse_from(given.iter().chain(extra)).unwrap()
    }

    #[test]
    fn the_command_line_is_coherent() {
        Args::command().debug_assert();
    }

    #[test]
    fn the_last_good_state_is_kept_unless_it_is_said_not_to() {
        assert_eq!(
            args(&["--state-dir", "/var/lib/k"]).state_dir(),
            Some("/var/lib/k".into())
        );
        assert_eq!(args(&["--state-dir", ""]).state_dir(), None);
    }

    #[test]
    fn a_proxy_is_not_forgotten_before_its_leases_have_ended() {
        assert_eq!(args(&[]).division().forget_after, Duration::from_secs(600));
        let short = args(&["--forget-proxies-seconds", "10"]).division();
        assert_eq!(short.forget_after, Duration::from_secs(10));
        assert!(short.forget_after >= 2 * short.ttl);
        for refused in ["9", "86401"] {
            let given = [
                "kilocard-control-plane",
                "--filter-wasm",
                "/x",
                "--forget-proxies-seconds",
                refused,
            ];
            assert!(Args::try_parse_from(given).is_err(), "{refused}");
        }
    }

    #[test]
    fn there_is_one_source_and_status_files_belong_to_the_folder() {
        for extra in [
            &["--source-dir", "/x", "--etcd", "http://etcd:2379"][..],
            &["--status-dir", "/x"],
        ] {
            let given = ["kilocard-control-plane", "--filter-wasm", "/nonexistent/gateway.wasm"];
            let error = Args::try_parse_from(given.iter().chain(extra)).unwrap_err().to_string();
            assert!(error.contains("--source-dir") && error.contains(extra[0]), "{error}");
        }
    }

    #[test]
    fn what_can_never_work_is_refused_with_what_to_do() {
        let errors = [
            (args(&["--etcd-prefix", "kilocard"]), "must start with '/'"),
            (args(&["--gateway-listen", "0.0.0.0:0"]), "port 0"),
            (args(&[]), "cargo xtask wasm"),
            (
                args(&["--source-dir", "/etc/hostname"]),
                "--source-dir /etc/hostname: not a directory",
            ),
            (
                args(&["--source-dir", "/x", "--status-dir", "/x/policies/y"]),
                "--status-dir /x/policies/y is a part of",
            ),
            (args(&["--etcd", "https://etcd:2379"]), "--etcd-ca must name"),
        ];
        for (args, expected) in errors {
            let error = args.check().unwrap_err().to_string();
            assert!(error.contains(expected), "{error}");
        }
    }
}
