//! The grammar of the commands that ask policies.

use super::values::{parse_header, parse_spiffe};
use crate::kind::parse_kind;
use clap::{Args, ValueEnum};
use kilocard_policy::config::Kind;
use std::net::IpAddr;

/// `kilocard get`
#[derive(Args, Debug)]
#[command(after_help = "Examples:
  kilocard get
  kilocard get routing
  kilocard get RoutingPolicy minilm -o yaml")]
pub struct GetArgs {
    /// Kind, in full or in short: routing, validation, mesh, pool; all when left out
    #[arg(value_parser = parse_kind)]
    pub kind: Option<Kind>,
    /// Name; all when left out
    #[arg(requires = "kind")]
    pub name: Option<String>,
}

/// `kilocard explain`
#[derive(Args, Debug)]
#[command(after_help = "Examples:
  kilocard explain -H 'x-model: minilm' -H 'x-user-id: ada'
  kilocard explain -f policies.yaml -H 'x-model: minilm' -H 'x-model-version: v2'
  kilocard explain -H 'x-model: minilm' --random 0
  kilocard explain -H 'x-canary-weight: 100' --as spiffe://mesh.example/ns/ops/sa/ada --from 10.0.0.7

Headers are taken as given; those that every gRPC request has are filled in unless given, and shown. The exit code is 0
for a refused request too: it was explained.")]
pub struct ExplainArgs {
    /// Policies from these files instead of etcd (as for `apply`)
    #[arg(short = 'f', long = "file", value_name = "FILE", num_args = 1..)]
    pub files: Vec<String>,
    /// A request header, `name: value`; repeatable, in order
    #[arg(short = 'H', long = "header", value_name = "HEADER", value_parser = parse_header)]
    pub headers: Vec<(String, String)>,
    /// The address that the request comes from, for rules about callers
    #[arg(long, value_name = "ADDRESS")]
    pub from: Option<IpAddr>,
    /// The SPIFFE ID that the caller's certificate proves, for rules about callers
    #[arg(long = "as", value_name = "SPIFFE", value_parser = parse_spiffe)]
    pub spiffe: Option<String>,
    /// The request's :path
    #[arg(long, default_value = "/inference.GRPCInferenceService/ModelInfer")]
    pub path: String,
    /// The random number of the weighted draw (0 to 2^64-1), instead of describing the draw
    #[arg(long, value_name = "N")]
    pub random: Option<u64>,
}

/// `kilocard whois`
#[derive(Args, Debug)]
#[command(after_help = "Examples:
  kilocard whois ada
  kilocard whois ada --model minilm
  kilocard whois ada --tenant acme --session 7f3a
  kilocard whois ada -f policies-next.yaml")]
pub struct WhoisArgs {
    /// The user, as in `x-user-id`
    #[arg(required_unless_present_any = ["tenant", "session"])]
    pub user: Option<String>,
    /// The tenant, as in `x-tenant-id`
    #[arg(long)]
    pub tenant: Option<String>,
    /// The session, as in `x-session-id`
    #[arg(long)]
    pub session: Option<String>,
    /// Only this model; all when left out
    #[arg(long)]
    pub model: Option<String>,
    /// Policies from these files instead of etcd (as for `apply`)
    #[arg(short = 'f', long = "file", value_name = "FILE", num_args = 1..)]
    pub files: Vec<String>,
}

/// `kilocard plan`
#[derive(Args, Debug)]
#[command(after_help = "Examples:
  kilocard plan -f new.yaml
  kilocard plan -f new.yaml --replay access.log
  zcat access.log.gz | kilocard plan -f new.yaml --replay - --fail-on refused
  kilocard plan -f next/ --only --against now/ -o json

Compares the policies in force with those after `apply -f`: what differs, how many users of each split get another
version, and, with --replay, what becomes of each captured request by the very code that runs in Envoy, limits included. A capture is
Envoy's access log, of a mesh whose MeshPolicy has a `capture` section; lines without one are passed over. Nothing is
written. Without --against, etcd has to be reachable.

Exit codes: 0 planned; 1 --fail-on found what it names; 2 trouble.")]
pub struct PlanArgs {
    /// The policies to be: file, folder or `-`, as for `apply`
    #[arg(short = 'f', long = "file", required = true, value_name = "FILE", num_args = 1..)]
    pub files: Vec<String>,
    /// Compare with the policies of these files instead of those in force
    #[arg(long, value_name = "FILE", num_args = 1..)]
    pub against: Vec<String>,
    /// Take the files alone for the policies to be, instead of changing by them those compared with
    #[arg(long)]
    pub only: bool,
    /// Captured requests: an access log, or `-` for stdin; repeatable
    #[arg(long, value_name = "LOG", num_args = 1..)]
    pub replay: Vec<String>,
    /// End with exit code 1 if any request or user is found to be …; repeatable
    #[arg(long, value_enum, value_name = "WHAT")]
    pub fail_on: Vec<FailOn>,
}

/// What a plan may be failed for.
#[derive(ValueEnum, Clone, Copy, Debug, PartialEq, Eq)]
pub enum FailOn {
    /// … refused, and was not before (needs --replay)
    Refused,
    /// … on another version than before
    Moved,
}
