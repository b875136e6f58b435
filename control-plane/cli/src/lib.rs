//! Kilocard's command line: policies in and out of etcd, what the mesh does now, and why a request goes where it goes.
//!
//! Owns: reading documents from files, the conditional writes to etcd, and how results are shown. Must not know: Envoy.
//! Every decision it explains is computed by `kilocard-policy`, the code that Envoy runs as wasm.
//!
//! Exit codes: 0 done, 1 failed (refused, conflict, unreachable), 2 wrong usage or an invalid document. Of commands that
//! answer by their exit code, such as `diff`: 0 and 1 the answer, 2 any failure.

pub mod apply;
pub mod args;
pub mod authorship;
pub mod changes;
pub mod cohorts;
pub mod control_plane;
pub mod delete;
pub mod devices;
pub mod diff;
pub mod difference;
pub mod documents;
pub mod explain;
pub mod failure;
pub mod get;
pub mod history;
pub mod in_force;
pub mod kind;
pub mod outcome;
pub mod past;
pub mod plan;
pub mod replay;
pub mod request;
pub mod rollback;
pub mod shares;
pub mod simulate;
pub mod status;
pub mod store;
pub mod summary;
pub mod table;
pub mod verdict;
pub mod whois;

use args::{Cli, Command};
use failure::Failure;
use outcome::Outcome;

/// Runs the command that was asked for.
///
/// # Errors
/// [`Failure`] if the command could not do its work; a result that is merely bad news (a rejected policy) is an
/// [`Outcome`] without success.
async fn execute(cli: Cli) -> Result<Outcome, Failure> {
    match cli.command {
        Command::Apply(args) => apply::run(&cli.etcd, &args).await,
        Command::Get(args) => get::run(&cli.etcd, &args).await,
        Command::Delete(args) => delete::run(&cli.etcd, &args).await,
        Command::Plan(args) => plan::run(&cli.etcd, &args, cli.output).await,
        Command::History(args) => history::run(&cli.etcd, &args).await,
        Command::Diff(args) => diff::run(&cli.etcd, &args).await,
        Command::Rollback(args) => rollback::run(&cli.etcd, &args).await,
        Command::Status(args) => status::run(&cli.control_plane, &args, cli.output).await,
        Command::Devices(args) => devices::run(&cli.control_plane, &args).await,
        Command::Explain(args) => explain::run(&cli.etcd, &args).await,
        Command::Whois(args) => whois::run(&cli.etcd, &args).await,
        Command::Simulate(args) => simulate::run(&args),
    }
}

/// Runs the command line to its end, whatever that is.
pub async fn run(cli: Cli) -> Ending {
    Ending(execute(cli).await)
}

/// How a command ended: ready to be printed.
#[derive(Debug)]
pub struct Ending(pub Result<Outcome, Failure>);

impl Ending {
    /// The bytes for both streams and the exit code, in the format that was asked for.
    pub fn print(&self, format: args::Output) -> outcome::Printed {
        match &self.0 {
            Ok(outcome) => outcome.print(format),
            Err(failure) => failure.print(format),
        }
    }
}
