//! What holds of any request.

use proptest::collection::vec;
use proptest::prelude::*;
use serde_json::json;

use super::*;

/// Headers that decisions read and others, with values that are nearly right or anything at all.
fn headers() -> impl Strategy<Value = Vec<(Vec<u8>, Vec<u8>)>> {
    let name = prop_oneof![
        4 => "(:path|:method|content-type|te|grpc-[a-z-]{0,9}|x-(model|model-version|user-id|canary-weight|gpu-affinity|gpu-class|sla|priority|trace-id|h|data-bin|kilocard-route)|traceparent)"
            .prop_map(String::into_bytes),
        1 => vec(any::<u8>(), 0..12),
    ];
    let value = prop_oneof![
        2 => "(POST|GET|/a\\.S/M|application/(grpc|json|grpc-web)|trailers|1S|gpu0:high|v1|m|100|P0|' or 1=1|\\.\\./|%2e%2e/)"
            .prop_map(String::into_bytes),
        1 => vec(any::<u8>(), 0..40),
    ];
    vec((name, value), 0..30)
}

fn view(headers: &[(Vec<u8>, Vec<u8>)]) -> Vec<(&[u8], &[u8])> {
    headers
        .iter()
        .map(|(name, value)| (name.as_slice(), value.as_slice()))
        .collect()
}

fn rules(action: &str) -> serde_json::Value {
    let classes = [
        "sql_injection",
        "control_characters",
        "path_traversal",
        "template_injection",
        "script_injection",
    ];
    json!([
        {"name": "a", "header": "x-h", "required": true, "forbid": classes, "action": action},
        {"name": "b", "header": ":path", "pattern": "/a.*", "length": {"max": 5}, "action": action},
        {"name": "c", "header": "x-sla", "one_of": ["gold"], "range": {"min": 1}, "callers": ["ops"], "action": action},
    ])
}

/// A caller group that nobody in these tests is in.
fn mesh() -> serde_json::Value {
    json!({"api_version": "kilocard/v1", "kind": "MeshPolicy", "metadata": {"name": "mesh"},
        "spec": {"callers": [{"name": "ops", "addresses": ["192.0.2.1"]}]}})
}

fn printable(text: &str) -> bool {
    text.bytes().all(|byte| matches!(byte, 0x20..=0x7e))
}

proptest! {
    #[test]
    fn any_bytes_get_a_verdict_whose_messages_are_printable_and_bounded(headers in headers(), random in any::<u64>()) {
        let policy = policy(&[
            mesh(),
            default_routing("m", &[("v1", 60.0), ("v2", 40.0)]),
            validation_policy(&json!({"rules": rules("refuse"), "internal_headers": "refuse", "protocols": {"http": "route", "grpc_web": "accept"}})),
        ]);
        let pairs = view(&headers);
        for stages in [Stages::ALL, Stages::VALIDATION, Stages::ROUTING] {
            if let Verdict::Refuse(refusal) = policy.decide_stages(stages, &RequestView::new(&pairs), random).verdict {
                prop_assert!(refusal.violations.len() <= crate::MAX_FINDINGS);
                for finding in &refusal.violations {
                    prop_assert!(printable(&finding.message) && finding.message.len() <= 512, "{finding:?}");
                }
            }
        }
    }

    #[test]
    fn report_only_never_refuses(headers in headers()) {
        let policy = policy(&[mesh(), validation_policy(&json!({"report_only": "all", "rules": rules("report"), "internal_headers": "refuse"}))]);
        let pairs = view(&headers);
        let decision = policy.decide_stages(Stages::VALIDATION, &RequestView::new(&pairs), 0);
        prop_assert_eq!(&decision.verdict, &Verdict::Pass);
        prop_assert!(decision.findings.len() <= crate::MAX_FINDINGS);
    }

    #[test]
    fn what_would_be_refused_is_what_is_reported(headers in headers()) {
        let with = |spec| policy(&[mesh(), validation_policy(&spec)]);
        let enforcing = with(json!({"rules": rules("refuse")}));
        let reporting = with(json!({"report_only": "all", "rules": rules("report")}));
        let pairs = view(&headers);
        let refused = matches!(
            enforcing.decide_stages(Stages::VALIDATION, &RequestView::new(&pairs), 0).verdict,
            Verdict::Refuse(_)
        );
        let decision = reporting.decide_stages(Stages::VALIDATION, &RequestView::new(&pairs), 0);
        prop_assert_eq!(refused, !decision.findings.is_empty());
    }
}
