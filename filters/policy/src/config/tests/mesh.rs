use std::net::IpAddr;

use super::*;

fn mesh(spec: &Value) -> Value {
    json!({"api_version": "kilocard/v1", "kind": "MeshPolicy", "metadata": {"name": "m"}, "spec": spec})
}

fn read(spec: &Value) -> MeshPolicy {
    match document(&mesh(spec)).spec() {
        Spec::Mesh(policy) => policy.clone(),
        other => panic!("not a mesh policy: {other:?}"),
    }
}

fn refused(spec: &Value) -> Vec<String> {
    violations(&mesh(spec))
}

fn group(members: &Value) -> Value {
    let mut group = json!({"name": "g"});
    for (name, value) in members.as_object().unwrap() {
        group[name] = value.clone();
    }
    json!({"callers": [group]})
}

#[test]
fn the_canonical_json_keeps_what_is_absent_absent() {
    assert_eq!(
        serde_json::to_value(document(&mesh(&json!({})))).unwrap(),
        mesh(&json!({}))
    );
    let spec = json!({
        "callers": [{"name": "ops", "addresses": ["10.0.0.0/8", "::1/128"]}],
        "gpu_classes": [{"name": "big", "select": {"min_memory_gb": 80}}],
        "decision_record": {},
        "capture": {"percent": 0.5},
    });
    let canonical = json!({
        "callers": [{"name": "ops", "spiffe": [], "addresses": ["10.0.0.0/8", "::1"]}],
        "gpu_classes": [{"name": "big", "select": {"min_memory_gb": 80}, "fallback": [], "otherwise": "any"}],
        "decision_record": {"response_header": false},
        "capture": {"percent": 0.5, "plain_headers": []},
    });
    assert_eq!(serde_json::to_value(document(&mesh(&spec))).unwrap()["spec"], canonical);
}

#[test]
fn runtime_is_keys_with_flags_numbers_and_texts() {
    let spec = json!({"runtime": {
        "envoy.reloadable_features.no_such": false, "upstream.healthy_panic_threshold": 12.5, "a-b.C_d": "text",
    }});
    assert_eq!(serde_json::to_value(document(&mesh(&spec))).unwrap()["spec"], spec);
    let many: serde_json::Map<String, Value> = (0..257).map(|key| (format!("k{key}"), json!(1))).collect();
    for (spec, expected) in [
        (json!({"a..b": 1}), "words of a-z"),
        (json!({"": 1}), "words of a-z"),
        (json!({"a b": 1}), "words of a-z"),
        (json!({"x".repeat(129): 1}), "at most 128 bytes"),
        (
            json!({"a": null}),
            "spec.runtime.a: must be true, false, a number or a string, found null",
        ),
        (
            json!({"a": {"numerator": 1}}),
            "must be true, false, a number or a string, found an object",
        ),
        (json!({"a": "x".repeat(1025)}), "has 1025 bytes; 1024 are allowed"),
        (Value::Object(many), "has 257 keys; 256 are allowed"),
        (json!([]), "spec.runtime: must be an object"),
    ] {
        let found = refused(&json!({"runtime": spec}));
        assert!(
            matches!(found.as_slice(), [one] if one.contains(expected)),
            "{expected}: {found:?}"
        );
    }
}

#[test]
fn a_group_of_callers_has_a_name_of_its_own_and_members() {
    let found = refused(&json!({"callers": [
        {"name": "anyone", "addresses": ["::1"]},
        {"name": "empty"},
        {"name": "a", "addresses": ["::1"]},
        {"name": "a", "addresses": ["::1", "::1"], "groups": []},
    ]}));
    let expected = [
        "spec.callers[0].name: `anyone` is built in: everybody is in it; use another name",
        "spec.callers[1]: has no members: give spiffe, addresses or both",
        "spec.callers[3].groups: unknown field; the fields here are name, spiffe, addresses",
        "spec.callers[3].addresses[1]: `::1` is already in spec.callers[3].addresses[0]",
    ];
    assert_eq!(found, expected);
    let twice = json!({"callers": [{"name": "a", "addresses": ["::1"]}, {"name": "a", "addresses": ["::1"]}]});
    assert_eq!(
        refused(&twice),
        ["spec.callers[1].name: `a` is already in spec.callers[0]"]
    );
}

#[test]
fn an_address_is_in_a_block_if_their_prefixes_agree() {
    let contains = |block: &str, address: &str| {
        let policy = read(&group(&json!({"addresses": [block]})));
        let address: IpAddr = address.parse().unwrap();
        policy.callers.unwrap()[0].addresses[0].contains(address)
    };
    for (block, address, expected) in [
        ("10.0.0.0/8", "10.255.1.2", true),
        ("10.0.0.0/8", "11.0.0.0", false),
        ("10.0.0.0/8", "::ffff:10.1.2.3", true),
        ("::ffff:10.0.0.0/104", "10.1.2.3", true),
        ("10.0.0.0/8", "::1", false),
        ("0.0.0.0/0", "192.0.2.1", true),
        ("0.0.0.0/0", "2001:db8::1", false),
        ("::/0", "2001:db8::1", true),
        ("192.0.2.1", "192.0.2.1", true),
        ("192.0.2.1", "192.0.2.2", false),
        ("2001:db8::/33", "2001:db8:7fff::1", true),
        ("2001:db8::/33", "2001:db8:8000::1", false),
    ] {
        assert_eq!(contains(block, address), expected, "{address} in {block}");
    }
}

#[test]
fn a_block_of_addresses_is_well_formed_and_ends_with_its_prefix() {
    for block in [
        "",
        "10.0.0.0/33",
        "10.0.0/8",
        "10.0.0.0/+8",
        "10.0.0.0/",
        "::1/129",
        "::ffff:10.0.0.0/95",
        "host",
        "10.0.0.0/8/8",
    ] {
        let found = refused(&group(&json!({"addresses": [block]})));
        assert!(
            found[0].contains("is not a block of addresses: use 10.0.0.0/8"),
            "{found:?}"
        );
    }
    let found = refused(&group(&json!({"addresses": ["10.1.2.3/8"]})));
    let expected = ["spec.callers[0].addresses[0]: `10.1.2.3/8` has bits beyond its prefix: did you mean 10.0.0.0/8?"];
    assert_eq!(found, expected);
}

#[test]
fn an_identity_is_matched_whole_or_segment_by_segment() {
    let matches = |pattern: &str, uri: &str| {
        let policy = read(&group(&json!({"spiffe": [pattern]})));
        policy.callers.unwrap()[0].spiffe[0].matches(uri)
    };
    let (exact, below) = ("spiffe://mesh.example/ns/ops", "spiffe://mesh.example/ns/ops/*");
    for (pattern, uri, expected) in [
        (exact, "spiffe://mesh.example/ns/ops", true),
        (exact, "spiffe://mesh.example/ns/ops/", false),
        (exact, "spiffe://mesh.example/ns/ops/sa/ada", false),
        (exact, "https://mesh.example/ns/ops", false),
        (below, "spiffe://mesh.example/ns/ops/sa/ada", true),
        (below, "spiffe://mesh.example/ns/ops", false),
        (below, "spiffe://mesh.example/ns/ops/", false),
        (below, "spiffe://mesh.example/ns/ops-x/sa/eve", false),
        (below, "spiffe://mesh.example/ns/ops/../dev/sa/eve", false),
        (below, "spiffe://mesh.example/ns/ops//sa/eve", false),
        (below, "spiffe://mesh.example/ns/ops/sa/eve?x", false),
        (below, "spiffe://mesh.example.evil/ns/ops/sa/eve", false),
        ("spiffe://mesh.example/*", "spiffe://mesh.example/x", true),
        ("spiffe://mesh.example/*", "spiffe://mesh.example", false),
    ] {
        assert_eq!(matches(pattern, uri), expected, "{uri} by {pattern}");
    }
}

#[test]
fn what_is_no_identity_is_refused() {
    let long = format!("spiffe://{}", "a".repeat(256));
    for pattern in [
        "",
        "*",
        "spiffe://",
        "spiffe:///ns",
        "spiffe://Mesh.example/x",
        "spiffe://mesh.example/",
        "spiffe://mesh.example/*/sa/ada",
        "spiffe://mesh.example/ns/o*",
        "spiffe://mesh.example/./x",
        "http://mesh.example/x",
        "spiffe://mesh.example:443/x",
        &long,
    ] {
        let found = refused(&group(&json!({"spiffe": [pattern]})));
        assert!(
            found[0].contains("is not a SPIFFE ID: use spiffe://trust-domain/path"),
            "{found:?}"
        );
    }
}

#[test]
fn a_gpu_class_selects_something_and_falls_back_to_other_classes() {
    let found = refused(&json!({"gpu_classes": [
        {"name": "a", "select": {}},
        {"name": "b", "select": {"nvlink": "yes", "min_memory_gb": 0, "products": [], "zones": [""]}},
        {"name": "c", "otherwise": "never"},
    ]}));
    let expected = [
        "spec.gpu_classes[0].select: selects nothing: give products, archs, min_memory_gb, nvlink or zones",
        "spec.gpu_classes[1].select.products: has 0 elements; 1 to 64 are allowed",
        "spec.gpu_classes[1].select.min_memory_gb: must be an integer from 1 to 4096, found 0",
        "spec.gpu_classes[1].select.nvlink: must be true or false, found a string",
        "spec.gpu_classes[1].select.zones[0]: must be 1 to 63 bytes without control characters",
        "spec.gpu_classes[2].select: is required",
        "spec.gpu_classes[2].otherwise: `never` is not one of any, unavailable",
    ];
    assert_eq!(found, expected);
    let select = json!({"archs": ["hopper"]});
    let found = refused(&json!({"gpu_classes": [
        {"name": "a", "select": select, "fallback": ["b", "a"]},
        {"name": "b", "select": select, "fallback": ["a", "gone"]},
        {"name": "c", "select": select, "fallback": ["a", "a"]},
    ]}));
    assert_eq!(
        found,
        ["spec.gpu_classes[2].fallback[1]: `a` is already in spec.gpu_classes[2].fallback[0]"]
    );
    let found = refused(&json!({"gpu_classes": [
        {"name": "a", "select": select, "fallback": ["b", "a"]},
        {"name": "b", "select": select, "fallback": ["a", "gone"]},
    ]}));
    let expected = [
        "spec.gpu_classes[0].fallback[1]: is the class itself; name others to try instead",
        "spec.gpu_classes[1].fallback[1]: there is no class `gone`",
    ];
    assert_eq!(found, expected);
}

#[test]
fn a_capture_says_how_much_and_never_who_asks_in_plain() {
    assert_eq!(refused(&json!({"capture": {}})), ["spec.capture.percent: is required"]);
    let found = refused(
        &json!({"capture": {"percent": 1, "plain_headers": ["authorization", "x-user-id", "X-Team", "x-kilocard-route"]}}),
    );
    assert_eq!(found.len(), 4, "{found:?}");
    assert_eq!(
        found[0],
        "spec.capture.plain_headers[0]: `authorization` is always hashed in a capture: it says who asks"
    );
    assert!(found[2].contains("`X-Team` is not a header"), "{found:?}");
    assert!(found[3].contains("is a header that only the mesh sets"), "{found:?}");
}
