//! `kind: ValidationPolicy`: what the headers of a request must satisfy.

use serde::{Serialize, Serializer};
use serde_json::Value;

use super::limits::{MAX_LONG_LIST, MAX_RULES};
use super::method::MethodPattern;
use super::reader::{Key, Node};
use super::violation::Violations;
use super::word::words;
use crate::decision::{GrpcStatus, RefusalReason};

mod header_limits;
mod rule;

pub use header_limits::HeaderLimits;
pub use rule::{ContentClass, HeaderRule, LengthRange, RuleAction, RuleMatch};

/// What the headers of a request must satisfy. Each section may stand in one document of the mesh; rules add up.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize)]
#[cfg_attr(test, derive(schemars::JsonSchema))]
#[cfg_attr(test, schemars(deny_unknown_fields))]
#[non_exhaustive]
pub struct ValidationPolicy {
    /// Bounds on the headers.
    #[serde(skip_serializing_if = "Option::is_none")]
    #[cfg_attr(test, schemars(with = "HeaderLimits", default))]
    pub limits: Option<HeaderLimits>,
    /// What happens to traffic that is not gRPC over HTTP/2.
    #[serde(skip_serializing_if = "Option::is_none")]
    #[cfg_attr(test, schemars(with = "Protocols", default))]
    pub protocols: Option<Protocols>,
    /// Which methods may be called.
    #[serde(skip_serializing_if = "Option::is_none")]
    #[cfg_attr(test, schemars(with = "MethodLists", default))]
    pub methods: Option<MethodLists>,
    /// What happens to headers that only the mesh sets.
    #[serde(skip_serializing_if = "Option::is_none")]
    #[cfg_attr(test, schemars(with = "InternalHeaders", default))]
    pub internal_headers: Option<InternalHeaders>,
    /// How the built-in checks refuse.
    #[serde(skip_serializing_if = "Option::is_none")]
    #[cfg_attr(test, schemars(with = "RefusalOptions", default))]
    pub refusal: Option<RefusalOptions>,
    /// Built-in checks that count and log, and let pass.
    #[serde(skip_serializing_if = "Option::is_none")]
    #[cfg_attr(test, schemars(with = "ReportOnly", default))]
    pub report_only: Option<ReportOnly>,
    /// Rules on single headers; all of them are held, those of other documents too.
    #[cfg_attr(test, schemars(default, length(max = 4096)))]
    pub rules: Vec<HeaderRule>,
}

/// What happens to traffic that is not gRPC over HTTP/2.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize)]
#[cfg_attr(test, derive(schemars::JsonSchema))]
#[cfg_attr(test, schemars(deny_unknown_fields))]
#[non_exhaustive]
pub struct Protocols {
    /// Of gRPC-Web: `application/grpc-web` and `application/grpc-web-text`.
    #[cfg_attr(test, schemars(default))]
    pub grpc_web: GrpcWebMode,
    /// Of everything else.
    #[cfg_attr(test, schemars(default))]
    pub http: HttpMode,
}

words! {
    /// What happens to gRPC-Web.
    #[derive(Default)]
    pub enum GrpcWebMode {
        /// It is refused.
        #[default]
        Refuse = "refuse",
        /// It is checked and routed like gRPC, but for `te`, which browsers cannot send.
        Accept = "accept",
    }
}

words! {
    /// What happens to HTTP that is not gRPC.
    #[derive(Default)]
    pub enum HttpMode {
        /// It is refused.
        #[default]
        Refuse = "refuse",
        /// It goes on undecided, without internal headers: for health checks.
        Pass = "pass",
        /// It is checked, but for gRPC's own grammar, and routed.
        Route = "route",
    }
}

words! {
    /// What happens to headers that only the mesh sets, from outside.
    #[derive(Default)]
    pub enum InternalHeaders {
        /// They are removed.
        #[default]
        Strip = "strip",
        /// The request is refused.
        Refuse = "refuse",
    }
}

/// Which methods may be called. `deny` wins.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize)]
#[cfg_attr(test, derive(schemars::JsonSchema))]
#[cfg_attr(test, schemars(deny_unknown_fields))]
#[non_exhaustive]
pub struct MethodLists {
    /// Only these; without it, all.
    #[serde(skip_serializing_if = "Option::is_none")]
    #[cfg_attr(test, schemars(with = "Vec<MethodPattern>", default, length(min = 1, max = 1024)))]
    pub allow: Option<Vec<MethodPattern>>,
    /// None of these.
    #[cfg_attr(test, schemars(default, length(max = 1024)))]
    pub deny: Vec<MethodPattern>,
}

/// How the built-in checks refuse.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
#[cfg_attr(test, derive(schemars::JsonSchema))]
#[cfg_attr(test, schemars(deny_unknown_fields, default))]
#[non_exhaustive]
pub struct RefusalOptions {
    /// The gRPC status; a client that does not speak gRPC gets the HTTP status that goes with it.
    #[cfg_attr(test, schemars(with = "String", extend("enum" = statuses())))]
    pub status: GrpcStatus,
}

impl Default for RefusalOptions {
    fn default() -> Self {
        Self {
            status: GrpcStatus::InvalidArgument,
        }
    }
}

/// Built-in checks that count and log, and let pass.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum ReportOnly {
    /// All of them.
    All,
    /// Those with these reasons.
    Reasons(Vec<RefusalReason>),
}

impl ReportOnly {
    /// Whether a check with this reason only reports.
    pub fn covers(&self, reason: RefusalReason) -> bool {
        match self {
            Self::All => true,
            Self::Reasons(reasons) => reasons.contains(&reason),
        }
    }

    fn read(node: &Node<'_>, out: &mut Violations) -> Option<Self> {
        let known: Vec<_> = RefusalReason::ALL
            .iter()
            .copied()
            .filter(|reason| reason.is_built_in_check())
            .collect();
        match node.value() {
            Value::String(text) if text == "all" => Some(Self::All),
            Value::Array(_) => node
                .set(0..=known.len(), out, |node, out| {
                    node.choice(&known, RefusalReason::label, out)
                })
                .map(Self::Reasons),
            _ => {
                out.add(node.path(), "must be `all` or a list of reasons, like [MALFORMED_SLA]");
                None
            }
        }
    }
}

#[cfg(test)]
impl schemars::JsonSchema for ReportOnly {
    fn schema_name() -> std::borrow::Cow<'static, str> {
        "ReportOnly".into()
    }

    fn json_schema(_: &mut schemars::SchemaGenerator) -> schemars::Schema {
        let reasons = RefusalReason::ALL.iter().filter(|reason| reason.is_built_in_check());
        let labels: Vec<_> = reasons.map(|reason| reason.label()).collect();
        schemars::json_schema!({
            "description": "Built-in checks that count and log, and let pass: all, or those with these reasons.",
            "anyOf": [
                {"const": "all"},
                {"type": "array", "uniqueItems": true, "items": {"type": "string", "enum": labels}},
            ],
        })
    }
}

impl Serialize for ReportOnly {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        match self {
            Self::All => serializer.serialize_str("all"),
            Self::Reasons(reasons) => reasons.serialize(serializer),
        }
    }
}

const FIELDS: &[&str] = &[
    "limits",
    "protocols",
    "methods",
    "internal_headers",
    "refusal",
    "report_only",
    "rules",
];

pub(super) fn read(spec: &Node<'_>, out: &mut Violations) -> Option<ValidationPolicy> {
    let spec = spec.object(FIELDS, out)?;
    let limits = spec.maybe("limits", out, header_limits::read);
    let protocols = spec.maybe("protocols", out, read_protocols);
    let methods = spec.maybe("methods", out, read_method_lists);
    let internal_headers = spec.maybe("internal_headers", out, InternalHeaders::read);
    let refusal = spec.maybe("refusal", out, read_refusal);
    let report_only = spec.maybe("report_only", out, ReportOnly::read);
    let rules = spec.or_default("rules", out, |node, out| {
        let key = Key {
            field: ".name",
            of: |rule: &HeaderRule| rule.name.clone(),
        };
        node.distinct(0..=MAX_RULES, &key, out, rule::read)
    });
    Some(ValidationPolicy {
        limits: limits?,
        protocols: protocols?,
        methods: methods?,
        internal_headers: internal_headers?,
        refusal: refusal?,
        report_only: report_only?,
        rules: rules?,
    })
}

fn read_protocols(node: &Node<'_>, out: &mut Violations) -> Option<Protocols> {
    let protocols = node.object(&["grpc_web", "http"], out)?;
    let grpc_web = protocols.or_default("grpc_web", out, GrpcWebMode::read);
    let http = protocols.or_default("http", out, HttpMode::read);
    Some(Protocols {
        grpc_web: grpc_web?,
        http: http?,
    })
}

fn read_method_lists(node: &Node<'_>, out: &mut Violations) -> Option<MethodLists> {
    let lists = node.object(&["allow", "deny"], out)?;
    let allow = lists.maybe("allow", out, |node, out| {
        node.set(1..=MAX_LONG_LIST, out, MethodPattern::read)
    });
    let deny = lists.or_default("deny", out, |node, out| {
        node.set(0..=MAX_LONG_LIST, out, MethodPattern::read)
    });
    Some(MethodLists {
        allow: allow?,
        deny: deny?,
    })
}

fn read_refusal(node: &Node<'_>, out: &mut Violations) -> Option<RefusalOptions> {
    let refusal = node.object(&["status"], out)?;
    let status = refusal.maybe("status", out, read_status)?;
    Some(status.map_or_else(RefusalOptions::default, |status| RefusalOptions { status }))
}

/// The statuses that a policy may choose: those with which a client is told that it is wrong, or not served here. NOT_FOUND
/// stays for models and versions.
const STATUSES: &[GrpcStatus] = &[
    GrpcStatus::InvalidArgument,
    GrpcStatus::FailedPrecondition,
    GrpcStatus::PermissionDenied,
    GrpcStatus::Unauthenticated,
    GrpcStatus::Unimplemented,
    GrpcStatus::Unavailable,
];

#[cfg(test)]
fn statuses() -> Vec<&'static str> {
    STATUSES.iter().map(|status| status.label()).collect()
}

fn read_status(node: &Node<'_>, out: &mut Violations) -> Option<GrpcStatus> {
    node.choice(STATUSES, GrpcStatus::label, out)
}
