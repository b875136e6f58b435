//! The reasons of refusals: labels that never change once released.

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
