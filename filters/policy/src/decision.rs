//! What is decided about a request, with labels that never change once released: metrics, logs and clients lean on them.

use std::borrow::Cow;
use std::fmt;
use std::time::Duration;

use serde::{Serialize, Serializer};

use crate::config::Priority;
use crate::limit::Limited;

mod reason;
mod status;

pub use reason::RefusalReason;
pub use status::GrpcStatus;

/// What is decided about a request, and what was seen on the way.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
pub struct Decision<'p> {
    /// What to do with it.
    pub verdict: Verdict<'p>,
    /// What would have been refused, were it not for report-only: to be counted and logged. At most [`MAX_FINDINGS`].
    pub findings: Vec<Finding<'p>>,
}

/// How many findings, and how many violations of a refusal, are kept of one request: a client that breaks every rule
/// should not cost a page of log.
pub const MAX_FINDINGS: usize = 16;

/// What to do with a request.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
#[serde(rename_all = "snake_case")]
pub enum Verdict<'p> {
    /// Let it pass as it is: no routing stage runs here, or the protocol is passed undecided.
    Pass,
    /// Let it pass along the route.
    Route(Route<'p>),
    /// Answer it here.
    Refuse(Refusal<'p>),
}

/// Where a request goes, and why.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
pub struct Route<'p> {
    /// The model.
    pub model: &'p str,
    /// The version that serves the request.
    pub version: &'p str,
    /// `<model>/<version>`: the value of [`ROUTE`](crate::headers::ROUTE), and the name of the cluster.
    pub route_key: &'p str,
    /// Why this version, or the one it stands in for.
    pub reason: RouteReason,
    /// Where in 0..10 000 the request fell, if it was drawn.
    pub bucket: Option<u16>,
    /// The routing rule that matched, by name.
    pub rule: Option<&'p str>,
    /// The version that was wanted and is not ready; `version` is its fallback.
    pub instead_of: Option<&'p str>,
    /// What became of `x-canary-weight`.
    #[serde(rename = "override")]
    pub override_: CanaryOverride,
    /// How urgent it is.
    pub priority: Priority,
    /// The pool whose connections take it; none is the default one.
    pub pool: Option<&'p str>,
    /// On what kind of GPU it should run.
    pub gpu: Option<GpuWish<'p>>,
    /// Where a copy of it goes.
    pub shadow: Option<ShadowCopy<'p>>,
    /// `<first 8 of the trace id>-<affinity or class>`: what the worker notes beside its work.
    pub tag: Option<String>,
}

/// Why a request goes to its version.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
#[non_exhaustive]
pub enum RouteReason {
    /// `x-model-version` names it.
    Pinned,
    /// The cohort of `x-user-id`.
    Sticky,
    /// Drawn at random by the weights.
    Weighted,
    /// There is no other.
    OnlyVersion,
}

impl RouteReason {
    /// Every reason.
    pub const ALL: &'static [Self] = &[Self::Pinned, Self::Sticky, Self::Weighted, Self::OnlyVersion];

    /// The stable label.
    pub fn label(self) -> &'static str {
        match self {
            Self::Pinned => "PINNED",
            Self::Sticky => "STICKY",
            Self::Weighted => "WEIGHTED",
            Self::OnlyVersion => "ONLY_VERSION",
        }
    }
}

/// What became of `x-canary-weight`.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Hash, Serialize)]
#[serde(rename_all = "snake_case")]
pub enum CanaryOverride {
    /// There was none, or it could not matter: the version was pinned or the only one.
    #[default]
    None,
    /// It replaced the canary's weight.
    Honoured,
    /// The policy does not let this caller override.
    Ignored,
}

/// On what kind of GPU a request should run.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
pub struct GpuWish<'p> {
    /// The class or the affinity, for people.
    pub label: Cow<'p, str>,
    /// The value of the header that Envoy turns into subset metadata: a `google.protobuf.Value` in base64.
    pub subset: Cow<'p, str>,
}

/// A copy of the request, whose answer nobody waits for.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize)]
pub struct ShadowCopy<'p> {
    /// `<model>/<version>` to copy to.
    pub route_key: &'p str,
    /// The most copies a second that one proxy may make for this model.
    pub max_per_second: u32,
}

/// Something that is wrong with a request.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
pub struct Finding<'p> {
    /// For metrics and logs.
    pub reason: RefusalReason,
    /// The header that is wrong.
    pub field: String,
    /// As [`Refusal::message`].
    pub message: String,
    /// The declared rule that was violated, if it was one.
    pub rule: Option<&'p RuleId>,
}

impl<'p> Finding<'p> {
    pub(crate) fn new(reason: RefusalReason, field: &str, message: impl fmt::Display) -> Self {
        Self {
            reason,
            field: field.to_owned(),
            message: format!("{field}: {message}"),
            rule: None,
        }
    }
}

/// A rule of a ValidationPolicy.
#[derive(Clone, Debug, PartialEq, Eq, Hash, Serialize)]
pub struct RuleId {
    /// `metadata.name` of its document.
    pub policy: String,
    /// Its own name.
    pub name: String,
    /// Which of the bounded set of metric labels it counts under.
    pub label: usize,
}

/// Why a request is not let through.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
pub struct Refusal<'p> {
    /// For the client's gRPC library.
    pub status: GrpcStatus,
    /// For metrics and logs.
    pub reason: RefusalReason,
    /// The header that is wrong.
    pub field: String,
    /// For the client's author. Names the field; printable ASCII, and never holds bytes of the request that did not
    /// pass a grammar of their own.
    pub message: String,
    /// All that is wrong, the first being the one above. At most [`MAX_FINDINGS`].
    pub violations: Vec<Finding<'p>>,
    /// How far routing had come.
    pub reached: Reached<'p>,
    /// After how long it is worth trying again, where that can be said.
    #[serde(skip)]
    pub retry_after: Option<Duration>,
    /// The limit that was met, if that is why.
    #[serde(skip)]
    pub limited: Option<Box<Limited<'p>>>,
}

/// How far routing had come when a request was refused.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize)]
pub struct Reached<'p> {
    /// The model.
    pub model: Option<&'p str>,
    /// The routing rule that matched, by name.
    pub rule: Option<&'p str>,
    /// The version that was wanted.
    pub version: Option<&'p str>,
    /// Where in 0..10 000 the request fell.
    pub bucket: Option<u16>,
}

impl<'p> Refusal<'p> {
    pub(crate) fn new(status: GrpcStatus, reason: RefusalReason, field: &str, message: impl fmt::Display) -> Self {
        Self::of(status, Finding::new(reason, field, message))
    }

    /// Refuses because of one finding.
    pub(crate) fn of(status: GrpcStatus, finding: Finding<'p>) -> Self {
        Self {
            status,
            reason: finding.reason,
            field: finding.field.clone(),
            message: finding.message.clone(),
            violations: vec![finding],
            reached: Reached::default(),
            retry_after: None,
            limited: None,
        }
    }
}

macro_rules! label_everywhere {
    ($($type:ty),*) => {$(
        impl fmt::Display for $type {
            fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
                f.write_str(self.label())
            }
        }

        impl Serialize for $type {
            fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
                serializer.serialize_str(self.label())
            }
        }
    )*};
}

label_everywhere!(RouteReason, GrpcStatus, RefusalReason);
