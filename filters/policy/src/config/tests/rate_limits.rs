use super::*;

fn rate_limits(spec: &Value) -> Value {
    json!({"api_version": "kilocard/v1", "kind": "RateLimitPolicy", "metadata": {"name": "tenants"}, "spec": spec})
}

#[test]
fn the_canonical_json_of_limits_spells_out_every_default() {
    let spec = json!({"limits": [{"unit": "requests", "rate": 90, "per": "minute"}]});
    let written = serde_json::to_value(document(&rate_limits(&spec))).unwrap();
    let expected = json!({
        "by": [], "scope": "proxy", "max_keys": 10_000, "shadow": false,
        "limits": [{"unit": "requests", "rate": 90, "per": "minute", "burst": 2}],
    });
    assert_eq!(written["spec"], expected);
}

#[test]
fn rates_that_are_none_are_refused_with_their_paths() {
    let spec = json!({
        "match": {"models": ["M"], "priorities": ["P3"]},
        "by": ["tenant", "tenant", "colour"],
        "scope": "world",
        "max_keys": 0,
        "shadow": "yes",
        "limits": [
            {"unit": "requests", "rate": 0},
            {"unit": "tokens", "rate": -1, "burst": 2_000_000_000_000_u64},
            {"unit": "gpu_seconds", "rate": 1.5, "per": "week"},
        ],
    });
    let expected = [
        "spec.match.models[0]: `M` is not a name: use 1 to 63 lower-case letters, digits, `.`, `_` or `-`, and \
         begin with a letter or a digit",
        "spec.match.priorities[0]: `P3` is not one of P0, P1, P2",
        "spec.by[1]: `tenant` is already in spec.by[0]",
        "spec.by[2]: `colour` is not one of tenant, user, model, version, method, priority",
        "spec.scope: `world` is not one of proxy, mesh",
        "spec.limits[0].rate: must be an integer from 1 to 1000000000000, found 0",
        "spec.limits[1].rate: must be an integer from 1 to 1000000000000, found -1",
        "spec.limits[1].burst: must be an integer from 1 to 1000000000000, found 2000000000000",
        "spec.limits[2].rate: must be an integer from 1 to 1000000000000, found 1.5",
        "spec.limits[2].per: `week` is not one of second, minute, hour, day",
        "spec.max_keys: must be an integer from 1 to 1000000, found 0",
        "spec.shadow: must be true or false, found a string",
    ];
    assert_eq!(violations(&rate_limits(&spec)), expected);
    for rate in ["NaN", "1e400", "Infinity"] {
        let spec = json!({"limits": [{"unit": "requests", "rate": rate}]});
        let expected = "spec.limits[0].rate: must be an integer from 1 to 1000000000000, found a string";
        assert_eq!(violations(&rate_limits(&spec)), [expected]);
    }
}

#[test]
fn each_unit_has_one_limit_at_most_and_there_is_one_at_least() {
    assert_eq!(violations(&rate_limits(&json!({}))), ["spec.limits: is required"]);
    let twice = json!({"limits": [{"unit": "tokens", "rate": 1}, {"unit": "tokens", "rate": 2, "per": "day"}]});
    assert_eq!(
        violations(&rate_limits(&twice)),
        ["spec.limits[1].unit: `tokens` is already in spec.limits[0]"]
    );
    assert_eq!(
        violations(&rate_limits(
            &json!({"match": {}, "limits": [{"unit": "tokens", "rate": 1}]})
        )),
        [
            "spec.match: matches nothing in particular: give models, versions, methods, tenants or priorities, or leave it \
             out for all requests"
        ]
    );
}
