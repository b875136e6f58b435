use super::*;

fn read(document: &Value) -> RoutingPolicy {
    match super::document(document).spec() {
        Spec::Routing(policy) => policy.clone(),
        other => panic!("not a routing policy: {other:?}"),
    }
}

/// A rule with these fields besides its name.
fn rule(fields: &Value) -> Value {
    let mut rule = json!({"name": "r"});
    for (name, value) in fields.as_object().unwrap() {
        rule[name] = value.clone();
    }
    with_spec("rules", json!([rule]))
}

/// A rule that gives a GPU class to what matches.
fn matching(match_: &Value) -> Value {
    rule(&json!({"match": match_, "gpu": {"class": "big"}}))
}

#[test]
fn a_version_falls_back_to_the_first_unless_it_says_otherwise() {
    let policy = read(&with_spec(
        "versions",
        json!([
            {"version": "v1", "weight": 80, "fallback": ["v2"]},
            {"version": "v2", "weight": 10},
            {"version": "v3", "weight": 10, "fallback": []},
        ]),
    ));
    let fallbacks: Vec<_> = policy.versions.iter().map(|version| version.fallback.clone()).collect();
    assert_eq!(fallbacks, [vec!["v2".to_owned()], vec!["v1".to_owned()], vec![]]);
}

#[test]
fn a_fallback_is_another_version_of_the_policy_named_once() {
    let with_fallback = |fallback: Value| {
        let versions = json!([{"version": "v1", "weight": 90}, {"version": "v2", "weight": 10, "fallback": fallback}]);
        violations(&with_spec("versions", versions))
    };
    let itself = "spec.versions[1].fallback[0]: is the version itself; name others to try instead";
    assert_eq!(with_fallback(json!(["v2"])), [itself]);
    let unknown = "spec.versions[1].fallback[1]: there is no version `v9`; spec.versions has v1, v2";
    assert_eq!(with_fallback(json!(["v1", "v9"])), [unknown]);
    let twice = "spec.versions[1].fallback[1]: `v1` is already in spec.versions[1].fallback[0]";
    assert_eq!(with_fallback(json!(["v1", "v1"])), [twice]);
    assert_eq!(
        with_fallback(json!("v1")),
        ["spec.versions[1].fallback: must be an array, found a string"]
    );
}

/// Fallbacks are not followed from one to the next, so two versions that name each other are no cycle.
#[test]
fn two_versions_may_fall_back_to_each_other() {
    let versions = json!([
        {"version": "v1", "weight": 90, "fallback": ["v2"]},
        {"version": "v2", "weight": 10, "fallback": ["v1"]},
    ]);
    assert!(parse(&with_spec("versions", versions)).is_ok());
}

#[test]
fn sticky_keys_are_words_named_once() {
    assert_eq!(read(&with_spec("sticky_by", json!([]))).sticky_by, []);
    let all = read(&with_spec("sticky_by", json!(["session", "user", "tenant"]))).sticky_by;
    assert_eq!(all, [StickyKey::Session, StickyKey::User, StickyKey::Tenant]);
    let found = violations(&with_spec("sticky_by", json!(["user", "user"])));
    assert_eq!(found, ["spec.sticky_by[1]: `user` is already in spec.sticky_by[0]"]);
    let found = violations(&with_spec("sticky_by", json!(["address"])));
    assert_eq!(
        found,
        ["spec.sticky_by[0]: `address` is not one of user, tenant, session"]
    );
}

#[test]
fn everybody_is_not_listed_beside_others() {
    let found = violations(&with_spec("canary_override", json!(["anyone", "ops"])));
    let expected = ["spec.canary_override: has `anyone` and others: everybody is in `anyone`, so leave the others out"];
    assert_eq!(found, expected);
    assert!(parse(&with_spec("canary_override", json!([]))).is_ok());
}

#[test]
fn the_old_switch_for_the_canary_header_is_an_unknown_field() {
    let found = violations(&with_spec("honour_canary_weight", json!(true)));
    assert!(
        found[0].starts_with("spec.honour_canary_weight: unknown field; the fields here are "),
        "{found:?}"
    );
}

#[test]
fn a_shadow_is_a_version_of_the_policy_and_bounded() {
    let good = json!({"version": "v2", "percent": 5, "max_per_second": 20});
    assert!(parse(&with_spec("shadow", good)).is_ok());
    let found = violations(&with_spec(
        "shadow",
        json!({"version": "v9", "percent": 0.01, "max_per_second": 1}),
    ));
    assert_eq!(
        found,
        ["spec.shadow.version: there is no version `v9`; spec.versions has v1, v2"]
    );
    let found = violations(&with_spec("shadow", json!({"percent": 0, "max_per_second": 100_001})));
    let expected = [
        "spec.shadow.version: is required",
        "spec.shadow.percent: must be more than 0; leave `shadow` out for no copies",
        "spec.shadow.max_per_second: must be an integer from 1 to 100000, found 100001",
    ];
    assert_eq!(found, expected);
}

#[test]
fn a_rule_matches_something_and_changes_something() {
    let found = violations(&rule(&json!({"match": {}})));
    let expected = [
        "spec.rules[0].match: matches nothing in particular: give methods, tenants or headers",
        "spec.rules[0]: changes nothing: give versions, gpu or priority",
    ];
    assert_eq!(found, expected);
    let found = violations(&rule(&json!({"gpu": {}})));
    assert_eq!(
        found,
        [
            "spec.rules[0].match: is required",
            "spec.rules[0].gpu.class: is required"
        ]
    );
    let found = violations(&matching(
        &json!({"methods": [], "tenants": ["a b"], "headers": [], "models": []}),
    ));
    let expected = [
        "spec.rules[0].match.models: unknown field; the fields here are methods, tenants, headers",
        "spec.rules[0].match.methods: has 0 elements; 1 to 1024 are allowed",
        "spec.rules[0].match.tenants[0]: `a b` is not a tenant: use 1 to 128 letters, digits and . _ @ : + / = -",
        "spec.rules[0].match.headers: has 0 elements; 1 to 64 are allowed",
    ];
    assert_eq!(found, expected);
}

#[test]
fn a_header_is_matched_in_exactly_one_way() {
    let header = |fields: Value| matching(&json!({"headers": [fields]}));
    for good in [
        json!({"name": "x-sla", "one_of": ["gold", ""]}),
        json!({"name": "content-length", "range": {"min": 1_000_000}}),
        json!({"name": "x-beta", "present": true}),
        json!({"name": ":authority", "pattern": ".*\\.example"}),
    ] {
        let written = serde_json::to_value(super::document(&header(good.clone()))).unwrap();
        assert_eq!(written["spec"]["rules"][0]["match"], json!({"headers": [good]}));
    }
    let found = violations(&header(json!({"name": "x-a"})));
    let expected =
        ["spec.rules[0].match.headers[0]: needs exactly one of one_of, range, present, pattern; it has none"];
    assert_eq!(found, expected);
    let found = violations(&header(json!({"name": "x-a", "present": true, "pattern": "a"})));
    let expected = [
        "spec.rules[0].match.headers[0]: needs exactly one of one_of, range, present, pattern; it has present and pattern",
    ];
    assert_eq!(found, expected);
    let found = violations(&header(json!({"name": "x-a", "present": false})));
    let expected =
        ["spec.rules[0].match.headers[0].present: must be true; a rule cannot ask for a header to be absent"];
    assert_eq!(found, expected);
}

#[test]
fn the_split_of_a_rule_is_of_the_policys_versions_and_sums_to_100() {
    let split = |versions: Value| rule(&json!({"match": {"tenants": ["t"]}, "versions": versions}));
    assert!(parse(&split(json!([{"version": "v2", "weight": 100}]))).is_ok());
    let found = violations(&split(
        json!([{"version": "v9", "weight": 50}, {"version": "v1", "weight": 49.99}]),
    ));
    let expected = [
        "spec.rules[0].versions[0].version: there is no version `v9`; spec.versions has v1, v2",
        "spec.rules[0].versions: the weights sum to 99.99; they must sum to exactly 100",
    ];
    assert_eq!(found, expected);
    let found = violations(&split(json!([{"version": "v1", "weight": 100, "fallback": []}])));
    assert_eq!(
        found,
        ["spec.rules[0].versions[0].fallback: unknown field; the fields here are version, weight"]
    );
    let found = violations(&split(json!([])));
    assert_eq!(found, ["spec.rules[0].versions: has 0 elements; 1 to 64 are allowed"]);
}

#[test]
fn remembered_cohorts_belong_to_a_split() {
    let cohorts = json!({"v1": "0-9999"});
    let found = violations(&rule(
        &json!({"match": {"tenants": ["t"]}, "gpu": {"class": "big"}, "cohorts": cohorts}),
    ));
    assert_eq!(
        found,
        ["spec.rules[0].cohorts: belongs to a split of the rule's own: give versions, or leave it out"]
    );
    let own = json!({"match": {"tenants": ["t"]}, "versions": [{"version": "v2", "weight": 100}], "cohorts": cohorts});
    assert!(parse(&rule(&own)).is_ok());
}

/// Otherwise a policy whose versions are wrong would be told besides that each of its rules names versions there are not.
#[test]
fn rules_are_not_blamed_for_versions_that_cannot_be_read() {
    let mut document = rule(&json!({"match": {"tenants": ["t"]}, "versions": [{"version": "v2", "weight": 100}]}));
    document["spec"]["versions"] = json!([{"version": "v2", "weight": "all"}]);
    let expected = ["spec.versions[0].weight: must be a percentage from 0 to 100, found a string"];
    assert_eq!(violations(&document), expected);
}
