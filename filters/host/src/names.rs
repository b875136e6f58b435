//! What the filter writes besides the headers that `kilocard_policy::headers` names: where it leaves the decision.

/// On refusals of gRPC requests: `google.rpc.Status` (gRPC, "Richer error model").
pub(crate) const STATUS_DETAILS: &str = "grpc-status-details-bin";

/// The decision record in the request's filter state; access logs print it by `%FILTER_STATE(wasm.kilocard.decision:PLAIN)%`.
/// One segment: Envoy keeps the 0x00 between segments in the name, which no access log can write.
pub(crate) const DECISION_STATE: &str = "kilocard.decision";
/// The same for the capture of a request, see [`kilocard_policy::capture`].
pub(crate) const CAPTURE_STATE: &str = "kilocard.capture";
