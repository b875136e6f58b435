mod grpc;
mod inference;
mod laws;
mod modes;
mod rules;

use serde_json::json;

use super::grammar;
use crate::config::{HEADER_VALUE_BYTES, HEADERS, HEADERS_TOTAL_BYTES};
use crate::fixtures::{Refused, decide, default_routing, policy, refused, refused_headers, request, routed};
use crate::{GrpcStatus, Policy, RefusalReason, RequestView, Stages, Verdict};

fn one_version() -> Policy {
    policy(&[default_routing("m", &[("v1", 100.0)])])
}

fn validation_policy(spec: &serde_json::Value) -> serde_json::Value {
    json!({"api_version": "kilocard/v1", "kind": "ValidationPolicy", "metadata": {"name": "default"}, "spec": spec})
}

/// No models; one section of a ValidationPolicy.
fn with_section(name: &str, section: &serde_json::Value) -> Policy {
    policy(&[validation_policy(&json!({name: section}))])
}

fn with_limits(limits: &serde_json::Value) -> Policy {
    with_section("limits", limits)
}

/// A stock request with the value of one of its headers replaced.
fn with<'a>(name: &'a str, value: &'a [u8]) -> Vec<(&'a [u8], &'a [u8])> {
    let mut headers = request(&[]);
    headers.retain(|(candidate, _)| *candidate != name.as_bytes());
    headers.push((name.as_bytes(), value));
    headers
}

/// A stock request with the value of one of its headers replaced, or the header removed.
fn altered(name: &str, value: Option<&[u8]>) -> Refused {
    let mut headers = request(&[]);
    headers.retain(|(candidate, _)| *candidate != name.as_bytes());
    if let Some(value) = value {
        headers.push((name.as_bytes(), value));
    }
    refused_headers(&one_version(), &headers, Stages::ALL)
}

fn assert_refused(values: &[&[u8]], name: &str, reason: RefusalReason) {
    let policy = one_version();
    for value in values {
        let refusal = refused(&policy, &[(name, value)]);
        let shown = String::from_utf8_lossy(value);
        assert_eq!(
            (refusal.status, refusal.reason),
            (GrpcStatus::InvalidArgument, reason),
            "{name}: {shown:?}"
        );
        assert_eq!(refusal.field, name);
        assert!(refusal.message.starts_with(&format!("{name}: ")), "{}", refusal.message);
    }
}

fn assert_accepted(values: &[&[u8]], name: &str) {
    let policy = one_version();
    for value in values {
        let decision = decide(&policy, &[(name, value)], 0);
        assert!(
            matches!(decision.verdict, Verdict::Route(_)),
            "{name}: {}: {decision:?}",
            String::from_utf8_lossy(value)
        );
    }
}

#[test]
fn a_stock_request_passes() {
    assert_eq!(routed(&one_version(), &[], 0).version, "v1");
}

#[test]
fn content_types_of_grpc_pass_and_others_do_not() {
    let policy = one_version();
    for value in [
        "application/grpc",
        "application/grpc+proto",
        "application/grpc;a=b",
        "application/grpc+json; a=b",
    ] {
        let mut headers = request(&[]);
        headers.retain(|(name, _)| *name != b"content-type");
        headers.push((b"content-type", value.as_bytes()));
        assert!(
            matches!(policy.decide(&RequestView::new(&headers), 0).verdict, Verdict::Route(_)),
            "{value}"
        );
    }
    for value in [
        "text/plain",
        "application/grpc-web",
        "application/grpcx",
        "",
        "Application/JSON",
    ] {
        assert_eq!(
            altered("content-type", Some(value.as_bytes())).reason,
            RefusalReason::NotGrpc,
            "{value}"
        );
    }
    for value in ["application/grpc+", "application/grpc+;a", "application/grpc+pro to"] {
        assert_eq!(
            altered("content-type", Some(value.as_bytes())).reason,
            RefusalReason::MalformedContentType,
            "{value}"
        );
    }
    assert_eq!(altered("content-type", None).reason, RefusalReason::NotGrpc);
}

#[test]
fn only_post_is_grpc() {
    for value in [Some(b"GET".as_slice()), Some(b"post"), Some(b""), None] {
        assert_eq!(altered(":method", value).reason, RefusalReason::MalformedMethod);
    }
}

#[test]
fn paths_that_are_not_service_and_method_are_refused() {
    let paths = [
        "",
        "/",
        "//",
        "/a",
        "/a/",
        "/a/b/c",
        "a/b",
        "/a/b?x=1",
        "/a/b#f",
        "/a../b",
        "/.a/b",
        "/a.1b/c",
        "/a b/c",
        "/a/b%2f",
        "/../etc/passwd",
        "*",
    ];
    for path in paths {
        assert_eq!(
            altered(":path", Some(path.as_bytes())).reason,
            RefusalReason::MalformedPath,
            "{path}"
        );
    }
    assert_eq!(altered(":path", None).reason, RefusalReason::MalformedPath);
    assert!(grammar::is_path(b"/Service/Method"));
    assert!(grammar::is_path(b"/grpc.health.v1.Health/Check"));
}

#[test]
fn te_is_trailers_or_absent() {
    assert_eq!(altered("te", Some(b"gzip")).reason, RefusalReason::MalformedTe);
    assert_eq!(altered("te", Some(b"trailers,gzip")).reason, RefusalReason::MalformedTe);
    let mut headers = request(&[]);
    headers.retain(|(name, _)| *name != b"te");
    assert!(matches!(
        one_version().decide(&RequestView::new(&headers), 0).verdict,
        Verdict::Route(_)
    ));
}

#[test]
fn timeouts_are_one_to_eight_digits_and_a_unit() {
    assert_accepted(
        &[b"1H", b"2M", b"3S", b"250m", b"5u", b"99999999n", b"0n"],
        "grpc-timeout",
    );
    let broken: [&[u8]; 10] = [
        b"",
        b"S",
        b"10",
        b"123456789S",
        b"-1S",
        b"+1S",
        b"1.5S",
        b"1s",
        b"1 S",
        b"1Sx",
    ];
    assert_refused(&broken, "grpc-timeout", RefusalReason::MalformedTimeout);
}

#[test]
fn canary_weights_are_integers_from_0_to_100() {
    assert_accepted(&[b"0", b"7", b"100", b"007"], "x-canary-weight");
    let broken: [&[u8]; 9] = [
        b"",
        b"101",
        b"-1",
        b"+1",
        b"1.5",
        b"1e1",
        b"NaN",
        b"0100",
        b"99999999999999999999",
    ];
    assert_refused(&broken, "x-canary-weight", RefusalReason::MalformedCanaryWeight);
}

#[test]
fn models_and_versions_are_names() {
    let long = [b'a'; 65];
    let broken: [&[u8]; 7] = [b"", b".a", b"-a", b"a b", b"a/b", b"a,b", &long];
    assert_refused(&broken, "x-model", RefusalReason::MalformedModel);
    assert_refused(&broken, "x-model-version", RefusalReason::MalformedModelVersion);
}

#[test]
fn user_ids_keep_to_their_alphabet() {
    let longest = [b'a'; 128];
    let usual: [&[u8]; 5] = [
        b"ada@example.org",
        b"spiffe://mesh/ns/a/sa/b",
        b"Zm9vYg==",
        b"6f1e-44",
        &longest,
    ];
    assert_accepted(&usual, "x-user-id");
    let long = [b'a'; 129];
    let broken: [&[u8]; 5] = [b"", &long, b"a b", b"<script>alert(1)</script>", b"${jndi:ldap}"];
    assert_refused(&broken, "x-user-id", RefusalReason::MalformedUserId);
}

#[test]
fn an_injection_payload_is_located_and_not_echoed() {
    let refusal = refused(&one_version(), &[("x-user-id", b"ada'; DROP TABLE users; --")]);
    let expected = "x-user-id: the character at position 4 is not allowed; use letters, digits and . _ @ : + / = -";
    assert_eq!(refusal.message, expected);
}

#[test]
fn control_bytes_are_refused_in_any_header() {
    for value in [b"a\nb".as_slice(), b"a\0b", b"a\rb", b"\x7f", b"\t"] {
        let refusal = refused(&one_version(), &[("x-whatever", value)]);
        assert_eq!(
            (refusal.reason, refusal.field.as_str()),
            (RefusalReason::ControlBytes, "x-whatever")
        );
    }
}

#[test]
fn bytes_that_are_not_ascii_are_refused_in_any_header() {
    let values: [&[u8]; 4] = [b"\xff\xfe\x80", "Straße".as_bytes(), b"\x80", b"a\xa0"];
    assert_refused(&values, "x-whatever", RefusalReason::NonAsciiValue);
    assert_refused(&values, "x-user-id", RefusalReason::NonAsciiValue);
    assert_accepted(&[b"", b" ", b"~", b"{\"a\": 'b'}"], "x-whatever");
}

#[test]
fn a_header_that_may_come_once_is_refused_twice_even_if_equal() {
    for name in [
        "x-model",
        "x-model-version",
        "x-canary-weight",
        "x-user-id",
        "grpc-timeout",
    ] {
        let refusal = refused(&one_version(), &[(name, b"1S"), (name, b"1S")]);
        assert_eq!(
            (refusal.reason, refusal.field.as_str()),
            (RefusalReason::DuplicateHeader, name)
        );
    }
    let headers = request(&[("content-type", b"application/grpc")]);
    let refusal = refused_headers(&one_version(), &headers, Stages::ALL);
    assert_eq!(refusal.reason, RefusalReason::DuplicateHeader);
    assert_accepted(&[b"b"], "cookie");
}

#[test]
fn an_over_long_value_is_refused_at_one_byte_too_many() {
    let policy = with_limits(&json!({"max_header_value_bytes": 256}));
    let long = [b'a'; 257];
    let refusal = refused(&policy, &[("x-whatever", &long)]);
    assert_eq!(refusal.reason, RefusalReason::HeaderTooLong);
    assert_eq!(
        refusal.message,
        "x-whatever: is 257 bytes long; at most 256 are allowed"
    );
    // At the limit, only the missing model is left to complain about.
    assert_eq!(
        refused(&policy, &[("x-whatever", &long[..256])]).reason,
        RefusalReason::ModelRequired
    );
}

#[test]
fn too_many_headers_are_refused_at_one_too_many() {
    let policy = with_limits(&json!({"max_headers": 32}));
    let mut headers = request(&[]);
    headers.resize(32, (b"a", b""));
    assert_eq!(
        refused_headers(&policy, &headers, Stages::ALL).reason,
        RefusalReason::ModelRequired
    );
    headers.push((b"a", b""));
    let refusal = refused_headers(&policy, &headers, Stages::ALL);
    assert_eq!(refusal.reason, RefusalReason::TooManyHeaders);
    assert_eq!(refusal.message, "headers: there are 33; at most 32 are allowed");
}

#[test]
fn headers_that_are_too_long_in_total_are_refused_at_one_byte_too_many() {
    let policy = with_limits(&json!({"max_headers_total_bytes": 4096}));
    let used: usize = request(&[]).iter().map(|(name, value)| name.len() + value.len()).sum();
    let filler = vec![b'a'; 4096 - used - 1];
    assert_eq!(refused(&policy, &[("x", &filler)]).reason, RefusalReason::ModelRequired);
    let filler = vec![b'a'; 4096 - used];
    assert_eq!(
        refused(&policy, &[("x", &filler)]).reason,
        RefusalReason::HeadersTooLong
    );
}

/// The tightest limits there are, and what a stock client with tracing, deadline and user sends, as Envoy hands it on.
#[test]
fn no_valid_policy_refuses_every_stock_request() {
    let policy = with_limits(&json!({
        "max_header_value_bytes": HEADER_VALUE_BYTES.start(),
        "max_headers": HEADERS.start(),
        "max_headers_total_bytes": HEADERS_TOTAL_BYTES.start(),
    }));
    let tracestate = [b'a'; 256];
    let more: [(&str, &[u8]); 11] = [
        ("grpc-timeout", b"250m"),
        ("grpc-accept-encoding", b"identity, deflate, gzip"),
        ("accept-encoding", b"identity"),
        (
            "traceparent",
            b"00-4bf92f3577b34da6a3ce929d0e0e4736-00f067aa0ba902b7-01",
        ),
        ("tracestate", &tracestate),
        ("x-user-id", b"spiffe://example.org/ns/prod/sa/frontend"),
        ("x-forwarded-for", b"2001:db8:85a3:8d3:1319:8a2e:370:7348"),
        ("x-forwarded-proto", b"https"),
        ("x-envoy-external-address", b"2001:db8:85a3:8d3:1319:8a2e:370:7348"),
        ("x-request-id", b"7f8e5d6c-7a3b-4c2d-9e1f-0a1b2c3d4e5f"),
        ("x-kilocard-route", b"minilm/v1"),
    ];
    assert_eq!(refused(&policy, &more).reason, RefusalReason::ModelRequired);
}

#[test]
fn a_header_name_that_is_not_printable_is_not_echoed() {
    let long = [b'a'; 5000];
    let mut headers = request(&[]);
    headers.push((b"x-\xff\n", &long));
    let refusal = refused_headers(&one_version(), &headers, Stages::ALL);
    assert_eq!(
        refusal.message,
        "a header: is 5000 bytes long; at most 4096 are allowed"
    );
}

#[test]
fn without_the_validation_stage_routing_still_checks_what_it_reads() {
    let policy = one_version();
    let headers: [(&[u8], &[u8]); 1] = [(b"x-model", b"\xff")];
    assert_eq!(
        refused_headers(&policy, &headers, Stages::ROUTING).reason,
        RefusalReason::MalformedModel
    );
    let headers: [(&[u8], &[u8]); 2] = [(b"x-user-id", b"a"), (b"x-user-id", b"b")];
    assert_eq!(
        refused_headers(&policy, &headers, Stages::ROUTING).reason,
        RefusalReason::DuplicateHeader
    );
}

#[test]
fn without_the_routing_stage_there_is_no_route_and_no_need_for_a_model() {
    let policy = policy(&[]);
    let headers = request(&[]);
    assert_eq!(
        policy
            .decide_stages(Stages::VALIDATION, &RequestView::new(&headers), 0)
            .verdict,
        Verdict::Pass
    );
}
