//! What the filter writes besides the headers that `kilocard_policy::headers` names: where it leaves the decision.

/// On refusals of gRPC requests: `google.rpc.Status` (gRPC, "Richer error model").
pub(crate) const STATUS_DETAILS: &str = "grpc-status-details-bin";

/// The decision record in the request's filter state; access logs print it by `%FILTER_STATE(wasm.kilocard.decision:PLAIN)%`.
/// One segment: Envoy keeps the 0x00 between segments in the name, which no access log can write.
pub(crate) const DECISION_STATE: &str = "kilocard.decision";
/// The same for the capture of a request, see [`kilocard_policy::capture`].
pub(crate) const CAPTURE_STATE: &str = "kilocard.capture";

/// How long to wait before trying again, whole seconds (RFC 9110, section 10.2.3).
pub(crate) const RETRY_AFTER: &str = "retry-after";
/// The same for gRPC clients that retry by themselves, milliseconds (gRPC proposal A6).
pub(crate) const RETRY_PUSHBACK: &str = "grpc-retry-pushback-ms";
/// The quota that was met (draft-ietf-httpapi-ratelimit-headers).
pub(crate) const RATE_LIMIT_POLICY: &str = "ratelimit-policy";
/// What is left of it (the same).
pub(crate) const RATE_LIMIT: &str = "ratelimit";
