//! What is decided about a request, with labels that never change once released: metrics, logs and clients lean on them.

use std::borrow::Cow;
use std::fmt;
use std::time::Duration;

use serde::{Serialize, Serializer};

use crate::config::Priority;
use crate::limit::Limited;

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

/// The gRPC status codes that a decision can give (gRPC, "Status codes and their use in gRPC").
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
#[non_exhaustive]
pub enum GrpcStatus {
    /// The request itself is wrong, whatever the state of the system.
    InvalidArgument,
    /// There is no such model or version.
    NotFound,
    /// Who asks may not.
    PermissionDenied,
    /// The system is not in a state in which this can be asked.
    FailedPrecondition,
    /// Nobody says who asks.
    Unauthenticated,
    /// It is not served here.
    Unimplemented,
    /// It is not served now; the client may try again.
    Unavailable,
    /// The client has had what it may have for now.
    ResourceExhausted,
}

impl GrpcStatus {
    /// Every status.
    pub const ALL: &'static [Self] = &[
        Self::InvalidArgument,
        Self::NotFound,
        Self::PermissionDenied,
        Self::FailedPrecondition,
        Self::Unauthenticated,
        Self::Unimplemented,
        Self::Unavailable,
        Self::ResourceExhausted,
    ];

    /// The status with that label.
    pub fn from_label(label: &str) -> Option<Self> {
        Self::ALL.iter().copied().find(|status| status.label() == label)
    }

    /// The number on the wire.
    pub fn code(self) -> u32 {
        match self {
            Self::InvalidArgument => 3,
            Self::NotFound => 5,
            Self::PermissionDenied => 7,
            Self::ResourceExhausted => 8,
            Self::FailedPrecondition => 9,
            Self::Unimplemented => 12,
            Self::Unavailable => 14,
            Self::Unauthenticated => 16,
        }
    }

    /// `INVALID_ARGUMENT`.
    pub fn label(self) -> &'static str {
        match self {
            Self::InvalidArgument => "INVALID_ARGUMENT",
            Self::NotFound => "NOT_FOUND",
            Self::PermissionDenied => "PERMISSION_DENIED",
            Self::FailedPrecondition => "FAILED_PRECONDITION",
            Self::Unauthenticated => "UNAUTHENTICATED",
            Self::Unimplemented => "UNIMPLEMENTED",
            Self::Unavailable => "UNAVAILABLE",
            Self::ResourceExhausted => "RESOURCE_EXHAUSTED",
        }
    }

    /// The HTTP status for a client that does not speak gRPC (google.rpc.Code, "HTTP Mapping").
    pub fn http_status(self) -> u32 {
        match self {
            Self::InvalidArgument | Self::FailedPrecondition => 400,
            Self::Unauthenticated => 401,
            Self::PermissionDenied => 403,
            Self::NotFound => 404,
            Self::ResourceExhausted => 429,
            Self::Unimplemented => 501,
            Self::Unavailable => 503,
        }
    }
}

/// What was wrong with a refused request.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
#[non_exhaustive]
pub enum RefusalReason {
    /// The content type is not gRPC's.
    NotGrpc,
    /// The method is not POST.
    MalformedMethod,
    /// The path is not `/package.Service/Method`.
    MalformedPath,
    /// The content type begins like gRPC's and goes on wrongly.
    MalformedContentType,
    /// `te` is something else than `trailers`.
    MalformedTe,
    /// `grpc-timeout` is not 1 to 8 digits and a unit.
    MalformedTimeout,
    /// `x-model` is not a name.
    MalformedModel,
    /// `x-model-version` is not a name.
    MalformedModelVersion,
    /// `x-canary-weight` is not an integer from 0 to 100.
    MalformedCanaryWeight,
    /// `x-user-id` is empty, too long or holds a byte outside its alphabet.
    MalformedUserId,
    /// A header that may come once comes more often.
    DuplicateHeader,
    /// A value holds control bytes.
    ControlBytes,
    /// A value is too long.
    HeaderTooLong,
    /// There are too many headers.
    TooManyHeaders,
    /// All headers together are too long.
    HeadersTooLong,
    /// No model is named and none is the default.
    ModelRequired,
    /// No policy has this model.
    ModelNotFound,
    /// The model has no such version.
    VersionNotFound,
    /// The method may not be called here.
    MethodNotAllowed,
    /// The name of a header is outside gRPC's alphabet.
    MalformedHeaderName,
    /// A value that is not binary holds bytes that are not ASCII.
    NonAsciiValue,
    /// The value of a `-bin` header is not base64.
    MalformedBinaryValue,
    /// A header has a name that gRPC reserves.
    ReservedHeader,
    /// `grpc-encoding` is not the name of a compression.
    MalformedEncoding,
    /// `grpc-accept-encoding` is not a list of names of compressions.
    MalformedAcceptEncoding,
    /// A header is for the mesh alone to set.
    InternalHeader,
    /// `x-gpu-affinity` is not a device and a memory class.
    MalformedGpuAffinity,
    /// `x-gpu-class` is not a name.
    MalformedGpuClass,
    /// `x-trace-id` is too short, too long or holds a byte outside its alphabet.
    MalformedTraceId,
    /// `traceparent` is not W3C's.
    MalformedTraceparent,
    /// `x-priority` is not one of the priorities.
    MalformedPriority,
    /// `x-sla` is not a name.
    MalformedSla,
    /// `x-tenant-id` is empty, too long or holds a byte outside its alphabet.
    MalformedTenantId,
    /// `x-session-id` is empty, too long or holds a byte outside its alphabet.
    MalformedSessionId,
    /// A rule of a ValidationPolicy is broken.
    RuleViolated,
    /// A header comes from a caller who may not send it.
    CallerNotAllowed,
    /// No policy has this GPU class.
    GpuClassNotFound,
    /// The version has no ready endpoint, nor has any of its fallbacks.
    VersionNotReady,
    /// A limit of a RateLimitPolicy is used up.
    RateLimited,
    /// It asks for more than a limit of a RateLimitPolicy can ever give.
    CostAboveBurst,
    /// No worker of the version has GPU memory to spare for it.
    MemoryExhausted,
    /// It needs more GPU memory than all workers of the version have.
    CostAboveMemory,
}

impl RefusalReason {
    /// Every reason.
    pub const ALL: &'static [Self] = &[
        Self::NotGrpc,
        Self::MalformedMethod,
        Self::MalformedPath,
        Self::MalformedContentType,
        Self::MalformedTe,
        Self::MalformedTimeout,
        Self::MalformedModel,
        Self::MalformedModelVersion,
        Self::MalformedCanaryWeight,
        Self::MalformedUserId,
        Self::DuplicateHeader,
        Self::ControlBytes,
        Self::HeaderTooLong,
        Self::TooManyHeaders,
        Self::HeadersTooLong,
        Self::ModelRequired,
        Self::ModelNotFound,
        Self::VersionNotFound,
        Self::MethodNotAllowed,
        Self::MalformedHeaderName,
        Self::NonAsciiValue,
        Self::MalformedBinaryValue,
        Self::ReservedHeader,
        Self::MalformedEncoding,
        Self::MalformedAcceptEncoding,
        Self::InternalHeader,
        Self::MalformedGpuAffinity,
        Self::MalformedGpuClass,
        Self::MalformedTraceId,
        Self::MalformedTraceparent,
        Self::MalformedPriority,
        Self::MalformedSla,
        Self::MalformedTenantId,
        Self::MalformedSessionId,
        Self::RuleViolated,
        Self::CallerNotAllowed,
        Self::GpuClassNotFound,
        Self::VersionNotReady,
        Self::RateLimited,
        Self::CostAboveBurst,
        Self::MemoryExhausted,
        Self::CostAboveMemory,
    ];

    /// The reason with that label.
    pub fn from_label(label: &str) -> Option<Self> {
        Self::ALL.iter().copied().find(|reason| reason.label() == label)
    }

    /// Whether it is one of the checks that validation makes whatever the policy says: neither of routing nor of a rule.
    pub fn is_built_in_check(self) -> bool {
        !matches!(
            self,
            Self::ModelRequired
                | Self::ModelNotFound
                | Self::VersionNotFound
                | Self::RuleViolated
                | Self::CallerNotAllowed
                | Self::GpuClassNotFound
                | Self::VersionNotReady
                | Self::RateLimited
                | Self::CostAboveBurst
                | Self::MemoryExhausted
                | Self::CostAboveMemory
        )
    }

    /// The stable label.
    pub fn label(self) -> &'static str {
        match self {
            Self::NotGrpc => "NOT_GRPC",
            Self::MalformedMethod => "MALFORMED_METHOD",
            Self::MalformedPath => "MALFORMED_PATH",
            Self::MalformedContentType => "MALFORMED_CONTENT_TYPE",
            Self::MalformedTe => "MALFORMED_TE",
            Self::MalformedTimeout => "MALFORMED_TIMEOUT",
            Self::MalformedModel => "MALFORMED_MODEL",
            Self::MalformedModelVersion => "MALFORMED_MODEL_VERSION",
            Self::MalformedCanaryWeight => "MALFORMED_CANARY_WEIGHT",
            Self::MalformedUserId => "MALFORMED_USER_ID",
            Self::DuplicateHeader => "DUPLICATE_HEADER",
            Self::ControlBytes => "CONTROL_BYTES",
            Self::HeaderTooLong => "HEADER_TOO_LONG",
            Self::TooManyHeaders => "TOO_MANY_HEADERS",
            Self::HeadersTooLong => "HEADERS_TOO_LONG",
            Self::ModelRequired => "MODEL_REQUIRED",
            Self::ModelNotFound => "MODEL_NOT_FOUND",
            Self::VersionNotFound => "VERSION_NOT_FOUND",
            Self::MethodNotAllowed => "METHOD_NOT_ALLOWED",
            Self::MalformedHeaderName => "MALFORMED_HEADER_NAME",
            Self::NonAsciiValue => "NON_ASCII_VALUE",
            Self::MalformedBinaryValue => "MALFORMED_BINARY_VALUE",
            Self::ReservedHeader => "RESERVED_HEADER",
            Self::MalformedEncoding => "MALFORMED_ENCODING",
            Self::MalformedAcceptEncoding => "MALFORMED_ACCEPT_ENCODING",
            Self::InternalHeader => "INTERNAL_HEADER",
            Self::MalformedGpuAffinity => "MALFORMED_GPU_AFFINITY",
            Self::MalformedGpuClass => "MALFORMED_GPU_CLASS",
            Self::MalformedTraceId => "MALFORMED_TRACE_ID",
            Self::MalformedTraceparent => "MALFORMED_TRACEPARENT",
            Self::MalformedPriority => "MALFORMED_PRIORITY",
            Self::MalformedSla => "MALFORMED_SLA",
            Self::MalformedTenantId => "MALFORMED_TENANT_ID",
            Self::MalformedSessionId => "MALFORMED_SESSION_ID",
            Self::RuleViolated => "RULE_VIOLATED",
            Self::CallerNotAllowed => "CALLER_NOT_ALLOWED",
            Self::GpuClassNotFound => "GPU_CLASS_NOT_FOUND",
            Self::VersionNotReady => "VERSION_NOT_READY",
            Self::RateLimited => "RATE_LIMITED",
            Self::CostAboveBurst => "COST_ABOVE_BURST",
            Self::MemoryExhausted => "MEMORY_EXHAUSTED",
            Self::CostAboveMemory => "COST_ABOVE_MEMORY",
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
