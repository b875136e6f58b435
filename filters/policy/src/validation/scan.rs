//! The pass over all headers: their number and sizes, their alphabets, and which of them decisions read.

use super::findings::Findings;
use super::protocol::Protocol;
use super::{Validation, grammar};
use crate::config::InternalHeaders;
use crate::decision::RefusalReason;
use crate::headers;
use crate::known::{Known, Noted};
use crate::request::RequestView;

/// Every header, against everything that holds for any header.
pub(super) fn scan<'a>(
    validation: &Validation,
    request: &RequestView<'a>,
    protocol: Protocol,
    findings: &mut Findings<'_>,
) -> Known<'a> {
    let limits = &validation.limits;
    let all = request.headers();
    if all.len() > limits.max_headers as usize {
        let message = format_args!("there are {}; at most {} are allowed", all.len(), limits.max_headers);
        findings.add_flood(RefusalReason::TooManyHeaders, "headers", message);
    }
    let mut known = Known::default();
    let mut total = 0_usize;
    for (name, value) in all {
        total = total.saturating_add(name.len()).saturating_add(value.len());
        if value.len() > limits.max_header_value_bytes as usize {
            let max = limits.max_header_value_bytes;
            let message = format_args!("is {} bytes long; at most {max} are allowed", value.len());
            findings.add_flood(RefusalReason::HeaderTooLong, &printable_name(name), message);
        }
        let noted = known.note(name, value);
        if noted == Noted::Unknown {
            check_unknown(validation, name, findings);
        }
        if !grammar::is_ascii_value(value) {
            add_alphabet(name, value, findings);
        }
        if let Noted::Again(name) = noted {
            findings.add(RefusalReason::DuplicateHeader, name, "is given more than once");
        }
        if protocol.is_grpc() {
            check_metadata(name, value, findings);
        }
    }
    if total > limits.max_headers_total_bytes as usize {
        let max = limits.max_headers_total_bytes;
        let message = format_args!("are {total} bytes in total; at most {max} are allowed");
        findings.add_flood(RefusalReason::HeadersTooLong, "headers", message);
    }
    known
}

/// Without the validation stage: only what is read, and that it is there once.
pub(super) fn scan_for_routing<'a>(request: &RequestView<'a>, findings: &mut Findings<'_>) -> Known<'a> {
    let mut known = Known::default();
    for (name, value) in request.headers() {
        if let Noted::Again(name) = known.note(name, value)
            && headers::is_read_by_routing(name)
        {
            findings.add(RefusalReason::DuplicateHeader, name, "is given more than once");
        }
    }
    known
}

/// A header whose name says nothing to us.
fn check_unknown(validation: &Validation, name: &[u8], findings: &mut Findings<'_>) {
    if !grammar::is_header_name(name) {
        let message = "has a name outside of lower-case letters, digits, `_`, `-` and `.`";
        findings.add(RefusalReason::MalformedHeaderName, &printable_name(name), message);
    }
    if validation.internal_headers == InternalHeaders::Refuse && headers::is_internal(name) {
        let message = "is for the mesh to set, not for clients";
        findings.add(RefusalReason::InternalHeader, &printable_name(name), message);
    }
}

/// What gRPC asks of metadata.
fn check_metadata(name: &[u8], value: &[u8], findings: &mut Findings<'_>) {
    if name.ends_with(b"-bin") && !grammar::is_binary_value(value) {
        let message = "must be base64, with or without padding, as the name ends in -bin";
        findings.add(RefusalReason::MalformedBinaryValue, &printable_name(name), message);
    }
    if grammar::is_reserved(name) {
        let message = "is reserved: names that begin with grpc- are gRPC's own";
        findings.add(RefusalReason::ReservedHeader, &printable_name(name), message);
    }
}

fn add_alphabet(name: &[u8], value: &[u8], findings: &mut Findings<'_>) {
    let name = printable_name(name);
    if grammar::has_control_bytes(value) {
        let message = "holds control characters; none are allowed in a header value";
        findings.add(RefusalReason::ControlBytes, &name, message);
    } else {
        let message = "holds bytes that are not ASCII; encode them, or use a header whose name ends in -bin";
        findings.add(RefusalReason::NonAsciiValue, &name, message);
    }
}

/// The name of a header as it may stand in a message: any header can be wrong, and its name is the client's too.
fn printable_name(name: &[u8]) -> String {
    const SHOWN: usize = 64;
    let is_token = |byte: &u8| byte.is_ascii_alphanumeric() || matches!(byte, b'-' | b'_' | b'.' | b':');
    if name.is_empty() || name.len() > SHOWN || !name.iter().all(is_token) {
        return "a header".to_owned();
    }
    String::from_utf8_lossy(name).into_owned()
}
