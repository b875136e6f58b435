//! Answers given here instead of by a worker.

use kilocard_policy::{Refusal, headers};

use crate::abi::{self, HostError, Level, LocalResponse};

/// Tells the client why. Envoy picks the form: trailers-only with the gRPC status for a request it takes for gRPC, the
/// HTTP status and a text otherwise. Its notion is narrower than ours (no parameters after `application/grpc`), so both
/// statuses are always given.
pub(crate) fn refuse(refusal: &Refusal<'_>) -> Result<(), HostError> {
    let reason = refusal.reason.label();
    abi::send_local_response(&LocalResponse {
        http_status: refusal.status.http_status(),
        grpc_status: Some(refusal.status.code()),
        details: &format!("kilocard_refused_{reason}"),
        body: &refusal.message,
        headers: &[(headers::REASON, reason)],
    })
}

/// The filter itself failed. Envoy turns the HTTP status into a gRPC one for a client that speaks gRPC.
pub(crate) fn fail() {
    let response = LocalResponse {
        http_status: 500,
        grpc_status: None,
        details: "kilocard_host_error",
        body: "kilocard: the filter could not process the request; Envoy's log says why",
        headers: &[(headers::REASON, "HOST_ERROR")],
    };
    if let Err(error) = abi::send_local_response(&response) {
        // The caller pauses the request, so it cannot pass; it ends by its timeout.
        abi::log(
            Level::Error,
            &format!("could not answer a request that failed: {error}"),
        );
    }
}
