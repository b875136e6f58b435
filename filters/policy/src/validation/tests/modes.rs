//! Protocols, internal headers, report-only, and refusals that tell everything.

use serde_json::json;

use super::*;
use crate::MAX_FINDINGS;

fn validated<'p>(policy: &'p Policy, headers: &[(&[u8], &[u8])]) -> crate::Decision<'p> {
    policy.decide_stages(Stages::VALIDATION, &RequestView::new(headers), 0)
}

#[test]
fn grpc_web_is_refused_unless_the_policy_accepts_it() {
    let accepting = with_section("protocols", &json!({"grpc_web": "accept"}));
    for value in [
        "application/grpc-web",
        "application/grpc-web-text+proto",
        "application/grpc-web+proto;a=b",
    ] {
        let mut headers = with("content-type", value.as_bytes());
        assert_eq!(
            refused_headers(&one_version(), &headers, Stages::ALL).reason,
            RefusalReason::NotGrpc
        );
        // Browsers send none, or what they like.
        headers.push((b"x-user-agent", b"grpc-web-javascript/0.1"));
        headers.retain(|(name, _)| *name != b"te");
        headers.push((b"te", b"deflate"));
        assert_eq!(validated(&accepting, &headers).verdict, Verdict::Pass, "{value}");
        headers.push((b"grpc-timeout", b"soon"));
        let refusal = refused_headers(&accepting, &headers, Stages::VALIDATION);
        assert_eq!(refusal.reason, RefusalReason::MalformedTimeout);
    }
    for value in ["application/grpc-webx", "application/grpc-web-textual"] {
        let headers = with("content-type", value.as_bytes());
        let refusal = refused_headers(&accepting, &headers, Stages::VALIDATION);
        assert_eq!(refusal.reason, RefusalReason::NotGrpc, "{value}");
    }
}

const PLAIN: [(&[u8], &[u8]); 4] = [
    (b":method", b"GET"),
    (b":path", b"/healthz?full=1"),
    (b":authority", b"mesh.example.org"),
    (b"accept", b"*/*"),
];

#[test]
fn plain_http_is_refused_passed_or_routed_as_the_policy_says() {
    assert_eq!(
        refused_headers(&one_version(), &PLAIN, Stages::ALL).reason,
        RefusalReason::NotGrpc
    );
    let documents = |mode: &str| {
        policy(&[
            default_routing("m", &[("v1", 100.0)]),
            validation_policy(&json!({"protocols": {"http": mode}})),
        ])
    };
    let passing = documents("pass");
    let mut odd = PLAIN.to_vec();
    odd.push((b"x-model", b"\xff"));
    for stages in [Stages::ALL, Stages::VALIDATION, Stages::ROUTING] {
        let decision = passing.decide_stages(stages, &RequestView::new(&odd), 0);
        assert_eq!(decision.verdict, Verdict::Pass);
    }
    let routing = documents("route");
    let decision = routing.decide(&RequestView::new(&PLAIN), 0);
    assert!(matches!(decision.verdict, Verdict::Route(_)), "{decision:?}");
    assert_eq!(
        refused_headers(&routing, &odd, Stages::ALL).reason,
        RefusalReason::NonAsciiValue
    );
    let mut own = PLAIN.to_vec();
    own.push((b"grpc-whatever", b"x"));
    own.push((b"x-data-bin", b"!"));
    let decision = routing.decide(&RequestView::new(&own), 0);
    assert!(
        matches!(decision.verdict, Verdict::Route(_)),
        "gRPC's own grammar is not for HTTP: {decision:?}"
    );
    let refusal = refused(&passing, &[("x-sla", b"")]);
    assert_eq!(refusal.reason, RefusalReason::MalformedSla, "gRPC is still checked");
}

#[test]
fn a_denied_method_is_denied_in_plain_http_too() {
    let policy = policy(&[validation_policy(&json!({
        "protocols": {"http": "route"},
        "methods": {"allow": ["/a.S/M"], "deny": ["/a.S/Secret"]},
    }))]);
    let mut headers = PLAIN.to_vec();
    assert_eq!(validated(&policy, &headers).verdict, Verdict::Pass);
    headers[1].1 = b"/a.S/Secret?x=1";
    let refusal = refused_headers(&policy, &headers, Stages::VALIDATION);
    assert_eq!(refusal.reason, RefusalReason::MethodNotAllowed);
}

#[test]
fn internal_headers_are_refused_where_the_policy_says_so() {
    let refusing = with_section("internal_headers", &json!("refuse"));
    for name in [
        "x-kilocard-route",
        "x-envoy-max-retries",
        "x-gateway-destination-endpoint",
    ] {
        let headers = request(&[(name, b"x")]);
        assert_eq!(validated(&one_version(), &headers).verdict, Verdict::Pass, "{name}");
        let refusal = refused_headers(&refusing, &headers, Stages::VALIDATION);
        assert_eq!(
            (refusal.reason, refusal.field.as_str()),
            (RefusalReason::InternalHeader, name)
        );
    }
    let headers = request(&[("x-envoy-external-address", b"192.0.2.1")]);
    assert_eq!(validated(&refusing, &headers).verdict, Verdict::Pass);
}

#[test]
fn a_refusal_tells_everything_that_is_wrong_within_a_bound() {
    let headers = request(&[
        ("x-sla", b""),
        ("x-priority", b"now"),
        ("x-data-bin", b"!"),
        ("grpc-timeout", b"1"),
    ]);
    let policy = one_version();
    let Verdict::Refuse(refusal) = validated(&policy, &headers).verdict else {
        panic!("passes");
    };
    let mut fields: Vec<_> = refusal
        .violations
        .iter()
        .map(|finding| finding.field.as_str())
        .collect();
    assert_eq!(fields[0], refusal.field);
    assert_eq!(refusal.violations[0].message, refusal.message);
    fields.sort_unstable();
    assert_eq!(fields, ["grpc-timeout", "x-data-bin", "x-priority", "x-sla"]);
    let names: Vec<_> = (0..60).map(|at| format!("x-h{at}")).collect();
    let mut headers = request(&[]);
    headers.extend(names.iter().map(|name| (name.as_bytes(), &b"\n"[..])));
    let Verdict::Refuse(refusal) = validated(&policy, &headers).verdict else {
        panic!("passes");
    };
    assert_eq!(refusal.violations.len(), MAX_FINDINGS);
}

#[test]
fn the_policy_chooses_the_status_of_refusals() {
    let policy = with_section("refusal", &json!({"status": "FAILED_PRECONDITION"}));
    let refusal = refused_headers(&policy, &request(&[("x-sla", b"")]), Stages::VALIDATION);
    assert_eq!(refusal.status, GrpcStatus::FailedPrecondition);
}

#[test]
fn what_is_only_reported_passes_and_is_told_beside_the_verdict() {
    let policy = with_section("report_only", &json!(["MALFORMED_SLA"]));
    let decision = validated(&policy, &request(&[("x-sla", b"")]));
    assert_eq!(decision.verdict, Verdict::Pass);
    let found: Vec<_> = decision
        .findings
        .iter()
        .map(|finding| (finding.reason, finding.field.as_str()))
        .collect();
    assert_eq!(found, [(RefusalReason::MalformedSla, "x-sla")]);
    let refusal = refused_headers(&policy, &request(&[("x-priority", b"")]), Stages::VALIDATION);
    assert_eq!(refusal.reason, RefusalReason::MalformedPriority);
}

#[test]
fn what_is_denied_is_denied_to_plain_http_that_passes_too() {
    let policy = policy(&[validation_policy(&json!({
        "protocols": {"http": "pass"},
        "methods": {"deny": ["/inference.GRPCInferenceService/ModelInfer"]},
    }))]);
    for value in ["application/json", "text/html, application/grpc", ""] {
        let mut headers = with("content-type", value.as_bytes());
        let refusal = refused_headers(&policy, &headers, Stages::VALIDATION);
        assert_eq!(refusal.reason, RefusalReason::MethodNotAllowed, "{value}");
        headers.retain(|(name, _)| *name != b":path");
        headers.push((b":path", b"/healthz"));
        assert_eq!(validated(&policy, &headers).verdict, Verdict::Pass, "{value}");
    }
}

#[test]
fn two_content_types_that_envoy_joins_are_no_plain_http() {
    let passing = with_section("protocols", &json!({"http": "pass"}));
    let headers = with("content-type", b"application/grpc,text/html");
    let refusal = refused_headers(&passing, &headers, Stages::VALIDATION);
    assert_eq!(refusal.reason, RefusalReason::MalformedContentType);
}
