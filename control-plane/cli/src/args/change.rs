//! The grammar of the commands that change policies, and of those that tell what was changed.

use super::values::{parse_author, parse_duration, parse_reason};
use crate::kind::parse_kind;
use clap::Args;
use kilocard_policy::config::Kind;
use std::time::Duration;

/// Who makes a change, and why: kept in the history.
#[derive(Args, Clone, Debug, Default)]
pub struct AuthorArgs {
    /// Who makes the change, for the history; the user at this host unless given
    #[arg(long, env = "KILOCARD_AUTHOR", value_name = "NAME", value_parser = parse_author)]
    pub author: Option<String>,
    /// Why the change is made, for the history
    #[arg(long, short = 'm', value_name = "TEXT", value_parser = parse_reason)]
    pub reason: Option<String>,
}

/// How long to wait for the control plane.
#[derive(Args, Clone, Debug)]
pub struct WaitArgs {
    /// How long to wait for the control plane's verdict, for example 10s, 500ms, 2m
    #[arg(long, value_name = "TIME", default_value = "10s", value_parser = parse_duration)]
    pub wait: Duration,
    /// Return as soon as etcd has the documents
    #[arg(long, conflicts_with = "wait")]
    pub no_wait: bool,
}

/// `kilocard apply`
#[derive(Args, Debug)]
#[command(after_help = "Examples:
  kilocard apply -f policies.yaml -m 'v2 to half of the users'
  kilocard apply -f policies/ -f extra.json --wait 30s
  kilocard get -o yaml | sed 's/weight: 90/weight: 50/; s/weight: 10/weight: 50/' | kilocard apply -f -
  kilocard apply -f policies.yaml --dry-run

Nothing is written unless every document is valid, alone and together with those in etcd. A policy that somebody else
changed in the meantime is never overwritten: the command fails, says which, and can be run again.")]
pub struct ApplyArgs {
    /// File, folder (its *.yaml, *.yml, *.json) or `-` for stdin; several documents a file; repeatable
    #[arg(short = 'f', long = "file", required = true, value_name = "FILE", num_args = 1..)]
    pub files: Vec<String>,
    /// Check everything and say what would change, but write nothing
    #[arg(long)]
    pub dry_run: bool,
    /// Who and why
    #[command(flatten)]
    pub author: AuthorArgs,
    /// How long to wait
    #[command(flatten)]
    pub wait: WaitArgs,
}

/// `kilocard delete`
#[derive(Args, Debug)]
#[command(
    after_help = "Example:\n  kilocard delete routing minilm -m 'nobody asks for it any more'

A policy that others refer to is not deleted."
)]
pub struct DeleteArgs {
    /// Kind, in full or in short: routing, validation, mesh, pool
    #[arg(value_parser = parse_kind)]
    pub kind: Kind,
    /// Name
    pub name: String,
    /// Who and why
    #[command(flatten)]
    pub author: AuthorArgs,
}

/// `kilocard rollback`
#[derive(Args, Debug)]
#[command(after_help = "Examples:
  kilocard rollback 17
  kilocard rollback 17 routing minilm -m 'v2 answers wrongly'
  kilocard rollback 17 --dry-run

Puts the policies back as they were right after revision REV (see `kilocard history`), all in one transaction: what was
changed is changed back, what was deleted comes back, what was created since is deleted. Nothing is written if anybody
changed a policy in the meantime. The rollback is itself a change in the history, so it can be rolled back.")]
pub struct RollbackArgs {
    /// The revision, as in `kilocard history`
    #[arg(value_name = "REV", value_parser = clap::value_parser!(i64).range(1..))]
    pub revision: i64,
    /// Only this policy: its kind; all policies when left out
    #[arg(value_parser = parse_kind, requires = "name")]
    pub kind: Option<Kind>,
    /// Only this policy: its name
    #[arg(requires = "kind")]
    pub name: Option<String>,
    /// Show what would change, but write nothing
    #[arg(long)]
    pub dry_run: bool,
    /// Who and why
    #[command(flatten)]
    pub author: AuthorArgs,
    /// How long to wait
    #[command(flatten)]
    pub wait: WaitArgs,
}

/// `kilocard history`
#[derive(Args, Debug)]
#[command(after_help = "Examples:
  kilocard history
  kilocard history routing minilm --limit 5
  kilocard history -o json

The last 500 changes are kept, with their documents. Policies that were written by other means than `kilocard` are named.")]
pub struct HistoryArgs {
    /// Kind, in full or in short: routing, validation, mesh, pool; all when left out
    #[arg(value_parser = parse_kind)]
    pub kind: Option<Kind>,
    /// Name; all when left out
    #[arg(requires = "kind")]
    pub name: Option<String>,
    /// Show at most so many changes, the newest
    #[arg(long, value_name = "N", default_value_t = 20, value_parser = clap::value_parser!(u32).range(1..))]
    pub limit: u32,
}

/// `kilocard diff`
#[derive(Args, Debug)]
#[command(group = clap::ArgGroup::new("what").required(true).args(["files", "from"]))]
#[command(after_help = "Examples:
  kilocard diff -f policies.yaml
  kilocard diff 17
  kilocard diff 17 21 -o json

Exit codes: 0 no difference; 1 a difference; 2 trouble.")]
pub struct DiffArgs {
    /// Compare what is in etcd with what `apply` would make of these files
    #[arg(short = 'f', long = "file", value_name = "FILE", num_args = 1..)]
    pub files: Vec<String>,
    /// Compare the policies as they were right after this revision (see `kilocard history`) …
    #[arg(value_name = "REV1", value_parser = clap::value_parser!(i64).range(1..), conflicts_with = "files")]
    pub from: Option<i64>,
    /// … with those right after this one; with those of now when left out
    #[arg(value_name = "REV2", value_parser = clap::value_parser!(i64).range(1..), requires = "from")]
    pub to: Option<i64>,
}
