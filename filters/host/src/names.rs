//! The headers that the filter sets, besides those that `kilocard-policy` reads too, and where it leaves the decision.

/// On requests: the GPU tags that the decision asks for, for Envoy's header-to-metadata filter.
pub(crate) const GPU: &str = "x-kilocard-gpu";
/// On requests: the cluster that gets a copy.
pub(crate) const SHADOW: &str = "x-kilocard-shadow";
/// On requests: what the worker notes beside its work.
pub(crate) const TAG: &str = "x-kilocard-tag";
/// On responses: the decision record.
pub(crate) const DECISION: &str = "x-kilocard-decision";
/// On refusals of gRPC requests: `google.rpc.Status` (gRPC, "Richer error model").
pub(crate) const STATUS_DETAILS: &str = "grpc-status-details-bin";

/// The decision record in the request's filter state; access logs print it by `%FILTER_STATE(wasm.kilocard.decision:PLAIN)%`.
/// One segment: Envoy keeps the 0x00 between segments in the name, which no access log can write.
pub(crate) const DECISION_STATE: &str = "kilocard.decision";
/// The same for the capture of a request, see [`kilocard_policy::capture`].
pub(crate) const CAPTURE_STATE: &str = "kilocard.capture";
