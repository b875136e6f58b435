//! The command line's grammar and its help texts.

use crate::kind::parse_kind;
use clap::{Args, CommandFactory, FromArgMatches, Parser, Subcommand, ValueEnum};
use kilocard_policy::config::Kind;
use kilocard_registry::connect::EtcdArgs;
use std::time::Duration;

/// Policies of a Kilocard mesh: write them, read them, and see what they do
#[derive(Parser, Debug)]
#[command(
    name = "kilocard",
    version,
    subcommand_required = true,
    arg_required_else_help = true,
    after_help = "Exit codes: 0 done; 1 failed (refused, conflict, unreachable); 2 wrong usage or an invalid document."
)]
pub struct Cli {
    /// How to reach etcd
    #[command(flatten)]
    pub etcd: EtcdArgs,
    /// Admin address of the control plane, for `status`
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
    /// Write policy documents to etcd, all or none, and wait for the control plane's verdict
    Apply(ApplyArgs),
    /// Show policies with their revision and the control plane's verdict
    Get(GetArgs),
    /// Delete a policy
    Delete(DeleteArgs),
    /// Show the mesh as the control plane sees it: policies, endpoints with weights, proxies
    #[command(
        after_help = "Examples:\n  kilocard status\n  kilocard status --control-plane http://10.0.0.5:18001 -o json"
    )]
    Status,
    /// Say what the mesh does with a request, stage by stage, and why
    Explain(ExplainArgs),
    /// Say which version of each model a user gets, and why
    Whois(WhoisArgs),
}

/// `kilocard apply`
#[derive(Args, Debug)]
#[command(after_help = "Examples:
  kilocard apply -f policies.yaml
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
    /// How long to wait for the control plane's verdict, for example 10s, 500ms, 2m
    #[arg(long, value_name = "TIME", default_value = "10s", value_parser = parse_duration)]
    pub wait: Duration,
    /// Return as soon as etcd has the documents
    #[arg(long, conflicts_with = "wait")]
    pub no_wait: bool,
}

/// `kilocard get`
#[derive(Args, Debug)]
#[command(after_help = "Examples:
  kilocard get
  kilocard get routing
  kilocard get RoutingPolicy minilm -o yaml")]
pub struct GetArgs {
    /// Kind: RoutingPolicy (routing) or ValidationPolicy (validation); all when left out
    #[arg(value_parser = parse_kind)]
    pub kind: Option<Kind>,
    /// Name; all when left out
    #[arg(requires = "kind")]
    pub name: Option<String>,
}

/// `kilocard delete`
#[derive(Args, Debug)]
#[command(after_help = "Example:\n  kilocard delete routing minilm")]
pub struct DeleteArgs {
    /// Kind: RoutingPolicy (routing) or ValidationPolicy (validation)
    #[arg(value_parser = parse_kind)]
    pub kind: Kind,
    /// Name
    pub name: String,
}

/// `kilocard explain`
#[derive(Args, Debug)]
#[command(after_help = "Examples:
  kilocard explain -H 'x-model: minilm' -H 'x-user-id: ada'
  kilocard explain -f policies.yaml -H 'x-model: minilm' -H 'x-model-version: v2'
  kilocard explain -H 'x-model: minilm' --random 0

Headers are taken as given; those that every gRPC request has are filled in unless given, and shown. The exit code is 0
for a refused request too: it was explained.")]
pub struct ExplainArgs {
    /// Policies from these files instead of etcd (as for `apply`)
    #[arg(short = 'f', long = "file", value_name = "FILE", num_args = 1..)]
    pub files: Vec<String>,
    /// A request header, `name: value`; repeatable, in order
    #[arg(short = 'H', long = "header", value_name = "HEADER", value_parser = parse_header)]
    pub headers: Vec<(String, String)>,
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
  kilocard whois ada -f policies-next.yaml")]
pub struct WhoisArgs {
    /// The user, as in `x-user-id`
    pub user: String,
    /// Only this model; all when left out
    #[arg(long)]
    pub model: Option<String>,
    /// Policies from these files instead of etcd (as for `apply`)
    #[arg(short = 'f', long = "file", value_name = "FILE", num_args = 1..)]
    pub files: Vec<String>,
}

/// `name: value`, or for a pseudo-header `:name: value`. Optional white space around the value is no part of it
/// (RFC 9110, 5.5).
fn parse_header(text: &str) -> Result<(String, String), String> {
    // A pseudo-header begins with the colon that separates others.
    let (head, rest) = if text.starts_with(':') {
        text.split_at(1)
    } else {
        ("", text)
    };
    let Some((name, value)) = rest.split_once(':') else {
        return Err("a header is written 'name: value'".to_owned());
    };
    let name = name.trim();
    if name.is_empty() {
        return Err("the header has no name; it is written 'name: value'".to_owned());
    }
    // A token (RFC 9110, 5.1 and 5.6.2); nothing else gets past an HTTP parser.
    let is_token = |byte: u8| byte.is_ascii_alphanumeric() || b"!#$%&'*+-.^_`|~".contains(&byte);
    if !name.bytes().all(is_token) {
        return Err(format!("{name:?} is not the name of a header"));
    }
    // HTTP/2 has lower-case names only (RFC 9113, 8.2.1), and so has everything behind Envoy.
    Ok((
        format!("{head}{}", name.to_ascii_lowercase()),
        value.trim_matches([' ', '\t']).to_owned(),
    ))
}

fn parse_duration(text: &str) -> Result<Duration, String> {
    let wrong = || format!("{text:?} is not a time; write for example 10s, 500ms or 2m");
    let digits = text.find(|c: char| !c.is_ascii_digit()).ok_or_else(wrong)?;
    let (number, unit) = text.split_at(digits);
    let number: u64 = number.parse().map_err(|_| wrong())?;
    let milliseconds = match unit {
        "ms" => Some(number),
        "s" => number.checked_mul(1_000),
        "m" => number.checked_mul(60_000),
        _ => None,
    };
    milliseconds
        .filter(|ms| *ms <= 86_400_000)
        .map(Duration::from_millis)
        .ok_or_else(wrong)
}

#[cfg(test)]
mod tests {
    use super::*;

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

    #[test]
    fn headers_keep_inner_colons_and_lose_outer_space() {
        assert_eq!(
            parse_header("X-Model:  a b ").unwrap(),
            ("x-model".into(), "a b".into())
        );
        assert_eq!(parse_header("x-t: 10:30").unwrap(), ("x-t".into(), "10:30".into()));
        assert_eq!(
            parse_header(":authority: a:1").unwrap(),
            (":authority".into(), "a:1".into())
        );
        assert_eq!(parse_header("x-model:").unwrap(), ("x-model".into(), String::new()));
        for wrong in ["x-model", ": x", ":path", "", "x y: a", "x\u{1b}[2J: a", "ü: a"] {
            assert!(parse_header(wrong).is_err(), "{wrong:?}");
        }
    }

    #[test]
    fn times_need_a_unit_and_a_bound() {
        assert_eq!(parse_duration("10s"), Ok(Duration::from_secs(10)));
        assert_eq!(parse_duration("250ms"), Ok(Duration::from_millis(250)));
        assert_eq!(parse_duration("2m"), Ok(Duration::from_secs(120)));
        for wrong in ["", "10", "s", "-1s", "1.5s", "10h", "18446744073709551615s"] {
            assert!(parse_duration(wrong).is_err(), "{wrong}");
        }
    }
}
