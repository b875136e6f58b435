//! Answers given here instead of by a worker.

use kilocard_latency::watchdog::Cause;
use kilocard_policy::limit::refusal::{pushback_header, retry_after_header};
use kilocard_policy::record::Record;
use kilocard_policy::{Refusal, RequestView, details, headers};

use crate::abi::{self, HostError, Level, LocalResponse};
use crate::names;

/// Tells the client why. Envoy picks the form: trailers-only with the gRPC status for a request it takes for gRPC, the
/// HTTP status and a body otherwise; both statuses are always given.
pub(crate) fn refuse(
    request: &RequestView<'_>,
    refusal: &Refusal<'_>,
    record: &Record<'_>,
    line: &str,
) -> Result<(), HostError> {
    let reason = refusal.reason.label();
    let json;
    let status;
    let (body, form) = if is_grpc_to_envoy(request) {
        status = details::refusal_status(refusal, record);
        (refusal.message.as_str(), (names::STATUS_DETAILS, status.as_str()))
    } else {
        json = details::refusal_json(refusal, record);
        (json.as_str(), (headers::CONTENT_TYPE, "application/json"))
    };
    let quota = quota_headers(refusal);
    let mut all = vec![(headers::REASON, reason), (headers::DECISION, line), form];
    all.extend(quota.iter().map(|(name, value)| (*name, value.as_str())));
    abi::send_local_response(&LocalResponse {
        http_status: refusal.status.http_status(),
        grpc_status: Some(refusal.status.code()),
        details: &format!("kilocard_refused_{reason}"),
        body,
        headers: &all,
    })
}

/// What tells clients of either kind when to come back.
fn quota_headers(refusal: &Refusal<'_>) -> Vec<(&'static str, String)> {
    let mut all = Vec::new();
    if let Some(limited) = &refusal.limited {
        all.push((names::RATE_LIMIT_POLICY, limited.policy_header()));
        all.push((names::RATE_LIMIT, limited.header()));
    }
    if let Some(wait) = refusal.retry_after {
        all.push((names::RETRY_AFTER, retry_after_header(wait)));
        all.push((names::RETRY_PUSHBACK, pushback_header(wait)));
    }
    all
}

/// Envoy's own notion, which is narrower than ours: no parameters after `application/grpc`.
pub(crate) fn is_grpc_to_envoy(request: &RequestView<'_>) -> bool {
    let mut all = request.headers().iter();
    let content_type = all.find(|(name, _)| *name == headers::CONTENT_TYPE.as_bytes());
    content_type.is_some_and(|(_, value)| matches!(value.strip_prefix(b"application/grpc"), Some([] | [b'+', ..])))
}

/// The worker took too long. Nothing of its answer has come yet, so the client can be told.
pub(crate) fn too_late(cause: Cause, message: &str, details: &str) -> Result<(), HostError> {
    abi::send_local_response(&LocalResponse {
        http_status: 504,
        grpc_status: Some(4),
        details: &format!("kilocard_timeout_{}", cause.label().replace('-', "_")),
        body: message,
        headers: &[(headers::REASON, "TIMEOUT"), (names::STATUS_DETAILS, details)],
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
