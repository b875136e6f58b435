//! A refusal on the wire: for clients that speak gRPC as `google.rpc.Status` in `grpc-status-details-bin`
//! (gRPC, "Richer error model"; AIP-193), for others as JSON.

use std::collections::BTreeMap;

use base64::Engine as _;
use base64::engine::general_purpose::STANDARD_NO_PAD;
use prost::{Message, Name};
use serde_json::{Map, Value, json};

use crate::decision::{Finding, Refusal};
use crate::record::Record;

#[cfg(test)]
mod tests;

/// Who gives the reasons of [`ErrorInfo`].
pub const DOMAIN: &str = "kilocard.dev";

/// Most bytes of details before base64: gRPC clients take 8 KiB of trailers by default, and what a client refuses to read
/// it does not hear of at all.
const MAX_DETAILS_BYTES: usize = 4 * 1024;

/// `google.rpc.Status`.
#[derive(Clone, PartialEq, Message)]
pub struct Status {
    /// The gRPC status code.
    #[prost(int32, tag = "1")]
    pub code: i32,
    /// For the client's author.
    #[prost(string, tag = "2")]
    pub message: String,
    /// [`BadRequest`] and [`ErrorInfo`].
    #[prost(message, repeated, tag = "3")]
    pub details: Vec<prost_types::Any>,
}

/// `google.rpc.BadRequest`.
#[derive(Clone, PartialEq, Message)]
pub struct BadRequest {
    /// All that is wrong.
    #[prost(message, repeated, tag = "1")]
    pub field_violations: Vec<FieldViolation>,
}

/// `google.rpc.BadRequest.FieldViolation`.
#[derive(Clone, PartialEq, Message)]
pub struct FieldViolation {
    /// The header.
    #[prost(string, tag = "1")]
    pub field: String,
    /// What is wrong with it.
    #[prost(string, tag = "2")]
    pub description: String,
    /// The label.
    #[prost(string, tag = "3")]
    pub reason: String,
}

/// `google.rpc.ErrorInfo`.
#[derive(Clone, PartialEq, Message)]
pub struct ErrorInfo {
    /// The label of the refusal.
    #[prost(string, tag = "1")]
    pub reason: String,
    /// [`DOMAIN`].
    #[prost(string, tag = "2")]
    pub domain: String,
    /// The decision record.
    #[prost(btree_map = "string, string", tag = "3")]
    pub metadata: BTreeMap<String, String>,
}

impl Name for BadRequest {
    const NAME: &'static str = "BadRequest";
    const PACKAGE: &'static str = "google.rpc";

    fn type_url() -> String {
        "type.googleapis.com/google.rpc.BadRequest".to_owned()
    }
}

impl Name for ErrorInfo {
    const NAME: &'static str = "ErrorInfo";
    const PACKAGE: &'static str = "google.rpc";

    fn type_url() -> String {
        "type.googleapis.com/google.rpc.ErrorInfo".to_owned()
    }
}

/// The value of `grpc-status-details-bin`: base64 without padding, as gRPC wants binary metadata. The violations at the end
/// are left out if they would make it too long.
pub fn refusal_status(refusal: &Refusal<'_>, record: &Record<'_>) -> String {
    let mut shown = refusal.violations.len();
    loop {
        let status = status(refusal, record, shown).encode_to_vec();
        if status.len() <= MAX_DETAILS_BYTES || shown == 0 {
            return STANDARD_NO_PAD.encode(status);
        }
        shown -= 1;
    }
}

fn status(refusal: &Refusal<'_>, record: &Record<'_>, shown: usize) -> Status {
    let violation = |finding: &Finding<'_>| FieldViolation {
        field: finding.field.clone(),
        description: finding.message.clone(),
        reason: finding.reason.label().to_owned(),
    };
    let bad_request = BadRequest {
        field_violations: refusal.violations.iter().take(shown).map(violation).collect(),
    };
    let info = ErrorInfo {
        reason: refusal.reason.label().to_owned(),
        domain: DOMAIN.to_owned(),
        metadata: record.to_metadata(),
    };
    Status {
        // Codes are below 17.
        code: refusal.status.code() as i32,
        message: refusal.message.clone(),
        details: vec![any(&bad_request), any(&info)],
    }
}

fn any<M: Message + Name>(message: &M) -> prost_types::Any {
    prost_types::Any {
        type_url: M::type_url(),
        value: message.encode_to_vec(),
    }
}

/// The body for clients that do not speak gRPC.
pub fn refusal_json(refusal: &Refusal<'_>, record: &Record<'_>) -> String {
    let violation = |finding: &Finding<'_>| {
        let mut violation = json!({"field": finding.field, "reason": finding.reason, "message": finding.message});
        if let (Some(rule), Some(object)) = (finding.rule, violation.as_object_mut()) {
            object.insert("rule".to_owned(), json!(format!("{}/{}", rule.policy, rule.name)));
        }
        violation
    };
    let body = json!({"error": {
        "code": refusal.status.http_status(),
        "status": refusal.status,
        "reason": refusal.reason,
        "message": refusal.message,
        "violations": refusal.violations.iter().map(violation).collect::<Value>(),
        "decision": decision_json(record),
    }});
    body.to_string()
}

/// A record as a JSON object.
pub fn decision_json(record: &Record<'_>) -> Value {
    let parts = record.to_metadata().into_iter();
    Value::Object(
        parts
            .map(|(name, value)| (name, Value::String(value)))
            .collect::<Map<_, _>>(),
    )
}
