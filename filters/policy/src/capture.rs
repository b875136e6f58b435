//! Captured requests: what the access log keeps of a sample of them, so that `kilocard plan --replay` can decide them again
//! under another policy.
//!
//! A capture is one line of JSON. Values that say who asks, and all that Kilocard has no need to know, are kept as a digest
//! and a length, `#<16 hexadecimal digits>:<bytes>`. That is enough to decide again exactly: cohorts and tenants go by the
//! digest, limits by the length, and a value that breaks its grammar names the first byte at fault, `…!<2 digits>`. What
//! cannot be decided again, a rule on the content of such a value or on the caller, is [listed](Captured::not_evaluable).

use std::time::Duration;

use base64::Engine as _;
use base64::engine::general_purpose::STANDARD;
use serde_json::{Map, Value, json};

use crate::config::Capture;
use crate::decision::{CanaryOverride, Decision, Verdict};
use crate::details::decision_json;
use crate::headers;
use crate::policy::{Policy, Stages};
use crate::record::Record;
use crate::request::RequestView;

mod hashed;
mod replay;
#[cfg(test)]
mod tests;

use hashed::Hashed;
pub use replay::Captured;

/// Longest capture, in bytes. Headers at the end are left out of a longer one.
pub const MAX_CAPTURE_BYTES: usize = 16 * 1024;

/// Headers that are kept as they are: those that Kilocard reads, and those of gRPC and HTTP that say nothing of who asks.
const PLAIN: &[&str] = &[
    ":authority",
    ":method",
    ":path",
    ":protocol",
    ":scheme",
    "accept-encoding",
    "content-length",
    "content-type",
    "grpc-accept-encoding",
    "grpc-encoding",
    "grpc-message-type",
    "grpc-previous-rpc-attempts",
    "grpc-timeout",
    "te",
    "traceparent",
    "user-agent",
    "x-canary-weight",
    "x-gpu-affinity",
    "x-gpu-class",
    "x-kilocard-route",
    "x-max-tokens",
    "x-model",
    "x-model-version",
    "x-priority",
    "x-prompt-tokens",
    "x-request-id",
    "x-sla",
    "x-trace-id",
];

/// How a request was decided, besides its headers.
#[derive(Clone, Copy, Debug)]
pub struct Circumstances {
    /// The stages that ran.
    pub stages: Stages,
    /// As the decision was asked for.
    pub random: u64,
    /// When the request came, since 1970 (UTC), if that is known. It is kept in microseconds.
    pub time: Option<Duration>,
}

/// One line, for the access log. The sample is for the caller to [draw](Policy::captures).
///
/// `time_us` and `percent`, the part of the requests that is captured, came later than the rest of `"v":1`; whoever does not
/// know them passes them over, and a [`Captured`] without them is one of which limits can say nothing.
pub fn write(
    policy: &Policy,
    request: &RequestView<'_>,
    decision: &Decision<'_>,
    circumstances: Circumstances,
) -> String {
    let Circumstances { stages, random, time } = circumstances;
    let mut line = Map::new();
    line.insert("v".to_owned(), json!(1));
    line.insert("stages".to_owned(), json!(label(stages)));
    line.insert("random".to_owned(), json!(format!("{random:016x}")));
    if let Some(time) = time {
        let micros = u64::try_from(time.as_micros()).unwrap_or(u64::MAX);
        line.insert("time_us".to_owned(), json!(micros));
    }
    if let Some(capture) = policy.capture() {
        line.insert("percent".to_owned(), json!(capture.percent));
    }
    line.insert("overrides".to_owned(), json!(overrides(decision)));
    let record = Record::of(policy.revision(), decision);
    line.insert("decision".to_owned(), decision_json(&record));
    line.insert("truncated".to_owned(), json!(false));
    // With `"headers":[],` and a byte less for `true`.
    let mut length = Value::Object(line.clone()).to_string().len() + 13;
    let mut headers = Vec::with_capacity(request.headers().len());
    for (name, value) in request.headers() {
        let header = json!([text(name), keep(policy.capture(), name, value)]);
        length += header.to_string().len() + 1;
        if length > MAX_CAPTURE_BYTES {
            line.insert("truncated".to_owned(), json!(true));
            break;
        }
        headers.push(header);
    }
    line.insert("headers".to_owned(), Value::Array(headers));
    Value::Object(line).to_string()
}

fn overrides(decision: &Decision<'_>) -> bool {
    matches!(&decision.verdict, Verdict::Route(route) if route.override_ == CanaryOverride::Honoured)
}

fn label(stages: Stages) -> &'static str {
    match (stages.contains(Stages::VALIDATION), stages.contains(Stages::ROUTING)) {
        (true, true) => "validation+routing",
        (true, false) => "validation",
        (false, true) => "routing",
        (false, false) if stages.contains(Stages::LIMITS) => "limits",
        (false, false) => "",
    }
}

fn keep(capture: Option<&Capture>, name: &[u8], value: &[u8]) -> Value {
    if !is_plain(capture, name) {
        return json!(Hashed::of(name, value).to_string());
    }
    if name == headers::PATH.as_bytes() {
        return text(&without_query_text(value));
    }
    text(value)
}

fn is_plain(capture: Option<&Capture>, name: &[u8]) -> bool {
    let Ok(name) = std::str::from_utf8(name) else {
        return false;
    };
    let is_wanted = |capture: &Capture| capture.plain_headers.iter().any(|plain| plain == name);
    !headers::is_always_hashed(name) && (PLAIN.binary_search(&name).is_ok() || capture.is_some_and(is_wanted))
}

/// The query of a plain HTTP request may hold anything; its length is kept, and where it breaks the alphabet of values.
fn without_query_text(path: &[u8]) -> Vec<u8> {
    let mut in_query = false;
    let mut kept = path.to_vec();
    for byte in &mut kept {
        if in_query {
            *byte = match *byte {
                b'?' => b'?',
                b' '..=b'~' => b'x',
                0x80.. => 0xff,
                _ => 0x01,
            };
        }
        in_query |= *byte == b'?';
    }
    kept
}

/// Printable ASCII as it is; what is not, or looks like a digest, in base64.
fn text(bytes: &[u8]) -> Value {
    match std::str::from_utf8(bytes) {
        Ok(text) if bytes.iter().all(|byte| matches!(byte, b' '..=b'~')) && Hashed::parse(text).is_none() => {
            json!(text)
        }
        _ => json!({"b64": STANDARD.encode(bytes)}),
    }
}
