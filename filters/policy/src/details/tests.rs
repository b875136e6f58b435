use serde_json::json;

use super::*;
use crate::decision::{Finding, GrpcStatus, RefusalReason, RuleId};

fn refusal(rule: Option<&RuleId>) -> Refusal<'_> {
    let finding = Finding {
        rule,
        ..Finding::new(RefusalReason::RuleViolated, "x-team", "is required")
    };
    let mut refusal = Refusal::of(GrpcStatus::InvalidArgument, finding);
    let second = Finding::new(RefusalReason::MalformedModel, "x-model", "must be a name");
    refusal.violations.push(second);
    refusal
}

fn record() -> Record<'static> {
    Record {
        bucket: Some(7),
        refused: Some(RefusalReason::RuleViolated),
        revision: "12".into(),
        ..Record::default()
    }
}

fn decoded(value: &str) -> (Status, BadRequest, ErrorInfo) {
    assert!(!value.contains('='), "gRPC wants no padding");
    let status = Status::decode(STANDARD_NO_PAD.decode(value).unwrap().as_slice()).unwrap();
    let [bad_request, info] = status.details.as_slice() else {
        panic!("{status:?}");
    };
    assert_eq!(bad_request.type_url, "type.googleapis.com/google.rpc.BadRequest");
    assert_eq!(info.type_url, "type.googleapis.com/google.rpc.ErrorInfo");
    let bad_request = BadRequest::decode(bad_request.value.as_slice()).unwrap();
    let info = ErrorInfo::decode(info.value.as_slice()).unwrap();
    (status, bad_request, info)
}

#[test]
fn the_status_has_all_violations_and_the_record() {
    let (status, bad_request, info) = decoded(&refusal_status(&refusal(None), &record()));
    assert_eq!((status.code, status.message.as_str()), (3, "x-team: is required"));
    let violations: Vec<_> = bad_request
        .field_violations
        .iter()
        .map(|violation| {
            let FieldViolation {
                field,
                description,
                reason,
            } = violation;
            (field.as_str(), description.as_str(), reason.as_str())
        })
        .collect();
    let expected = [
        ("x-team", "x-team: is required", "RULE_VIOLATED"),
        ("x-model", "x-model: must be a name", "MALFORMED_MODEL"),
    ];
    assert_eq!(violations, expected);
    assert_eq!(
        (info.reason.as_str(), info.domain.as_str()),
        ("RULE_VIOLATED", "kilocard.dev")
    );
    let metadata = [("bucket", "7"), ("refused", "RULE_VIOLATED"), ("rev", "12")];
    let metadata = metadata.map(|(name, value)| (name.to_owned(), value.to_owned()));
    assert_eq!(info.metadata, metadata.into_iter().collect());
}

#[test]
fn details_that_a_client_would_refuse_to_read_are_shortened() {
    let mut refusal = refusal(None);
    let long = Finding::new(RefusalReason::RuleViolated, "x-long", "m".repeat(1_000));
    refusal.violations.extend(std::iter::repeat_n(long, 14));
    let value = refusal_status(&refusal, &record());
    assert!(value.len() <= 4 * MAX_DETAILS_BYTES / 3 + 1, "{}", value.len());
    let (_, bad_request, info) = decoded(&value);
    assert_eq!(bad_request.field_violations.len(), 5);
    assert_eq!(info.reason, "RULE_VIOLATED");
}

#[test]
fn the_body_for_other_clients_says_the_same_as_json() {
    let rule = RuleId {
        policy: "headers".into(),
        name: "team-required".into(),
        label: 0,
    };
    let body: Value = serde_json::from_str(&refusal_json(&refusal(Some(&rule)), &record())).unwrap();
    let expected = json!({"error": {
        "code": 400,
        "status": "INVALID_ARGUMENT",
        "reason": "RULE_VIOLATED",
        "message": "x-team: is required",
        "violations": [
            {"field": "x-team", "reason": "RULE_VIOLATED", "message": "x-team: is required", "rule": "headers/team-required"},
            {"field": "x-model", "reason": "MALFORMED_MODEL", "message": "x-model: must be a name"},
        ],
        "decision": {"bucket": "7", "refused": "RULE_VIOLATED", "rev": "12"},
    }});
    assert_eq!(body, expected);
}
