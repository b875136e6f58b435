use proptest::prelude::*;
use serde_json::{Value, json};

use super::*;
use crate::fixtures::{default_routing, document, routing};

mod admission;
mod canonical;
mod cohorts;
mod many;
mod mesh;
mod pool;
mod rate_limits;
mod routing;
mod scale;
mod schema;
mod validation;
mod weights;

fn violations(json: &Value) -> Vec<String> {
    strings(parse(json).unwrap_err())
}

#[allow(clippy::needless_pass_by_value, reason = "takes what unwrap_err() gives")]
fn strings(violations: Vec<Violation>) -> Vec<String> {
    violations.iter().map(Violation::to_string).collect()
}

/// A valid RoutingPolicy with one value of its spec replaced.
fn with_spec(field: &str, value: Value) -> Value {
    let mut document = routing("m", &[("v1", 90.0), ("v2", 10.0)]);
    document["spec"][field] = value;
    document
}

#[test]
fn a_routing_policy_gets_its_defaults() {
    let document = document(&routing("minilm", &[("v1", 90.0), ("v2", 10.0)]));
    assert_eq!(
        (document.kind(), document.name(), document.id().as_str()),
        (Kind::RoutingPolicy, "minilm", "RoutingPolicy/minilm")
    );
    let Spec::Routing(policy) = document.spec() else {
        panic!("not a routing policy")
    };
    assert_eq!((policy.model.as_str(), policy.salt.as_str()), ("minilm", "minilm"));
    assert!(!policy.default && policy.canary_override.is_empty());
}

#[test]
fn the_canonical_json_spells_out_every_default() {
    let written = serde_json::to_value(document(&routing("m", &[("v1", 87.5), ("v2", 12.5), ("v3", 0.0)]))).unwrap();
    let expected = json!({
        "api_version": "kilocard/v1",
        "kind": "RoutingPolicy",
        "metadata": {"name": "m"},
        "spec": {
            "model": "m", "default": false, "salt": "m", "sticky_by": ["user"], "canary_override": [],
            "pinned_fallback": false,
            "versions": [
                {"version": "v1", "weight": 87.5, "fallback": []},
                {"version": "v2", "weight": 12.5, "fallback": ["v1"]},
                {"version": "v3", "weight": 0, "fallback": ["v1"]},
            ],
            "rules": [],
        },
    });
    assert_eq!(written, expected);
    let empty = json!({"api_version": "kilocard/v1", "kind": "ValidationPolicy", "metadata": {"name": "default"}, "spec": {"limits": {}}});
    let limits = json!({"max_header_value_bytes": 4096, "max_headers": 100, "max_headers_total_bytes": 32768});
    assert_eq!(
        serde_json::to_value(document(&empty)).unwrap()["spec"]["limits"],
        limits
    );
}

#[test]
fn every_violation_is_reported_with_its_path() {
    let json = json!({
        "api_version": "kilocard/v2",
        "kind": "RoutingPolicy",
        "metadata": {"name": "Mini LM", "labels": {}},
        "spec": {
            "model": 7,
            "defualt": true,
            "canary_override": "yes",
            "versions": [{"version": "", "weight": 101}, {"weight": "10%"}, 5],
        },
        "status": null,
    });
    let name = "1 to 63 lower-case letters, digits, `.`, `_` or `-`, and begin with a letter or a digit";
    let expected = [
        "status: unknown field; the fields here are api_version, kind, metadata, spec".to_owned(),
        "api_version: `kilocard/v2` is not supported; this release reads kilocard/v1".to_owned(),
        "metadata.labels: unknown field; the fields here are name".to_owned(),
        format!("metadata.name: `Mini LM` is not a name: use {name}"),
        "spec.defualt: unknown field; the fields here are model, default, model_type, priority, salt, sticky_by, canary_override, pinned_fallback, gpu, shadow, versions, cohorts, rules"
            .to_owned(),
        "spec.model: must be a string, found a number".to_owned(),
        "spec.canary_override: must be an array, found a string".to_owned(),
        "spec.versions[0].version: `` is not a version: use 1 to 63 lower-case letters and digits, with single `.`, `_` or `-` between them".to_owned(),
        "spec.versions[0].weight: must be a percentage from 0 to 100 with at most 2 decimals, found 101".to_owned(),
        "spec.versions[1].version: is required".to_owned(),
        "spec.versions[1].weight: must be a percentage from 0 to 100, found a string".to_owned(),
        "spec.versions[2]: must be an object, found a number".to_owned(),
    ];
    assert_eq!(violations(&json), expected);
}

#[test]
fn an_empty_document_lacks_all_its_parts() {
    let expected = [
        "api_version: is required",
        "kind: is required",
        "metadata: is required",
        "spec: is required",
    ];
    assert_eq!(violations(&json!({})), expected);
    assert_eq!(violations(&json!([])), ["must be an object, found an array"]);
    assert_eq!(violations(&json!(null)), ["must be an object, found null"]);
}

#[test]
fn an_unknown_kind_names_the_kinds_there_are() {
    let mut document = routing("m", &[("v1", 100.0)]);
    document["kind"] = json!("RateLimit");
    assert_eq!(
        violations(&document),
        [
            "kind: `RateLimit` is not a kind; the kinds are RoutingPolicy, ValidationPolicy, MeshPolicy, PoolPolicy, \
             WeightPolicy, RateLimitPolicy, AdmissionPolicy, ScalePolicy, TimeoutPolicy"
        ]
    );
    assert!(Kind::ALL.iter().all(|kind| kind.as_str().parse() == Ok(*kind)));
}

#[test]
fn weights_sum_to_exactly_100() {
    let sum = |weights: &[f64]| {
        let versions = weights
            .iter()
            .enumerate()
            .map(|(n, weight)| json!({"version": format!("v{n}"), "weight": weight}));
        parse(&with_spec("versions", json!(versions.collect::<Vec<_>>())))
    };
    assert!(sum(&[33.33, 33.33, 33.34]).is_ok());
    assert!(sum(&[99.99, 0.01]).is_ok());
    let expected = ["spec.versions: the weights sum to 99.99; they must sum to exactly 100"];
    assert_eq!(strings(sum(&[33.33, 33.33, 33.33]).unwrap_err()), expected);
    let expected = ["spec.versions: the weights sum to 100.01; they must sum to exactly 100"];
    assert_eq!(strings(sum(&[50.0, 50.01]).unwrap_err()), expected);
}

#[test]
fn a_weight_with_more_than_two_decimals_is_refused_however_small_the_rest() {
    for weight in [
        json!(12.345),
        json!(33.333_333),
        json!(10.000_000_001),
        json!(-0.01),
        json!(100.01),
        json!(1e300),
    ] {
        let found = violations(&with_spec("versions", json!([{"version": "v1", "weight": weight}])));
        assert!(
            found.len() == 1 && found[0].starts_with("spec.versions[0].weight: must be a percentage"),
            "{found:?}"
        );
    }
}

#[test]
fn a_version_twice_names_where_it_was_first() {
    let versions =
        json!([{"version": "v1", "weight": 50}, {"version": "v2", "weight": 0}, {"version": "v1", "weight": 50}]);
    let expected = ["spec.versions[2].version: `v1` is already in spec.versions[0]"];
    assert_eq!(violations(&with_spec("versions", versions)), expected);
}

/// What workers accept: a version that only policies know would get its share of the users and serve none of them.
#[test]
fn documents_models_and_versions_share_one_grammar() {
    let good = ["v2", "0", "2026.11", "a-b_c.d", &"a".repeat(63)];
    let bad = [
        "",
        "V2",
        "v2B",
        ".v2",
        "-v2",
        "_v2",
        "v 2",
        "v/2",
        "v2\n",
        "vé",
        &"a".repeat(64),
    ];
    for (text, expected) in good
        .map(|text| (text, true))
        .into_iter()
        .chain(bad.map(|text| (text, false)))
    {
        assert_eq!(is_name(text), expected, "{text:?}");
        let mut named = routing("m", &[("v1", 100.0)]);
        named["metadata"]["name"] = json!(text);
        let documents = [
            named,
            with_spec("model", json!(text)),
            with_spec("versions", json!([{"version": text, "weight": 100}])),
        ];
        for document in documents {
            assert_eq!(parse(&document).is_ok(), expected, "{document}");
        }
    }
}

#[test]
fn a_version_has_something_between_its_separators() {
    for (text, expected) in [
        ("v2-rc.1", true),
        ("2026.11_a", true),
        ("v2-", false),
        ("1..2", false),
        ("v2.-1", false),
    ] {
        assert!(is_name(text) && is_version(text) == expected, "{text}");
        let versions = json!([{"version": text, "weight": 100}]);
        assert_eq!(parse(&with_spec("versions", versions)).is_ok(), expected, "{text}");
    }
}

#[test]
fn a_canary_header_needs_exactly_two_versions() {
    let mut document = routing("m", &[("v1", 100.0)]);
    document["spec"]["canary_override"] = json!(["anyone"]);
    let expected = ["spec.canary_override: needs exactly two versions, the second being the canary; there are 1"];
    assert_eq!(violations(&document), expected);
    assert!(parse(&with_spec("canary_override", json!(["anyone"]))).is_ok());
}

#[test]
fn versions_are_1_to_64() {
    assert_eq!(
        violations(&with_spec("versions", json!([]))),
        ["spec.versions: has 0 elements; 1 to 64 are allowed"]
    );
    let many: Vec<_> = (0..65)
        .map(|n| json!({"version": format!("v{n}"), "weight": if n == 0 { 100 } else { 0 }}))
        .collect();
    assert_eq!(
        violations(&with_spec("versions", json!(many))),
        ["spec.versions: has 65 elements; 1 to 64 are allowed"]
    );
    assert!(parse(&with_spec("versions", json!(many[..64]))).is_ok());
}

#[test]
fn a_salt_is_bounded_printable_text() {
    for salt in [String::new(), "a".repeat(129), "a\0b".to_owned(), "a\nb".to_owned()] {
        let expected = ["spec.salt: must be 1 to 128 bytes without control characters"];
        assert_eq!(violations(&with_spec("salt", json!(salt))), expected);
    }
}

#[test]
fn limits_have_bounds_and_must_agree() {
    let document = |limits: Value| json!({"api_version": "kilocard/v1", "kind": "ValidationPolicy", "metadata": {"name": "d"}, "spec": {"limits": limits}});
    assert!(parse(&document(json!({"max_headers": 32}))).is_ok());
    let found = violations(&document(
        json!({"max_headers": 31, "max_header_value_bytes": 1.5, "max_headers_total_bytes": -1}),
    ));
    let expected = [
        "spec.limits.max_header_value_bytes: must be an integer from 256 to 32768, found 1.5",
        "spec.limits.max_headers: must be an integer from 32 to 500, found 31",
        "spec.limits.max_headers_total_bytes: must be an integer from 4096 to 131072, found -1",
    ];
    assert_eq!(found, expected);
    let found = violations(&document(
        json!({"max_header_value_bytes": 8192, "max_headers_total_bytes": 4096}),
    ));
    assert_eq!(found.len(), 1);
    assert!(
        found[0].starts_with("spec.limits.max_headers_total_bytes: is 4096, less than max_header_value_bytes, 8192")
    );
}

#[test]
fn text_that_is_not_json_says_where() {
    let found = strings(parse_bytes(b"{\"kind\": ").unwrap_err());
    assert_eq!(found, ["is not JSON: EOF while parsing a value at line 1 column 9"]);
    assert_eq!(
        strings(parse_bytes(b"{} x").unwrap_err()),
        ["is not JSON: trailing characters at line 1 column 4"]
    );
    assert!(parse_bytes(b"\xff\xfe").is_err());
}

#[test]
fn a_field_given_twice_is_refused() {
    let json = br#"{"api_version":"kilocard/v1","kind":"RoutingPolicy","metadata":{"name":"m"},
        "spec":{"model":"m","versions":[{"version":"v1","weight":10,"weight":100}]}}"#;
    assert_eq!(
        strings(parse_bytes(json).unwrap_err()),
        ["spec.versions[0].weight: is given twice"]
    );
}

/// 100 levels of long names over thousands of repeated keys: all paths together would be more than 100 MB.
#[test]
fn keys_given_twice_without_end_are_counted_and_not_kept() {
    let level = format!("{{\"{}\":", "n".repeat(64));
    let twice = vec!["\"k\":0"; 40_000].join(",");
    let json = format!("{}{{{twice}}}{}", level.repeat(100), "}".repeat(100));
    assert!(json.len() <= MAX_DOCUMENT_BYTES);
    let found = strings(parse_bytes(json.as_bytes()).unwrap_err());
    assert_eq!(found.len(), 65);
    assert!(
        found[..64]
            .iter()
            .all(|violation| violation.ends_with("n.k: is given twice"))
    );
    // The unknown field at the top and the four that a document must have are left out as well.
    assert_eq!(
        found[64],
        format!("{} further violations are left out", 39_999 - 64 + 5)
    );
}

#[test]
fn a_document_that_is_too_long_is_refused_unread() {
    let found = strings(parse_bytes(&vec![b' '; MAX_DOCUMENT_BYTES + 1]).unwrap_err());
    assert_eq!(found, ["is 262145 bytes of JSON; at most 262144 are allowed"]);
}

#[test]
fn nesting_without_end_is_refused() {
    assert!(strings(parse_bytes(&vec![b'['; 100_000]).unwrap_err())[0].contains("recursion limit"));
}

#[test]
fn the_report_is_bounded_and_says_what_it_leaves_out() {
    let fields: serde_json::Map<_, _> = (0..1000).map(|n| (format!("x{n}"), json!(0))).collect();
    let found = violations(&Value::Object(fields));
    assert_eq!(found.len(), 65);
    assert_eq!(found[64], "940 further violations are left out");
}

#[test]
fn a_hostile_field_name_is_escaped_and_cut() {
    let found = violations(&json!({ format!("\u{1b}[31m{}", "a".repeat(500)): 1 }));
    assert!(
        found[0].starts_with("[`\\u{1b}[31maaa") && found[0].len() < 200,
        "{}",
        found[0]
    );
}

#[test]
fn a_filter_configuration_survives_the_journey() {
    let config = FilterConfig {
        sync_cluster: Some("control-plane".to_owned()),
        revision: "etcd-42".to_owned(),
        documents: vec![document(&default_routing("m", &[("v1", 99.5), ("v2", 0.5)]))],
        state: MeshState {
            unready: vec!["m/v1".to_owned(), "m/v2".to_owned()],
            saturated: vec!["m/v2".to_owned()],
        },
    };
    let json = serde_json::to_vec(&config).unwrap();
    assert_eq!(FilterConfig::parse(&json), Ok(config));
    assert_eq!(FilterConfig::parse(b""), Ok(FilterConfig::default()));
    let empty = serde_json::to_vec(&FilterConfig::default()).unwrap();
    assert_eq!(FilterConfig::parse(&empty), Ok(FilterConfig::default()));
}

#[test]
fn a_filter_configuration_reports_every_document_by_its_index() {
    let good = routing("m", &[("v1", 100.0)]);
    let bad = with_spec("model", json!("M"));
    let json = serde_json::to_vec(&json!({"revision": 3, "documents": [good, bad, 1], "more": 0})).unwrap();
    let found = strings(FilterConfig::parse(&json).unwrap_err());
    assert_eq!(found.len(), 4, "{found:?}");
    assert_eq!(
        found[0],
        "more: unknown field; the fields here are revision, documents, state, sync_cluster"
    );
    assert_eq!(found[1], "revision: must be a string, found a number");
    assert!(found[2].starts_with("documents[1].spec.model: `M` is not a name"));
    assert_eq!(found[3], "documents[2]: must be an object, found a number");
}

fn any_json() -> impl Strategy<Value = Value> {
    let field = prop::sample::select(vec![
        "api_version",
        "kind",
        "metadata",
        "spec",
        "name",
        "model",
        "versions",
        "version",
        "weight",
        "limits",
        "rules",
        "match",
        "callers",
        "gpu_classes",
        "select",
        "pattern",
        "cohorts",
        "x",
    ]);
    let leaf = prop_oneof![
        Just(Value::Null),
        any::<bool>().prop_map(Value::from),
        any::<f64>().prop_map(Value::from),
        any::<i64>().prop_map(Value::from),
        ".{0,12}".prop_map(Value::from),
        prop::sample::select(vec![
            "kilocard/v1",
            "RoutingPolicy",
            "ValidationPolicy",
            "MeshPolicy",
            "WeightPolicy",
            "ScalePolicy"
        ])
        .prop_map(Value::from),
    ];
    leaf.prop_recursive(5, 64, 6, move |inner| {
        prop_oneof![
            prop::collection::vec(inner.clone(), 0..6).prop_map(Value::from),
            prop::collection::vec((field.clone(), inner), 0..6).prop_map(|fields| fields
                .into_iter()
                .map(|(name, value)| (name.to_owned(), value))
                .collect::<Value>()),
        ]
    })
}

proptest! {
    #[test]
    fn arbitrary_bytes_never_panic_and_errors_are_never_empty(json in prop::collection::vec(any::<u8>(), 0..400)) {
        if let Err(found) = parse_bytes(&json) {
            prop_assert!(!found.is_empty());
        }
        let _ = FilterConfig::parse(&json);
    }

    #[test]
    fn arbitrary_json_never_panics_and_errors_are_never_empty(json in any_json()) {
        if let Err(found) = parse(&json) {
            prop_assert!(!found.is_empty());
            prop_assert!(found.iter().all(|violation| !violation.to_string().chars().any(char::is_control)));
        }
    }

    #[test]
    fn a_weight_is_accepted_if_and_only_if_it_has_at_most_two_decimals(thousandths in 0..=100_000_u32) {
        let text = format!("{}.{:03}", thousandths / 1000, thousandths % 1000);
        let weight: Value = serde_json::from_str(&text).unwrap();
        let versions = json!([{"version": "v1", "weight": weight}, {"version": "v2", "weight": 0}]);
        let refused = parse(&with_spec("versions", versions)).is_err_and(|found| found[0].path.ends_with("weight"));
        prop_assert_eq!(refused, thousandths % 10 != 0, "{}", text);
    }
}
