//! The command line's grammar and its help texts.

use clap::{CommandFactory, FromArgMatches, Parser, Subcommand, ValueEnum};
use kilocard_registry::connect::EtcdArgs;

mod ask;
mod change;
mod simulate;
mod values;
mod watch;

pub use ask::{ExplainArgs, FailOn, GetArgs, PlanArgs, WhoisArgs};
pub use change::{ApplyArgs, AuthorArgs, DeleteArgs, DiffArgs, HistoryArgs, RollbackArgs, WaitArgs};
pub use simulate::{ArrivalKind, Momentary, SimulateArgs, Thermal};
pub use watch::{DevicesArgs, StatusArgs};

/// Policies of a Kilocard mesh: write them, read them, and see what they do
#[derive(Parser, Debug)]
#[command(
    name = "kilocard",
    version,
    subcommand_required = true,
    arg_required_else_help = true,
    after_help = "Exit codes: 0 done; 1 failed (refused, conflict, unreachable); 2 wrong usage or an invalid document. \
                  `diff` and `plan` have their own; see their help."
)]
pub struct Cli {
    /// How to reach etcd
    #[command(flatten)]
    pub etcd: EtcdArgs,
    /// Admin address of the control plane, for `status` and `devices`
    #[arg(
        long,
        env = "KILOCARD_CONTROL_PLANE",
        default_value = "http://127.0.0.1:18001",
        value_name = "URL"
    )]
    pub control_plane: String,
    /// Output format
    #[arg(long, short = 'o', value_enum, default_value_t = Output::Text)]
    pub output: Output,
    /// What to do
    #[command(subcommand)]
    pub command: Command,
}

impl Cli {
    /// Parses the process's arguments; on a usage error or `--help` it prints and ends the process (exit code 2 or 0).
    pub fn from_command_line() -> Self {
        Self::from_arg_matches(&Self::grammar().get_matches()).unwrap_or_else(|error| error.exit())
    }

    /// The grammar. The connection flags are shared with the servers, which have no subcommands; here they are made
    /// global, so that they may stand after the subcommand too.
    pub fn grammar() -> clap::Command {
        Self::command().mut_args(|arg| arg.global(true))
    }
}

/// How results are written.
#[derive(ValueEnum, Clone, Copy, Debug, PartialEq, Eq)]
pub enum Output {
    /// For people
    Text,
    /// For programs: one JSON value on stdout; errors as one JSON value on stderr
    Json,
    /// YAML; `get -o yaml` gives documents that `apply` takes back
    Yaml,
}

/// The commands.
#[derive(Subcommand, Debug)]
pub enum Command {
    /// Say what policy documents would change, for users and for captured requests
    Plan(PlanArgs),
    /// Write policy documents to etcd, all or none, and wait for the control plane's verdict
    Apply(ApplyArgs),
    /// Show policies with their revision and the control plane's verdict
    Get(GetArgs),
    /// Delete a policy
    Delete(DeleteArgs),
    /// Show who changed which policies, when and why
    History(HistoryArgs),
    /// Compare policies: files with etcd, or one revision with another
    Diff(DiffArgs),
    /// Put policies back as they were at an earlier revision
    Rollback(RollbackArgs),
    /// Show the mesh as the control plane sees it: policies, endpoints with weights, proxies
    Status(StatusArgs),
    /// Show the GPUs: what computes on them, how they are, and why some are drained
    Devices(DevicesArgs),
    /// Say what the mesh does with a request, stage by stage, and why
    Explain(ExplainArgs),
    /// Say which version of each model a user, tenant or session gets, and why
    Whois(WhoisArgs),
    /// Simulate a cluster of GPUs, and compare ways to balance it
    Simulate(Box<SimulateArgs>),
}

#[cfg(test)]
mod tests {
    use super::*;
    use kilocard_policy::config::Kind;

    #[test]
    fn the_grammar_is_sound() {
        Cli::grammar().debug_assert();
    }

    fn parse(line: &str) -> Cli {
        let matches = Cli::grammar().try_get_matches_from(line.split_whitespace()).unwrap();
        Cli::from_arg_matches(&matches).unwrap()
    }

    #[test]
    fn connection_flags_may_stand_before_and_after_the_command() {
        for line in [
            "kilocard --etcd http://a:1,http://b:2 get",
            "kilocard get --etcd http://a:1,http://b:2",
        ] {
            let cli = parse(line);
            assert_eq!(cli.etcd.endpoints, ["http://a:1", "http://b:2"], "{line}");
        }
        let cli = parse("kilocard status --control-plane http://x:1 -o json --etcd-prefix /a");
        assert_eq!((cli.control_plane.as_str(), cli.output), ("http://x:1", Output::Json));
        assert_eq!(cli.etcd.prefix, "/a");
    }

    #[test]
    fn kinds_are_understood_in_any_case_and_in_short() {
        for kind in ["routing", "RoutingPolicy", "ROUTINGPOLICY", "routingpolicies"] {
            let Command::Get(args) = parse(&format!("kilocard get {kind}")).command else {
                panic!("not get")
            };
            assert_eq!(args.kind, Some(Kind::RoutingPolicy), "{kind}");
        }
        let error = Cli::grammar()
            .try_get_matches_from(["kilocard", "get", "pod"])
            .unwrap_err()
            .to_string();
        assert!(
            error.contains("RoutingPolicy") && error.contains("validation"),
            "{error}"
        );
    }
}
