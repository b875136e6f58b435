use super::*;
use crate::decision::{GrpcStatus, RefusalReason};

fn validation(spec: &Value) -> Value {
    json!({"api_version": "kilocard/v1", "kind": "ValidationPolicy", "metadata": {"name": "d"}, "spec": spec})
}

fn refused(spec: &Value) -> Vec<String> {
    violations(&validation(spec))
}

fn read(spec: &Value) -> ValidationPolicy {
    match document(&validation(spec)).spec() {
        Spec::Validation(policy) => policy.clone(),
        other => panic!("not a validation policy: {other:?}"),
    }
}

/// A document whose one rule has these fields besides a name and a header.
fn rule(fields: &Value) -> Value {
    let mut rule = json!({"name": "r", "header": "x-a"});
    for (name, value) in fields.as_object().unwrap() {
        rule[name] = value.clone();
    }
    json!({"rules": [rule]})
}

#[test]
fn what_is_absent_stays_absent_and_sections_get_their_defaults() {
    let empty = serde_json::to_value(document(&validation(&json!({})))).unwrap();
    assert_eq!(empty["spec"], json!({"rules": []}));
    let spec = json!({
        "limits": {"max_headers": 50}, "protocols": {}, "methods": {}, "internal_headers": "refuse", "refusal": {},
        "report_only": ["MALFORMED_SLA"], "rules": [{"name": "r", "header": "x-a", "required": true}],
    });
    let canonical = json!({
        "limits": {"max_header_value_bytes": 4096, "max_headers": 50, "max_headers_total_bytes": 32768},
        "protocols": {"grpc_web": "refuse", "http": "refuse"},
        "methods": {"deny": []},
        "internal_headers": "refuse",
        "refusal": {"status": "INVALID_ARGUMENT"},
        "report_only": ["MALFORMED_SLA"],
        "rules": [{"name": "r", "match": {"models": [], "methods": []}, "header": "x-a", "required": true, "action": "refuse"}],
    });
    assert_eq!(
        serde_json::to_value(document(&validation(&spec))).unwrap()["spec"],
        canonical
    );
}

#[test]
fn modes_and_statuses_are_words() {
    let found = refused(&json!({
        "protocols": {"grpc_web": "pass", "http": true}, "internal_headers": "Strip", "refusal": {"status": "NOT_FOUND"},
    }));
    let statuses =
        "INVALID_ARGUMENT, FAILED_PRECONDITION, PERMISSION_DENIED, UNAUTHENTICATED, UNIMPLEMENTED, UNAVAILABLE";
    let expected = [
        "spec.protocols.grpc_web: `pass` is not one of refuse, accept".to_owned(),
        "spec.protocols.http: must be a string, found a boolean".to_owned(),
        "spec.internal_headers: `Strip` is not one of strip, refuse".to_owned(),
        format!("spec.refusal.status: `NOT_FOUND` is not one of {statuses}"),
    ];
    assert_eq!(found, expected);
    for status in GrpcStatus::ALL {
        let chosen = json!({"refusal": {"status": status.label()}});
        assert_eq!(
            parse(&validation(&chosen)).is_ok(),
            !matches!(status, GrpcStatus::NotFound | GrpcStatus::ResourceExhausted)
        );
    }
}

#[test]
fn methods_are_whole_or_all_of_a_service() {
    let lists = json!({"methods": {"allow": ["/a.b.C/D", "/C/*"], "deny": ["/_a.C/D_1"]}});
    let methods = read(&lists).methods.unwrap();
    let allow = methods.allow.unwrap();
    assert_eq!(
        allow,
        [
            MethodPattern::Method("/a.b.C/D".to_owned()),
            MethodPattern::Service("/C/".to_owned())
        ]
    );
    for (path, expected) in [
        ("/C/D", true),
        ("/a.b.C/D", true),
        ("/a.b.C/DD", false),
        ("/CC/D", false),
        ("/C", false),
    ] {
        assert_eq!(
            allow.iter().any(|method| method.matches(path.as_bytes())),
            expected,
            "{path}"
        );
    }
    let long = format!("/a.B/{}", "m".repeat(256));
    for method in [
        "", "/", "/a.B", "a.B/C", "/a.B/C/D", "/*/C", "/a.B/C*", "/a..B/C", "/a-b.C/D", "/1.B/C", "*", &long,
    ] {
        let found = refused(&json!({"methods": {"deny": [method]}}));
        assert!(
            found[0].contains("is not a method: use /package.Service/Method"),
            "{method}: {found:?}"
        );
    }
    let found = refused(&json!({"methods": {"allow": [], "deny": ["/a.B/C", "/a.B/C"]}}));
    let expected = [
        "spec.methods.allow: has 0 elements; 1 to 1024 are allowed",
        "spec.methods.deny[1]: `/a.B/C` is already in spec.methods.deny[0]",
    ];
    assert_eq!(found, expected);
}

#[test]
fn only_checks_of_validation_can_be_reported() {
    assert_eq!(read(&json!({"report_only": "all"})).report_only, Some(ReportOnly::All));
    let some = read(&json!({"report_only": ["MALFORMED_SLA"]})).report_only.unwrap();
    assert!(some.covers(RefusalReason::MalformedSla) && !some.covers(RefusalReason::MalformedPath));
    for reason in RefusalReason::ALL {
        let listed = json!({"report_only": [reason.label()]});
        assert_eq!(
            parse(&validation(&listed)).is_ok(),
            reason.is_built_in_check(),
            "{reason}"
        );
    }
    let expected = ["spec.report_only: must be `all` or a list of reasons, like [MALFORMED_SLA]"];
    assert_eq!(refused(&json!({"report_only": "none"})), expected);
    assert_eq!(refused(&json!({"report_only": true})), expected);
}

#[test]
fn a_rule_demands_something() {
    let expected =
        ["spec.rules[0]: demands nothing: give required: true, or pattern, length, one_of, range, forbid, callers"];
    assert_eq!(refused(&rule(&json!({}))), expected);
    assert_eq!(
        refused(&rule(&json!({"required": false, "action": "report"}))),
        expected
    );
    for condition in [
        json!({"required": true}),
        json!({"pattern": "a+"}),
        json!({"length": {"max": 3}}),
        json!({"one_of": ["a", ""]}),
        json!({"range": {"min": 1}}),
        json!({"forbid": ["sql_injection"]}),
        json!({"callers": ["ops"]}),
    ] {
        assert!(parse(&validation(&rule(&condition))).is_ok(), "{condition}");
    }
}

#[test]
fn everything_wrong_with_a_rule_is_told_at_once() {
    let found = refused(&json!({"rules": [{
        "name": "R", "header": "X-A", "match": {"models": ["M"], "methods": ["/x"], "tenants": []}, "required": 1,
        "length": {"min": 5, "max": 4}, "one_of": ["é"], "range": {}, "forbid": ["evil", "sql_injection"],
        "callers": ["anyone"], "action": "warn", "status": "OK",
    }]}));
    let start: Vec<_> = found
        .iter()
        .map(|violation| violation.split(": ").next().unwrap())
        .collect();
    let expected = [
        "spec.rules[0].name",
        "spec.rules[0].match.tenants",
        "spec.rules[0].match.models[0]",
        "spec.rules[0].match.methods[0]",
        "spec.rules[0].header",
        "spec.rules[0].required",
        "spec.rules[0].length",
        "spec.rules[0].one_of[0]",
        "spec.rules[0].range",
        "spec.rules[0].forbid[0]",
        "spec.rules[0].callers",
        "spec.rules[0].action",
        "spec.rules[0].status",
    ];
    assert_eq!(start, expected, "{found:#?}");
}

#[test]
fn a_rule_is_about_a_header_that_clients_set() {
    for header in [
        ":path",
        ":authority",
        "content-length",
        "x_a.b-1",
        "grpc-timeout",
        "x-envoy-external-address",
    ] {
        assert!(
            parse(&validation(&rule(&json!({"header": header, "required": true})))).is_ok(),
            "{header}"
        );
    }
    let long = "a".repeat(129);
    for header in ["", ":method", ":status", "X-A", "x a", "x-é", "a:b", &long] {
        let found = refused(&rule(&json!({"header": header, "required": true})));
        assert!(
            found[0].contains("is not a header: use 1 to 128 lower-case letters"),
            "{found:?}"
        );
    }
    for header in ["x-kilocard-route", "x-envoy-max-retries"] {
        let found = refused(&rule(&json!({"header": header, "required": true})));
        assert!(found[0].contains("is a header that only the mesh sets"), "{found:?}");
    }
}

#[test]
fn a_pattern_compiles_within_bounds_or_is_refused_with_the_reason() {
    let pattern = |text: &str| rule(&json!({"pattern": text}));
    let words: Vec<_> = (10..60).map(|n| format!("model{n}")).collect();
    for text in [
        "[a-z0-9-]{1,128}",
        "(?i)gold|silver",
        r"\d{4}-\d{2}-\d{2}",
        ".*",
        &words.join("|"),
    ] {
        assert!(parse(&validation(&pattern(text))).is_ok(), "{text}");
    }
    for (text, reason) in [
        ("(a", "found open group without closing ')'"),
        ("a)|(b", "found closing ')' without matching '('"),
        ("(?x)a#b", "found open group without closing ')'"),
        (r"(a)\1", "backreferences are not supported"),
        ("(?=a)b", "look-around is not supported"),
        ("a{2,1}", "found counted repetition with a min bigger than its max"),
        (
            "(a{1000}){1000}",
            "compiled regex exceeded size limit; repetitions of repetitions multiply",
        ),
        (
            "((a{99}){99}){99}",
            "compiled regex exceeded size limit; repetitions of repetitions multiply",
        ),
        (
            "(){4294967295}",
            "compiled regex exceeded size limit; repetitions of repetitions multiply",
        ),
        (
            "(?:a?){0,4294967295}",
            "compiled regex exceeded size limit; repetitions of repetitions multiply",
        ),
        (
            &format!("{}a{}", "(".repeat(40), ")".repeat(40)),
            "pattern has too much nesting",
        ),
    ] {
        let found = refused(&pattern(text));
        let start = format!("spec.rules[0].pattern: is no regular expression that can be used: {reason}");
        assert!(found[0].starts_with(&start), "{text}: {found:?}");
    }
    for text in ["", &"a".repeat(513), "é", "a\nb"] {
        let expected = ["spec.rules[0].pattern: must be 1 to 512 printable ASCII characters"];
        assert_eq!(refused(&pattern(text)), expected);
    }
}

#[test]
fn a_pattern_is_for_the_whole_value() {
    let policy = read(&rule(&json!({"pattern": "a|b"})));
    let regex = policy.rules[0].pattern.as_ref().unwrap().compile().unwrap();
    assert!(regex.is_match("a") && regex.is_match("b"));
    assert!(!regex.is_match("ab") && !regex.is_match("a\n") && !regex.is_match("xb"));
}

#[test]
fn ranges_have_an_end_and_are_not_empty() {
    for (field, value, message) in [
        ("range", json!({}), "spec.rules[0].range: needs min, max or both"),
        (
            "range",
            json!({"min": 2, "max": 1}),
            "spec.rules[0].range: has min 2 above max 1: no number is in it",
        ),
        (
            "range",
            json!({"min": "1"}),
            "spec.rules[0].range.min: must be a number, found a string",
        ),
        (
            "range",
            json!({"max": null}),
            "spec.rules[0].range.max: must be a number, found null",
        ),
        (
            "range",
            json!([1, 2]),
            "spec.rules[0].range: must be an object, found an array",
        ),
        ("length", json!({}), "spec.rules[0].length: needs min, max or both"),
        (
            "length",
            json!({"min": 9, "max": 8}),
            "spec.rules[0].length: has min 9 above max 8: no value is that long",
        ),
        (
            "length",
            json!({"min": -1}),
            "spec.rules[0].length.min: must be an integer from 0 to 32768, found -1",
        ),
        (
            "length",
            json!({"max": 1e9}),
            "spec.rules[0].length.max: must be an integer from 0 to 32768, found 1000000000.0",
        ),
    ] {
        assert_eq!(refused(&rule(&json!({ field: value }))), [message]);
    }
    let policy = read(&rule(
        &json!({"range": {"min": -0.0, "max": 1e15}, "length": {"min": 3}}),
    ));
    let (range, length) = (policy.rules[0].range.unwrap(), policy.rules[0].length.unwrap());
    assert!(range.contains(0.0) && range.contains(1e15) && !range.contains(-1e-9) && !range.contains(f64::NAN));
    assert_eq!((length.min, length.max), (3, 32768));
    let written = serde_json::to_string(&range).unwrap();
    assert_eq!(written, r#"{"min":0,"max":1000000000000000}"#);
}

#[test]
fn an_end_of_a_range_is_of_a_size_that_survives_the_journey() {
    for number in [
        json!(0.1),
        json!(-99.95),
        json!(123_456_789.123_456),
        json!(1e-6),
        json!(-1e15),
        json!(0),
    ] {
        assert!(
            parse(&validation(&rule(&json!({"range": {"max": number}})))).is_ok(),
            "{number}"
        );
    }
    for number in [
        json!(0.123_456_789_012_345_6),
        json!(1e300),
        json!(-1.1e15),
        json!(1e-7),
        json!(5e-324),
        json!(u64::MAX),
    ] {
        let expected = [
            "spec.rules[0].range.max: must be 0 or a number of at most 15 digits, from 0.000001 to 1e15 or from -1e15 to -0.000001",
        ];
        assert_eq!(refused(&rule(&json!({"range": {"max": number}}))), expected, "{number}");
    }
}

/// JSON has neither NaN nor infinities, and a number too large for an `f64` is no number.
#[test]
fn numbers_that_are_none_are_refused() {
    for number in ["NaN", "Infinity", "-Infinity", "1e999", "0x10", "01", "+1", ".5"] {
        let json = serde_json::to_string(&validation(&rule(&json!({"range": {"min": 7777}})))).unwrap();
        let found = parse_bytes(json.replace("7777", number).as_bytes()).unwrap_err();
        assert!(found[0].message.starts_with("is not JSON: "), "{number}: {found:?}");
    }
}

#[test]
fn callers_of_a_rule_are_groups_and_not_everybody() {
    let expected = ["spec.rules[0].callers: has `anyone`, which restricts nothing: leave `callers` out"];
    assert_eq!(refused(&rule(&json!({"callers": ["anyone"]}))), expected);
    let expected = ["spec.rules[0].callers: has 0 elements; 1 to 64 are allowed"];
    assert_eq!(refused(&rule(&json!({"callers": []}))), expected);
    let expected =
        ["spec.rules[0].callers: has `anyone` and others: everybody is in `anyone`, so leave the others out"];
    assert_eq!(refused(&rule(&json!({"callers": ["ops", "anyone"]}))), expected);
}

#[test]
fn two_rules_of_one_name_are_told_apart_by_nobody() {
    let rule = json!({"name": "r", "header": "x-a", "required": true});
    let expected = ["spec.rules[1].name: `r` is already in spec.rules[0]"];
    assert_eq!(refused(&json!({"rules": [rule, rule]})), expected);
}
