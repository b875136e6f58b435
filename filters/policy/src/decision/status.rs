//! The statuses of refusals, for gRPC clients and for others.

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
