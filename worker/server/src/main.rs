//! The binary `kilocard-worker`.

use anyhow::Context;
use clap::Parser;
use kilocard_engine::{pack, repository::Repository};
use kilocard_worker::{
    cli::{Cli, Command, InspectArgs, LogFormat, Output, PackArgs, VerifyArgs},
    config::{self, Config},
    inspect::Inspection,
    worker::Worker,
};
use std::{
    io::{self, IsTerminal, Write},
    process::ExitCode,
};
use tokio::signal::unix::{Signal, SignalKind, signal};
use tracing_subscriber::EnvFilter;

/// What the shell's own tools use for a wrong command line.
const USAGE: u8 = 2;

fn main() -> ExitCode {
    let cli = Cli::parse();
    init_logging(cli.log_format);
    let result = match cli.command {
        Command::Serve(args) => match Config::try_from(*args) {
            Ok(config) => run_serve(config),
            Err(error) => {
                tracing::error!("{error}");
                return ExitCode::from(USAGE);
            }
        },
        Command::Pack(args) => run_pack(&args),
        Command::Verify(args) => verify(&args),
        Command::Inspect(args) => inspect(args),
    };
    match result {
        Ok(()) => ExitCode::SUCCESS,
        Err(error) => {
            tracing::error!("{error:#}");
            ExitCode::FAILURE
        }
    }
}

fn init_logging(format: LogFormat) {
    let filter = EnvFilter::try_from_default_env().unwrap_or_else(|_| EnvFilter::new("info"));
    let builder = tracing_subscriber::fmt()
        .with_env_filter(filter)
        .with_writer(io::stderr)
        .with_ansi(io::stderr().is_terminal());
    match format {
        LogFormat::Text => builder.init(),
        LogFormat::Json => builder.json().init(),
    }
}

fn run_serve(config: Config) -> anyhow::Result<()> {
    let runtime = tokio::runtime::Builder::new_multi_thread()
        .enable_all()
        .build()
        .context("no runtime")?;
    let result = runtime.block_on(serve(config));
    // Dropping it would wait for a load in progress, which nothing can stop.
    runtime.shutdown_background();
    result
}

async fn serve(config: Config) -> anyhow::Result<()> {
    // Before anything else: a signal during the load must end the process as one later would.
    let mut signals = Signals::new().context("signals cannot be received")?;
    let id = config.id.clone();
    tracing::info!(config = ?config.redacted(), "starting");
    let mut worker = tokio::select! {
        started = Worker::start(config) => started?,
        name = signals.next() => {
            tracing::info!(signal = name, "ended while loading");
            return Ok(());
        }
    };
    let endpoints = worker.endpoints();
    tracing::info!(%id, grpc = %endpoints.grpc, admin = %endpoints.admin, "serving");
    tokio::select! {
        error = worker.failure() => return Err(error.into()),
        name = signals.next() => tracing::info!(signal = name, "asked to end"),
    }
    tokio::select! {
        () = worker.drain() => Ok(()),
        name = signals.next() => anyhow::bail!("second signal ({name}): ending at once, requests in flight are lost"),
    }
}

struct Signals {
    terminate: Signal,
    interrupt: Signal,
}

impl Signals {
    fn new() -> io::Result<Self> {
        Ok(Self {
            terminate: signal(SignalKind::terminate())?,
            interrupt: signal(SignalKind::interrupt())?,
        })
    }

    async fn next(&mut self) -> &'static str {
        tokio::select! {
            _ = self.terminate.recv() => "SIGTERM",
            _ = self.interrupt.recv() => "SIGINT",
        }
    }
}

fn run_pack(args: &PackArgs) -> anyhow::Result<()> {
    let manifest = pack::pack(&args.source, &args.model_repository, &args.model, args.dtype.into())?;
    let mut out = io::stdout();
    writeln!(out, "{}", args.model)?;
    for (name, entry) in &manifest.files {
        writeln!(out, "{}  {name} ({} bytes)", entry.sha256, entry.bytes)?;
    }
    Ok(())
}

fn verify(args: &VerifyArgs) -> anyhow::Result<()> {
    let repository = Repository::new(&args.model_repository);
    let ids = if args.models.is_empty() {
        repository.versions()?
    } else {
        args.models.clone()
    };
    anyhow::ensure!(!ids.is_empty(), "{} holds no versions", args.model_repository.display());
    let mut out = io::stdout();
    let mut bad = 0_usize;
    for id in &ids {
        match repository.open(id).and_then(|version| version.verify()) {
            Ok(bytes) => writeln!(out, "{id}: good, {bytes} bytes")?,
            Err(error) => {
                bad += 1;
                writeln!(out, "{id}: BAD: {error}")?;
            }
        }
    }
    anyhow::ensure!(bad == 0, "{bad} of {} versions cannot be served", ids.len());
    Ok(())
}

/// Prints what was found even when something is missing, and fails then.
fn inspect(args: InspectArgs) -> anyhow::Result<()> {
    let found = Inspection::make(args.node.unwrap_or_else(config::host_name), &args.gpu_pci);
    let mut out = io::stdout();
    match args.output {
        Output::Text => write!(out, "{}", found.text())?,
        Output::Json => writeln!(out, "{}", found.json()?)?,
    }
    anyhow::ensure!(found.problems.is_empty(), "{}", found.problems.join("\n"));
    Ok(())
}
