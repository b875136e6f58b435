//! The static configuration: flags and environment, read once.

use crate::ads::authorise::NodePattern;
use crate::snapshot::BuildOptions;
use crate::snapshot::filter::{Delivery, FilterModule, ModuleError};
use clap::Parser;
use kilocard_registry::connect::EtcdArgs;
use kilocard_registry::layout::{InvalidPrefix, Layout};
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

/// A configuration that can never work, whatever etcd says.
#[derive(Debug, thiserror::Error)]
pub enum ConfigError {
    /// `--etcd-prefix`.
    #[error(transparent)]
    Prefix(#[from] InvalidPrefix),
    /// `--filter-wasm`.
    #[error(transparent)]
    Filter(#[from] ModuleError),
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
    /// What goes into every snapshot.
    pub build: BuildOptions,
}

impl Args {
    /// Checks what can be checked without etcd, and reads the filter.
    ///
    /// # Errors
    /// [`ConfigError`] for what an operator has to mend before anything can work.
    pub fn check(self) -> Result<Config, ConfigError> {
        let layout = self.etcd.layout()?;
        if self.gateway_listen.port() == 0 {
            return Err(ConfigError::GatewayPort(self.gateway_listen));
        }
        let filter = FilterModule::load(&self.filter_wasm, self.filter_delivery)?;
        let build = BuildOptions {
            gateway: self.gateway_listen,
            filter,
            access_log: self.access_log,
            runtime_ttl: self.runtime_ttl.map(Duration::from_secs),
        };
        Ok(Config {
            args: self,
            layout,
            build,
        })
    }
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
    fn what_can_never_work_is_refused_with_what_to_do() {
        let errors = [
            (args(&["--etcd-prefix", "kilocard"]), "must start with '/'"),
            (args(&["--gateway-listen", "0.0.0.0:0"]), "port 0"),
            (args(&[]), "cargo xtask wasm"),
        ];
        for (args, expected) in errors {
            let error = args.check().unwrap_err().to_string();
            assert!(error.contains(expected), "{error}");
        }
    }
}
