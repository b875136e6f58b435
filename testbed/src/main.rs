//! `kilocard-testbed`: what `cargo xtask demo`, `up`, `down` and `bench` run.

use anyhow::{Context, Result};
use clap::{Parser, Subcommand};
use kilocard_testbed::{bench, client, demo, harness, standing};
use std::io::Write as _;
use std::net::SocketAddr;
use std::process::ExitCode;
use tokio::signal::unix::{SignalKind, signal};

/// What a shell reports for a program ended by Ctrl-C.
const INTERRUPTED: u8 = 130;

/// Real Envoy, etcd, control plane and workers: demonstration, standing mesh, benches
#[derive(Parser, Debug)]
#[command(version, arg_required_else_help = true)]
struct Cli {
    #[command(subcommand)]
    command: Command,
}

#[derive(Subcommand, Debug)]
enum Command {
    /// Show the mesh at work in eight steps, each with what was expected and seen; exit code 1 if one fails
    Demo,
    /// Start a mesh and keep it until Ctrl-C; addresses in target/testbed/endpoints.json
    Up,
    /// End the mesh that `up` keeps
    Down,
    /// Send one embedding request and show the cosine similarity of each text with the first
    Infer(Infer),
    /// Measure; results on stdout and as JSON under target/bench/
    #[command(subcommand)]
    Bench(bench::Bench),
}

#[derive(clap::Args, Debug)]
struct Infer {
    /// Where Envoy serves, `IP:port`; by default the mesh that is up
    #[arg(long)]
    gateway: Option<SocketAddr>,
    /// A request header, `name: value`; repeatable
    #[arg(short = 'H', long = "header", value_name = "HEADER")]
    headers: Vec<String>,
    /// The texts
    #[arg(required = true)]
    texts: Vec<String>,
}

fn main() -> ExitCode {
    let cli = Cli::parse();
    let filter = tracing_subscriber::EnvFilter::try_from_default_env().unwrap_or_else(|_| "warn".into());
    tracing_subscriber::fmt()
        .without_time()
        .with_target(false)
        .with_env_filter(filter)
        .with_writer(std::io::stderr)
        .init();
    let outcome = tokio::runtime::Runtime::new()
        .context("start the runtime")
        .and_then(|runtime| runtime.block_on(run(cli.command)));
    outcome.unwrap_or_else(|error| {
        let _ = writeln!(std::io::stderr(), "error: {error:#}");
        ExitCode::FAILURE
    })
}

async fn run(command: Command) -> Result<ExitCode> {
    let end = asked_to_end()?;
    if let Command::Up = command {
        return standing::up(end).await.map(|()| ExitCode::SUCCESS);
    }
    tokio::select! {
        outcome = work(command) => outcome,
        // What was started ends with the values that own it.
        () = end => Ok(ExitCode::from(INTERRUPTED)),
    }
}

async fn work(command: Command) -> Result<ExitCode> {
    match command {
        Command::Demo if !demo::run().await? => return Ok(ExitCode::FAILURE),
        Command::Demo | Command::Up => {}
        Command::Down => standing::down().await?,
        Command::Infer(infer) => infer.run().await?,
        Command::Bench(bench) => bench.run().await?,
    }
    Ok(ExitCode::SUCCESS)
}

/// Resolves on Ctrl-C or SIGTERM.
fn asked_to_end() -> Result<impl Future<Output = ()>> {
    let (mut interrupt, mut terminate) = (signal(SignalKind::interrupt())?, signal(SignalKind::terminate())?);
    Ok(async move {
        tokio::select! {
            _ = interrupt.recv() => {}
            _ = terminate.recv() => {}
        }
        harness::interrupted();
    })
}

impl Infer {
    async fn run(self) -> Result<()> {
        let gateway = match self.gateway {
            Some(gateway) => gateway,
            None => standing::gateway()?,
        };
        let split = |header: &'_ String| -> Result<(String, String)> {
            let (name, value) = header
                .split_once(':')
                .with_context(|| format!("{header:?} is not `name: value`"))?;
            Ok((name.trim().to_owned(), value.trim().to_owned()))
        };
        let headers = self.headers.iter().map(split).collect::<Result<Vec<_>>>()?;
        let headers: Vec<(&str, &str)> = headers
            .iter()
            .map(|(name, value)| (name.as_str(), value.as_str()))
            .collect();
        let texts: Vec<&str> = self.texts.iter().map(String::as_str).collect();
        let reply = client::Client::connect(gateway).await?.infer(&texts, &headers).await?;
        let mut out = std::io::stdout().lock();
        writeln!(out, "served by {} ({})", reply.worker, reply.version)?;
        let first = reply.embeddings.first().context("no embedding")?;
        for (text, embedding) in texts.iter().zip(&reply.embeddings) {
            writeln!(out, "{:.6}  {text}", client::cosine(first, embedding))?;
        }
        Ok(())
    }
}
