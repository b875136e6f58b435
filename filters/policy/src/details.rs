//! A refusal on the wire: for clients that speak gRPC as `google.rpc.Status` in `grpc-status-details-bin`
//! (gRPC, "Richer error model"; AIP-193), for others as JSON.

use std::borrow::Cow;
use std::collections::BTreeMap;

use base64::Engine as _;
use base64::engine::general_purpose::STANDARD_NO_PAD;
use prost::{Message, Name};
use serde_json::{Map, Value, json};

use crate::decision::{Finding, Refusal};
use crate::limit::Limited;
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
    /// [`BadRequest`], or [`QuotaFailure`] and [`RetryInfo`]; and [`ErrorInfo`].
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

/// `google.rpc.QuotaFailure`.
#[derive(Clone, PartialEq, Message)]
pub struct QuotaFailure {
    /// The limit that was met.
    #[prost(message, repeated, tag = "1")]
    pub violations: Vec<QuotaViolation>,
}

/// `google.rpc.QuotaFailure.Violation`.
#[derive(Clone, PartialEq, Message)]
pub struct QuotaViolation {
    /// Whose limit: `tenant=acme,model=minilm`; empty if it is everybody's.
    #[prost(string, tag = "1")]
    pub subject: String,
    /// What it allows, and what to do.
    #[prost(string, tag = "2")]
    pub description: String,
    /// The unit: `requests`, `tokens`, `gpu_seconds`.
    #[prost(string, tag = "4")]
    pub quota_metric: String,
    /// The policy and the unit.
    #[prost(string, tag = "5")]
    pub quota_id: String,
    /// The subject again, as names and values.
    #[prost(btree_map = "string, string", tag = "6")]
    pub quota_dimensions: BTreeMap<String, String>,
    /// The rate.
    #[prost(int64, tag = "7")]
    pub quota_value: i64,
}

/// `google.rpc.RetryInfo`.
#[derive(Clone, PartialEq, Message)]
pub struct RetryInfo {
    /// After how long it is worth trying again.
    #[prost(message, optional, tag = "1")]
    pub retry_delay: Option<prost_types::Duration>,
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

macro_rules! of_google_rpc {
    ($($name:ident),*) => {$(
        impl Name for $name {
            const NAME: &'static str = stringify!($name);
            const PACKAGE: &'static str = "google.rpc";

            fn type_url() -> String {
                concat!("type.googleapis.com/google.rpc.", stringify!($name)).to_owned()
            }
        }
    )*};
}

of_google_rpc!(BadRequest, QuotaFailure, RetryInfo, ErrorInfo);

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
    let mut details = match &refusal.limited {
        Some(limited) => vec![quota_failure(limited, refusal)],
        None => vec![any(&BadRequest {
            field_violations: refusal.violations.iter().take(shown).map(violation).collect(),
        })],
    };
    let info = ErrorInfo {
        reason: refusal.reason.label().to_owned(),
        domain: DOMAIN.to_owned(),
        metadata: record.to_metadata(),
    };
    let retry = refusal.retry_after.map(|wait| RetryInfo {
        retry_delay: prost_types::Duration::try_from(wait).ok(),
    });
    details.extend(retry.as_ref().map(any));
    details.push(any(&info));
    Status {
        // Codes are below 17.
        code: refusal.status.code() as i32,
        message: refusal.message.clone(),
        details,
    }
}

/// gRPC's status code.
const DEADLINE_EXCEEDED: i32 = 4;

/// The same of a request that took too long: why, and of which `<model>/<version>`.
pub fn timeout_status(message: &str, reason: &str, route: &str) -> String {
    let info = ErrorInfo {
        reason: reason.to_owned(),
        domain: DOMAIN.to_owned(),
        metadata: BTreeMap::from([("route".to_owned(), route.to_owned())]),
    };
    let status = Status {
        code: DEADLINE_EXCEEDED,
        message: message.to_owned(),
        details: vec![any(&info)],
    };
    STANDARD_NO_PAD.encode(status.encode_to_vec())
}

fn quota_failure(limited: &Limited<'_>, refusal: &Refusal<'_>) -> prost_types::Any {
    let owned = |(name, value): (Cow<'_, str>, Cow<'_, str>)| (name.into_owned(), value.into_owned());
    let failure = QuotaFailure {
        violations: vec![QuotaViolation {
            subject: limited.key.clone(),
            description: refusal.message.clone(),
            quota_metric: limited.limit.unit.to_string(),
            quota_id: limited.label(),
            quota_dimensions: limited.dimensions().map(owned).collect(),
            quota_value: i64::try_from(limited.limit.rate).unwrap_or(i64::MAX),
        }],
    };
    any(&failure)
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
    let mut body = json!({"error": {
        "code": refusal.status.http_status(),
        "status": refusal.status,
        "reason": refusal.reason,
        "message": refusal.message,
        "violations": refusal.violations.iter().map(violation).collect::<Value>(),
        "decision": decision_json(record),
    }});
    if let (Some(limited), Some(error)) = (&refusal.limited, body.get_mut("error").and_then(Value::as_object_mut)) {
        let quota = json!({"policy": limited.policy, "limit": limited.limit, "key": limited.key, "remaining": limited.remaining});
        error.insert("quota".to_owned(), quota);
    }
    if let (Some(wait), Some(error)) = (
        refusal.retry_after,
        body.get_mut("error").and_then(Value::as_object_mut),
    ) {
        error.insert("retry_after_ms".to_owned(), json!(wait.as_millis()));
    }
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
