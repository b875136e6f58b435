//! `kilocard-control-plane`.

use clap::Parser;
use kilocard_control_plane::config::{Args, Config, LogFormat};
use kilocard_control_plane::server;
use std::io::IsTerminal;
use std::process::ExitCode;
use tokio::signal::unix::{SignalKind, signal};
use tokio_util::sync::CancellationToken;
use tracing_subscriber::EnvFilter;

/// Exit status for a configuration that can never work, as of clap for a command line that it cannot read.
const MISCONFIGURED: u8 = 2;

fn main() -> ExitCode {
    let args = Args::parse();
    start_log(args.log_format);
    let config = match args.check() {
        Ok(config) => config,
        Err(error) => {
            tracing::error!("{error}");
            return ExitCode::from(MISCONFIGURED);
        }
    };
    match serve(config) {
        Ok(()) => ExitCode::SUCCESS,
        Err(error) => {
            tracing::error!("{error:#}");
            ExitCode::FAILURE
        }
    }
}

#[tokio::main]
async fn serve(config: Config) -> anyhow::Result<()> {
    announce(&config);
    let stop = CancellationToken::new();
    let (mut terminate, mut interrupt) = (signal(SignalKind::terminate())?, signal(SignalKind::interrupt())?);
    let on_signal = stop.clone();
    tokio::spawn(async move {
        let name = tokio::select! {
            _ = terminate.recv() => "SIGTERM",
            _ = interrupt.recv() => "SIGINT",
        };
        tracing::info!(signal = name, "ending");
        on_signal.cancel();
    });
    server::run(config, stop).await?;
    Ok(())
}

/// The configuration in force, so that nobody has to guess it from flags and environment.
fn announce(config: &Config) {
    let args = &config.args;
    tracing::info!(
        version = env!("CARGO_PKG_VERSION"),
        etcd = args.etcd.redacted(),
        etcd_prefix = args.etcd.prefix,
        etcd_timeout_ms = args.etcd.timeout_ms,
        xds_listen = %args.xds_listen,
        admin_listen = %args.admin_listen,
        gateway_listen = %args.gateway_listen,
        filter_wasm = %args.filter_wasm.display(),
        filter_delivery = ?args.filter_delivery,
        filter_vm_id = config.build.filter.vm_id(),
        access_log = args.access_log,
        allow_nodes = ?args.allow_nodes.iter().map(ToString::to_string).collect::<Vec<_>>(),
        drain_seconds = args.drain_seconds,
        runtime_ttl_s = args.runtime_ttl,
        secrets = args.secrets.as_ref().map(|path| path.display().to_string()),
        source = ?config.source,
        replica = config.replica,
        state_dir = ?config.state_dir,
        hold_for_s = args.hold_for_s,
        forget_proxies_seconds = args.forget_proxies_seconds,
        "kilocard control plane"
    );
}

fn start_log(format: LogFormat) {
    let filter = EnvFilter::try_from_default_env().unwrap_or_else(|_| EnvFilter::new("info"));
    let log = tracing_subscriber::fmt()
        .with_env_filter(filter)
        .with_writer(std::io::stderr);
    let log = log.with_ansi(std::io::stderr().is_terminal());
    match format {
        LogFormat::Text => log.init(),
        LogFormat::Json => log.json().init(),
    }
}
