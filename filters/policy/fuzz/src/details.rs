//! A refusal on the wire.

use arbitrary::{Result, Unstructured};
use base64::Engine as _;
use base64::engine::general_purpose::STANDARD_NO_PAD;
use kilocard_policy::details::{self, BadRequest, ErrorInfo, Status};
use kilocard_policy::record::Record;
use kilocard_policy::{Finding, GrpcStatus, MAX_FINDINGS, Reached, Refusal, RefusalReason, RuleId};
use prost::Message;
use serde_json::Value;

/// The bytes are a refusal, whose texts may be any; it is written for both kinds of clients and read back.
pub fn run(data: &[u8]) {
    let mut u = Unstructured::new(data);
    let _ = describe(&mut u);
}

fn describe(u: &mut Unstructured<'_>) -> Result<()> {
    let rule = RuleId {
        policy: u.arbitrary()?,
        name: u.arbitrary()?,
        label: 0,
    };
    let mut violations = Vec::new();
    for _ in 0..u.int_in_range(1..=MAX_FINDINGS)? {
        violations.push(Finding {
            reason: *u.choose(RefusalReason::ALL)?,
            field: text(u)?,
            message: text(u)?,
            rule: u.arbitrary::<bool>()?.then_some(&rule),
        });
    }
    let first = violations[0].clone();
    let (model, version) = (text(u)?, text(u)?);
    let refusal = Refusal {
        status: *u.choose(GrpcStatus::ALL)?,
        reason: first.reason,
        field: first.field,
        message: first.message,
        violations,
        reached: Reached {
            model: u.arbitrary::<bool>()?.then_some(&*model),
            rule: None,
            version: u.arbitrary::<bool>()?.then_some(&*version),
            bucket: u.arbitrary()?,
        },
        retry_after: None,
        limited: None,
    };
    let record = Record {
        version: refusal.reached.version.map(Into::into),
        bucket: refusal.reached.bucket,
        refused: Some(refusal.reason),
        revision: u.arbitrary::<&str>()?.into(),
        ..Record::default()
    };
    check(&refusal, &record);
    Ok(())
}

fn text(u: &mut Unstructured<'_>) -> Result<String> {
    let text: &str = u.arbitrary()?;
    let times = u.int_in_range(1..=8)?;
    Ok(text.repeat(times * times))
}

/// Both answers say the same as the refusal does.
pub(crate) fn check(refusal: &Refusal<'_>, record: &Record<'_>) {
    check_status(refusal, record);
    check_json(refusal, record);
}

fn check_status(refusal: &Refusal<'_>, record: &Record<'_>) {
    let header = details::refusal_status(refusal, record);
    assert!(
        header
            .bytes()
            .all(|byte| byte.is_ascii_alphanumeric() || b"+/".contains(&byte)),
        "not base64"
    );
    let bytes = STANDARD_NO_PAD.decode(header).expect("base64 without padding");
    let status = Status::decode(&*bytes).expect("a google.rpc.Status");
    assert_eq!(status.code, refusal.status.code() as i32);
    assert_eq!(status.message, refusal.message);
    let [bad_request, info] = status.details.as_slice() else {
        panic!("{} details", status.details.len())
    };
    assert_eq!(bad_request.type_url, "type.googleapis.com/google.rpc.BadRequest");
    let bad_request = BadRequest::decode(&*bad_request.value).expect("a google.rpc.BadRequest");
    assert!(bad_request.field_violations.len() <= refusal.violations.len());
    for (written, meant) in bad_request.field_violations.iter().zip(&refusal.violations) {
        assert_eq!((&written.field, &written.description), (&meant.field, &meant.message));
        assert_eq!(written.reason, meant.reason.label());
    }
    assert_eq!(info.type_url, "type.googleapis.com/google.rpc.ErrorInfo");
    let info = ErrorInfo::decode(&*info.value).expect("a google.rpc.ErrorInfo");
    assert_eq!(
        (info.reason.as_str(), info.domain.as_str()),
        (refusal.reason.label(), "kilocard.dev")
    );
    assert_eq!(info.metadata, record.to_metadata());
}

fn check_json(refusal: &Refusal<'_>, record: &Record<'_>) {
    let body: Value = serde_json::from_str(&details::refusal_json(refusal, record)).expect("JSON");
    let error = &body["error"];
    assert_eq!(error["code"], refusal.status.http_status());
    assert_eq!(error["reason"], refusal.reason.label());
    assert_eq!(error["message"], refusal.message.as_str());
    let violations = error["violations"].as_array().expect("a list");
    assert_eq!(violations.len(), refusal.violations.len());
    for (written, meant) in violations.iter().zip(&refusal.violations) {
        assert_eq!(written["field"], meant.field.as_str());
        assert_eq!(written["message"], meant.message.as_str());
    }
    assert_eq!(error["decision"], serde_json::json!(record.to_metadata()));
}
