//! gRPC's grammar, at both sides of its borders.

use serde_json::json;

use super::*;

#[test]
fn binary_values_are_base64_with_or_without_padding_alone_or_in_a_list() {
    let good: [&[u8]; 10] = [
        b"",
        b"Zg==",
        b"Zg",
        b"Zm8=",
        b"Zm8",
        b"Zm9v",
        b"+/+/",
        b"Zg==,Zm9v",
        b"Zg, Zm8=",
        b",",
    ];
    assert_accepted(&good, "x-data-bin");
    let broken: [&[u8]; 9] = [
        b"Z",
        b"Zm9vY",
        b"Zg=",
        b"Z===",
        b"Zg==Zg==",
        b"=",
        b"Z-_v",
        b"Zm 9v",
        b"Zm9v,Z",
    ];
    assert_refused(&broken, "x-data-bin", RefusalReason::MalformedBinaryValue);
    assert_accepted(&[b"Z"], "x-data-binary");
}

#[test]
fn names_that_grpc_reserves_are_refused_and_those_that_it_has_pass() {
    for (name, value) in [
        ("grpc-encoding", "gzip"),
        ("grpc-accept-encoding", "identity,gzip"),
        ("grpc-message-type", "pkg.Message"),
        ("grpc-previous-rpc-attempts", "2"),
        ("grpc-trace-bin", "AAA"),
        ("grpc-tags-bin", "AAA"),
        ("grpcish", "x"),
    ] {
        assert_accepted(&[value.as_bytes()], name);
    }
    for name in [
        "grpc-status",
        "grpc-message",
        "grpc-status-details-bin",
        "grpc-",
        "grpc-x",
    ] {
        assert_refused(&[b"AAAA"], name, RefusalReason::ReservedHeader);
    }
}

#[test]
fn compressions_are_names_in_lower_case() {
    let long = [b'a'; 65];
    assert_accepted(&[b"identity", b"gzip", b"x-custom.1", &long[1..]], "grpc-encoding");
    let broken: [&[u8]; 6] = [b"", b"GZIP", b"gzip,deflate", b"gz ip", b"gzip;q=1", &long];
    assert_refused(&broken, "grpc-encoding", RefusalReason::MalformedEncoding);
    assert_accepted(
        &[b"gzip", b"identity, deflate, gzip", b"identity,gzip"],
        "grpc-accept-encoding",
    );
    let broken: [&[u8]; 5] = [b"", b"gzip,", b",gzip", b"gzip,,br", b"gzip;q=0.5"];
    assert_refused(&broken, "grpc-accept-encoding", RefusalReason::MalformedAcceptEncoding);
}

#[test]
fn header_names_keep_to_grpcs_alphabet() {
    assert_accepted(&[b"x"], "a_b-c.9");
    for name in ["X-Upper", "x y", "x/y", "x:y", ":unknown", "", "stra\u{df}e"] {
        let refusal = refused(&one_version(), &[(name, b"x")]);
        assert_eq!(refusal.reason, RefusalReason::MalformedHeaderName, "{name}");
    }
}

#[test]
fn no_single_valued_header_may_come_twice() {
    for name in [
        ":path",
        ":method",
        ":authority",
        ":scheme",
        "te",
        "content-type",
        "grpc-timeout",
        "grpc-encoding",
        "grpc-accept-encoding",
        "x-model",
        "x-model-version",
        "x-canary-weight",
        "x-user-id",
        "x-tenant-id",
        "x-session-id",
        "x-gpu-affinity",
        "x-gpu-class",
        "x-trace-id",
        "traceparent",
        "x-priority",
        "x-sla",
    ] {
        let mut headers = request(&[]);
        let value = headers
            .iter()
            .find(|(it, _)| *it == name.as_bytes())
            .map_or(&b"x"[..], |(_, value)| *value);
        headers.push((name.as_bytes(), value));
        headers.push((name.as_bytes(), value));
        let policy = one_version();
        let view = RequestView::new(&headers);
        let Verdict::Refuse(refusal) = policy.decide(&view, 0).verdict else {
            panic!("{name} passes twice");
        };
        let has = |finding: &crate::Finding<'_>| {
            (finding.reason, finding.field.as_str()) == (RefusalReason::DuplicateHeader, name)
        };
        assert!(refusal.violations.iter().any(has), "{name}: {refusal:?}");
    }
}

#[test]
fn denied_methods_are_refused_and_deny_wins() {
    let policy = with_section(
        "methods",
        &json!({"allow": ["/a.S/M", "/b.S/*"], "deny": ["/b.S/Secret"]}),
    );
    for (path, is_allowed) in [
        ("/a.S/M", true),
        ("/a.S/N", false),
        ("/b.S/M", true),
        ("/b.S/Secret", false),
        ("/b.T/M", false),
        ("/a.S2/M", false),
    ] {
        let headers = with(":path", path.as_bytes());
        match policy
            .decide_stages(Stages::VALIDATION, &RequestView::new(&headers), 0)
            .verdict
        {
            Verdict::Pass => assert!(is_allowed, "{path} passes"),
            Verdict::Refuse(refusal) => {
                assert!(!is_allowed, "{path}: {refusal:?}");
                let expected = (RefusalReason::MethodNotAllowed, GrpcStatus::PermissionDenied, ":path");
                assert_eq!((refusal.reason, refusal.status, refusal.field.as_str()), expected);
            }
            Verdict::Route(_) => panic!("nothing routes"),
        }
    }
}
