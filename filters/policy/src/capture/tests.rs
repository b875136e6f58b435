use proptest::prelude::*;
use serde_json::json;

use super::*;
use crate::decision::RefusalReason;
use crate::fixtures::{default_routing, document, policy, request};

/// What the two decisions must have in common: everything but the wording, which may tell a position in a value.
fn essence(decision: &Decision<'_>) -> String {
    match &decision.verdict {
        Verdict::Refuse(refusal) => {
            let violations: Vec<_> = refusal
                .violations
                .iter()
                .map(|it| (it.reason, it.field.clone()))
                .collect();
            format!("{} {violations:?} {:?}", refusal.status, refusal.reached)
        }
        other => format!("{other:?}"),
    }
}

fn policies() -> Vec<Policy> {
    let rules = json!([
        {"name": "gold", "match": {"tenants": ["gold"]}, "versions": [{"version": "v2", "weight": 100}]},
        {"name": "beta", "match": {"headers": [{"name": "x-plain", "pattern": "b+"}, {"name": "x-other", "present": true}]},
            "versions": [{"version": "v3", "weight": 100}]},
    ]);
    let mut routing = default_routing("m", &[("v1", 60.0), ("v2", 30.0), ("v3", 10.0)]);
    routing["spec"]["rules"] = rules;
    routing["spec"]["sticky_by"] = json!(["tenant", "user", "session"]);
    let mut other = default_routing("m", &[("v1", 50.0), ("v2", 50.0)]);
    other["spec"]["salt"] = json!("another");
    other["spec"]["canary_override"] = json!(["anyone"]);
    let validation = json!({
        "api_version": "kilocard/v1", "kind": "ValidationPolicy", "metadata": {"name": "v"},
        "spec": {"limits": {"max_header_value_bytes": 1024}, "rules": [
            {"name": "short", "header": "x-other", "length": {"min": 1, "max": 20}},
            {"name": "team", "header": "x-plain", "one_of": ["a", "bb"]},
            {"name": "user", "header": "x-user-id", "required": true},
        ]},
    });
    let capture = json!({
        "api_version": "kilocard/v1", "kind": "MeshPolicy", "metadata": {"name": "mesh"},
        "spec": {"capture": {"percent": 50, "plain_headers": ["x-plain"]}},
    });
    vec![
        policy(&[routing.clone(), capture.clone()]),
        policy(&[routing, validation, capture.clone()]),
        policy(&[other, capture]),
    ]
}

fn circumstances(random: u64) -> Circumstances {
    Circumstances {
        stages: Stages::ALL,
        random,
        time: Some(Duration::from_micros(1_700_000_000_000_001)),
    }
}

fn captured(policy: &Policy, headers: &[(&[u8], &[u8])], random: u64) -> (String, Captured) {
    let view = RequestView::new(headers);
    let line = write(policy, &view, &policy.decide(&view, random), circumstances(random));
    let captured = Captured::parse(line.as_bytes()).unwrap().unwrap();
    (line, captured)
}

#[test]
fn who_asks_and_what_is_secret_is_not_kept() {
    let policies = policies();
    let headers = request(&[
        ("x-user-id", b"ada"),
        ("x-tenant-id", b"blue-tenant"),
        ("authorization", b"Bearer s3cret"),
        ("cookie", b"id=s3cret"),
        ("x-api-key", b"s3cret"),
        ("x-plain", b"bb"),
        (":path", b"/p.S/M?token=s3cret"),
    ]);
    let (line, captured) = captured(&policies[0], &headers, 1);
    for secret in ["ada", "blue-tenant", "s3cret"] {
        assert!(!line.contains(secret), "{secret} in {line}");
    }
    assert!(
        line.contains(r#"["x-plain","bb"]"#) && line.contains(r#"["x-tenant-id","#),
        "{line}"
    );
    assert!(!line.contains('\n') && line.is_ascii());
    let hashed: Vec<_> = captured
        .hashed()
        .map(|name| String::from_utf8_lossy(name).into_owned())
        .collect();
    assert_eq!(
        hashed,
        [
            "x-user-id",
            "x-tenant-id",
            "authorization",
            "cookie",
            "x-api-key",
            ":path"
        ]
    );
}

#[test]
fn a_line_of_the_access_log_has_its_capture_in_a_field() {
    let policies = policies();
    let (line, captured) = captured(&policies[0], &request(&[("x-user-id", b"ada")]), 1);
    for log in [
        json!({"path": "/", "capture": line}),
        json!({"capture": serde_json::from_str::<Value>(&line).unwrap()}),
    ] {
        assert_eq!(Captured::parse(log.to_string().as_bytes()).unwrap().unwrap(), captured);
    }
    for log in [json!({"path": "/"}), json!({"capture": null}), json!({"capture": "-"})] {
        assert_eq!(Captured::parse(log.to_string().as_bytes()), Ok(None));
    }
    for wrong in [
        "",
        "[]",
        r#"{"capture": 1}"#,
        r#"{"capture": "x"}"#,
        r#"{"headers": []}"#,
    ] {
        assert!(Captured::parse(wrong.as_bytes()).is_err(), "{wrong}");
    }
    assert_eq!(captured.decision()["rev"], "test-1");
}

#[test]
fn the_time_and_the_sample_are_kept_and_may_be_missing() {
    let (line, captured) = captured(&policies()[0], &request(&[]), 1);
    assert_eq!(captured.time(), circumstances(1).time);
    assert_eq!(captured.sample(), 500_000);
    let mut older: Value = serde_json::from_str(&line).unwrap();
    for field in ["time_us", "percent"] {
        older.as_object_mut().unwrap().remove(field).unwrap();
    }
    let older = Captured::parse(older.to_string().as_bytes()).unwrap().unwrap();
    assert_eq!((older.time(), older.sample()), (None, 1_000_000));
    for (field, wrong) in [
        ("time_us", json!(-1)),
        ("time_us", json!("now")),
        ("time_us", json!(u64::MAX)),
        ("percent", json!(0)),
        ("percent", json!(100.1)),
        ("percent", json!("all")),
    ] {
        let mut line: Value = serde_json::from_str(&line).unwrap();
        line[field] = wrong;
        let why = Captured::parse(line.to_string().as_bytes()).unwrap_err();
        assert!(why.contains(&format!("has a {field} that is not")), "{why}");
    }
}

#[test]
fn a_capture_that_would_be_too_long_says_that_headers_are_missing() {
    let policies = policies();
    let long = "b".repeat(900);
    let more: Vec<(&str, &[u8])> = std::iter::repeat_n(("x-plain", long.as_bytes()), 30).collect();
    let (line, captured) = captured(&policies[0], &request(&more), 1);
    assert!(
        line.len() <= MAX_CAPTURE_BYTES && line.len() > MAX_CAPTURE_BYTES - 1_000,
        "{}",
        line.len()
    );
    assert!(captured.is_truncated());
    assert!(captured.pairs().len() < more.len());
}

#[test]
fn rules_on_what_was_not_kept_are_named() {
    let routing = {
        let mut routing = default_routing("m", &[("v1", 100.0), ("v2", 0.0)]);
        routing["spec"]["rules"] = json!([{"name": "team", "match": {"headers": [{"name": "x-other", "one_of": ["a"]}]},
            "versions": [{"version": "v2", "weight": 100}]}]);
        document(&routing)
    };
    let validation = document(&json!({
        "api_version": "kilocard/v1", "kind": "ValidationPolicy", "metadata": {"name": "v"},
        "spec": {"rules": [
            {"name": "pattern", "header": "x-other", "pattern": "a+"},
            {"name": "length", "header": "x-other", "length": {"max": 3}},
            {"name": "absent", "header": "x-absent", "pattern": "a+"},
        ]},
    }));
    let (_, captured) = captured(&policies()[0], &request(&[("x-other", b"aa")]), 1);
    let documents = [routing, validation];
    let expected = [
        "RoutingPolicy/m: rule team (x-other)",
        "ValidationPolicy/v: rule pattern (x-other)",
    ];
    assert_eq!(captured.not_evaluable(&documents), expected);
    let policy = Policy::compile("1", &documents).unwrap();
    assert!(matches!(captured.decide(&policy).verdict, Verdict::Route(route) if route.version == "v1"));
}

#[test]
fn rules_on_a_path_with_a_query_are_named_and_left_out() {
    let validation = json!({
        "api_version": "kilocard/v1", "kind": "ValidationPolicy", "metadata": {"name": "v"},
        "spec": {"protocols": {"http": "route"}, "rules": [
            {"name": "path", "header": ":path", "forbid": ["path_traversal"]},
        ]},
    });
    let routing = default_routing("m", &[("v1", 100.0)]);
    let documents = [document(&validation), document(&routing)];
    let policy = Policy::compile("1", &documents).unwrap();
    let get = |path: &'static [u8]| -> [(&[u8], &[u8]); 2] { [(b":method", b"GET"), (b":path", path)] };
    let (line, with_query) = captured(&policy, &get(b"/files?of=../../etc"), 1);
    assert!(!line.contains("etc"), "{line}");
    assert_eq!(
        with_query.not_evaluable(&documents),
        ["ValidationPolicy/v: rule path (:path)"]
    );
    assert!(matches!(with_query.decide(&policy).verdict, Verdict::Route(_)));
    let (_, without) = captured(&policy, &get(b"/files/../../etc"), 1);
    assert!(without.not_evaluable(&documents).is_empty());
    assert!(matches!(without.decide(&policy).verdict, Verdict::Refuse(_)));
}

#[test]
fn a_binary_value_of_any_length_is_sound_again() {
    let policy = &policies()[0];
    for value in ["", ",", "AA", "AAA", "AAAA", "AA,AA", "AAAA,AAAA"] {
        let (line, captured) = captured(policy, &request(&[("x-data-bin", value.as_bytes())]), 1);
        assert!(matches!(captured.decide(policy).verdict, Verdict::Route(_)), "{line}");
    }
}

#[test]
fn a_line_cannot_ask_for_more_memory_than_a_request_can_have() {
    let line = |count: usize| {
        let headers = vec![json!(["x-other", "#0123456789abcdef:65536"]); count];
        json!({"v": 1, "random": "0", "stages": "routing", "headers": headers}).to_string()
    };
    assert!(Captured::parse(line(16).as_bytes()).is_ok());
    let error = Captured::parse(line(17).as_bytes()).unwrap_err();
    assert!(error.contains("more than 1048576 bytes"), "{error}");
}

#[test]
fn a_wrong_value_is_wrong_again() {
    let policies = policies();
    let cases: [(&str, &[u8], RefusalReason); 7] = [
        (":path", b"/a.B/C?q=\x01", RefusalReason::ControlBytes),
        (":path", "/a.B/C?q=\u{e9}".as_bytes(), RefusalReason::NonAsciiValue),
        ("x-user-id", b"a b", RefusalReason::MalformedUserId),
        ("x-other", b"a\x01", RefusalReason::ControlBytes),
        ("x-other", "caf\u{e9}".as_bytes(), RefusalReason::NonAsciiValue),
        ("x-data-bin", b"AA=A", RefusalReason::MalformedBinaryValue),
        ("x-model", b"no model", RefusalReason::MalformedModel),
    ];
    for (name, value, reason) in cases {
        let (_, captured) = captured(&policies[0], &request(&[(name, value)]), 1);
        match captured.decide(&policies[0]).verdict {
            Verdict::Refuse(refusal) => assert_eq!(refusal.reason, reason, "{name}"),
            other => panic!("{name}: {other:?}"),
        }
    }
}

/// Values of all kinds: fit, wrong, binary.
fn value() -> impl Strategy<Value = Vec<u8>> {
    prop_oneof![
        4 => "[a-z0-9@.]{1,24}".prop_map(String::into_bytes),
        1 => prop::sample::select(vec!["gold", "a", "bb", "v2", "50", "m", "AA==", "AA,AA", "#0123456789abcdef:3"])
            .prop_map(|text| text.as_bytes().to_vec()),
        1 => "[ -~]{0,40}".prop_map(String::into_bytes),
        1 => prop::collection::vec(any::<u8>(), 0..40),
    ]
}

proptest! {
    #[test]
    fn a_capture_is_decided_like_the_request(
        headers in prop::collection::vec((prop::sample::select(vec![
            "x-user-id", "x-tenant-id", "x-session-id", "x-plain", "x-other", "x-data-bin", "x-model", "x-model-version",
            "x-canary-weight", "x-kilocard-route", "authorization",
        ]), value()), 0..6),
        random: u64,
        by in 0_usize..3,
    ) {
        let policies = policies();
        let more: Vec<_> = headers.iter().map(|(name, value)| (*name, value.as_slice())).collect();
        let headers = request(&more);
        let (line, captured) = captured(&policies[by], &headers, random);
        prop_assert!(line.len() <= MAX_CAPTURE_BYTES && line.is_ascii());
        for policy in &policies {
            let now = policy.decide(&RequestView::new(&headers), random);
            prop_assert_eq!(essence(&captured.decide(policy)), essence(&now));
        }
    }

    #[test]
    fn arbitrary_lines_never_panic(line in prop::collection::vec(any::<u8>(), 0..200), value in "#[0-9a-f]{16}:[0-9]{0,22}(![0-9a-f]{0,3})?") {
        let _ = Captured::parse(&line);
        let line = json!({"v": 1, "random": "0", "stages": "routing", "headers": [["x-user-id", value]]}).to_string();
        if let Ok(Some(captured)) = Captured::parse(line.as_bytes()) {
            let _ = captured.decide(&policies()[0]);
        }
    }
}
