//! The validation stage: is this a well-formed gRPC request with well-formed Kilocard headers, within the limits?
//!
//! One pass over the headers, no allocation unless it refuses. Values are bytes: whatever they hold, the answer is a
//! refusal that names the header, never a panic, and never an echo.

mod grammar;
#[cfg(test)]
mod tests;

use crate::config::HeaderLimits;
use crate::decision::{Refusal, RefusalReason};
use crate::headers;
use crate::known::Known;
use crate::request::{RequestView, is_grpc_content_type};

/// The limits and the whole grammar. Checks what protects the later checks first, then the protocol, then our headers.
pub(crate) fn check<'a>(limits: &HeaderLimits, request: &RequestView<'a>) -> Result<Known<'a>, Refusal<'static>> {
    let known = check_limits(limits, request)?;
    check_protocol(&known)?;
    check_routing_headers(&known)?;
    Ok(known)
}

/// Without the validation stage: only what the routing stage itself leans on.
pub(crate) fn check_for_routing<'a>(request: &RequestView<'a>) -> Result<Known<'a>, Refusal<'static>> {
    let mut known = Known::default();
    for (name, value) in request.headers() {
        known.note(name, value);
    }
    known.check_duplicates()?;
    check_routing_headers(&known)?;
    Ok(known)
}

fn check_limits<'a>(limits: &HeaderLimits, request: &RequestView<'a>) -> Result<Known<'a>, Refusal<'static>> {
    let all = request.headers();
    if all.len() > limits.max_headers as usize {
        let message = format!("there are {}; at most {} are allowed", all.len(), limits.max_headers);
        return Err(Refusal::invalid(RefusalReason::TooManyHeaders, "headers", message));
    }
    let mut known = Known::default();
    let mut total = 0;
    for (name, value) in all {
        total += name.len() + value.len();
        if value.len() > limits.max_header_value_bytes as usize {
            let message = format!(
                "is {} bytes long; at most {} are allowed",
                value.len(),
                limits.max_header_value_bytes
            );
            return Err(Refusal::invalid(
                RefusalReason::HeaderTooLong,
                &printable_name(name),
                message,
            ));
        }
        if grammar::has_control_bytes(value) {
            let message = "holds control characters; none are allowed in a header value";
            return Err(Refusal::invalid(
                RefusalReason::ControlBytes,
                &printable_name(name),
                message,
            ));
        }
        known.note(name, value);
    }
    if total > limits.max_headers_total_bytes as usize {
        let message = format!(
            "are {total} bytes in total; at most {} are allowed",
            limits.max_headers_total_bytes
        );
        return Err(Refusal::invalid(RefusalReason::HeadersTooLong, "headers", message));
    }
    known.check_duplicates()?;
    Ok(known)
}

/// gRPC over HTTP/2, "Requests": POST, `/package.Service/Method`, `application/grpc`, `te: trailers`, `grpc-timeout`.
fn check_protocol(known: &Known<'_>) -> Result<(), Refusal<'static>> {
    match known.content_type {
        Some(value) if is_grpc_content_type(value) => {
            let message = "must be application/grpc, or go on with +proto, +json or parameters after `;`";
            ensure(
                grammar::is_content_type(value),
                RefusalReason::MalformedContentType,
                headers::CONTENT_TYPE,
                message,
            )?;
        }
        _ => {
            let message = "must be application/grpc: only gRPC is served here";
            return Err(Refusal::invalid(RefusalReason::NotGrpc, headers::CONTENT_TYPE, message));
        }
    }
    let is_post = known.method == Some(b"POST");
    ensure(
        is_post,
        RefusalReason::MalformedMethod,
        headers::METHOD,
        "must be POST for gRPC",
    )?;
    let path = known.path.is_some_and(grammar::is_path);
    ensure(
        path,
        RefusalReason::MalformedPath,
        headers::PATH,
        "must be /package.Service/Method",
    )?;
    let te = known.te.is_none_or(|value| value.eq_ignore_ascii_case(b"trailers"));
    ensure(
        te,
        RefusalReason::MalformedTe,
        headers::TE,
        "must be `trailers` for gRPC",
    )?;
    let timeout = known.timeout.is_none_or(grammar::is_timeout);
    let message = "must be 1 to 8 digits and a unit, one of H M S m u n, like 250m";
    ensure(timeout, RefusalReason::MalformedTimeout, headers::GRPC_TIMEOUT, message)
}

fn check_routing_headers(known: &Known<'_>) -> Result<(), Refusal<'static>> {
    let message = "must be 1 to 64 letters, digits, `.`, `_` or `-`, and begin with a letter or a digit";
    let model = known.model.is_none_or(headers::is_name_value);
    ensure(model, RefusalReason::MalformedModel, headers::X_MODEL, message)?;
    let version = known.model_version.is_none_or(headers::is_name_value);
    ensure(
        version,
        RefusalReason::MalformedModelVersion,
        headers::X_MODEL_VERSION,
        message,
    )?;
    let weight = known
        .canary_weight
        .is_none_or(|value| grammar::percent(value).is_some());
    let message = "must be an integer from 0 to 100";
    ensure(
        weight,
        RefusalReason::MalformedCanaryWeight,
        headers::X_CANARY_WEIGHT,
        message,
    )?;
    known.user_id.map_or(Ok(()), check_user_id)
}

fn check_user_id(value: &[u8]) -> Result<(), Refusal<'static>> {
    let max = headers::MAX_USER_ID_BYTES;
    let refuse = |message: String| {
        Err(Refusal::invalid(
            RefusalReason::MalformedUserId,
            headers::X_USER_ID,
            message,
        ))
    };
    if value.is_empty() || value.len() > max {
        return refuse(format!("must be 1 to {max} bytes long, is {}", value.len()));
    }
    match value.iter().position(|byte| !headers::is_user_id_byte(*byte)) {
        None => Ok(()),
        Some(at) => {
            let allowed = "letters, digits and . _ @ : + / = -";
            refuse(format!(
                "the character at position {} is not allowed; use {allowed}",
                at + 1
            ))
        }
    }
}

/// The canary's share that a checked request asks for, in percent.
pub(crate) fn canary_percent(known: &Known<'_>) -> Option<u16> {
    known.canary_weight.and_then(grammar::percent)
}

fn ensure(holds: bool, reason: RefusalReason, field: &str, message: &str) -> Result<(), Refusal<'static>> {
    if holds {
        Ok(())
    } else {
        Err(Refusal::invalid(reason, field, message))
    }
}

/// The name of a header as it may stand in a message: any header can be too long, and its name is the client's too.
fn printable_name(name: &[u8]) -> String {
    const SHOWN: usize = 64;
    let is_token = |byte: &u8| byte.is_ascii_alphanumeric() || matches!(byte, b'-' | b'_' | b'.' | b':');
    if name.is_empty() || name.len() > SHOWN || !name.iter().all(is_token) {
        return "a header".to_owned();
    }
    String::from_utf8_lossy(name).into_owned()
}
