//! What is decided about a request, with labels that never change once released: metrics, logs and clients lean on them.

use std::fmt;

use serde::{Serialize, Serializer};

/// What to do with a request.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
#[serde(rename_all = "snake_case")]
pub enum Decision<'p> {
    /// Let it pass; along the route, if the routing stage ran.
    Forward(Option<Route<'p>>),
    /// Answer it here.
    Refuse(Refusal),
}

/// Where a request goes, and why.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize)]
pub struct Route<'p> {
    /// The model.
    pub model: &'p str,
    /// The version.
    pub version: &'p str,
    /// `<model>/<version>`: the value of [`ROUTE`](crate::headers::ROUTE), and the name of the cluster.
    pub route_key: &'p str,
    /// Why this version.
    pub reason: RouteReason,
    /// Where in 0..10 000 the request fell, if it was drawn.
    pub bucket: Option<u16>,
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

/// Why a request is not let through.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
pub struct Refusal {
    /// For the client's gRPC library.
    pub status: GrpcStatus,
    /// For metrics and logs.
    pub reason: RefusalReason,
    /// The header that is wrong.
    pub field: String,
    /// For the client's author. Names the field; printable ASCII, and never holds bytes of the request that did not
    /// pass a grammar of their own.
    pub message: String,
}

impl Refusal {
    pub(crate) fn new(status: GrpcStatus, reason: RefusalReason, field: &str, message: impl fmt::Display) -> Self {
        Self {
            status,
            reason,
            field: field.to_owned(),
            message: format!("{field}: {message}"),
        }
    }

    pub(crate) fn invalid(reason: RefusalReason, field: &str, message: impl fmt::Display) -> Self {
        Self::new(GrpcStatus::InvalidArgument, reason, field, message)
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
}

impl GrpcStatus {
    /// The number on the wire.
    pub fn code(self) -> u32 {
        match self {
            Self::InvalidArgument => 3,
            Self::NotFound => 5,
        }
    }

    /// `INVALID_ARGUMENT`.
    pub fn label(self) -> &'static str {
        match self {
            Self::InvalidArgument => "INVALID_ARGUMENT",
            Self::NotFound => "NOT_FOUND",
        }
    }

    /// The HTTP status for a client that does not speak gRPC (google.rpc.Code, "HTTP Mapping").
    pub fn http_status(self) -> u32 {
        match self {
            Self::InvalidArgument => 400,
            Self::NotFound => 404,
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
    ];

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
