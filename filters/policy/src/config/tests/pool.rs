use super::*;

fn pool(name: &str, spec: &Value) -> Value {
    json!({"api_version": "kilocard/v1", "kind": "PoolPolicy", "metadata": {"name": name}, "spec": spec})
}

#[test]
fn the_canonical_json_of_a_pool_spells_out_every_default() {
    let written = serde_json::to_value(document(&pool("bursts", &json!({"match": {"priorities": ["P2"]}})))).unwrap();
    let spec = json!({
        "match": {"priorities": ["P2"]},
        "limits": {
            "max_connections": 4096, "max_pending_requests": 16384, "max_requests": 16384,
            "retry_percent": 20, "min_retries": 16,
        },
        "connections": {
            "connect_timeout_ms": 1000, "idle_timeout_s": 3600, "max_concurrent_streams": 256,
            "keepalive": {"interval_s": 30, "timeout_s": 10},
        },
    });
    assert_eq!(written["spec"], spec);
}

#[test]
fn everything_wrong_with_a_pool_is_told_with_its_path() {
    let spec = json!({
        "match": {"models": ["m"], "model_types": ["llm"], "priorities": ["p0"], "tenants": ["t"]},
        "limits": {"max_requests": 0, "max_connections": "many", "retries": 3},
        "connections": {
            "initial_stream_window_bytes": 100_000, "initial_connection_window_bytes": 70_000,
            "keepalive": {"interval_s": 10, "timeout_s": 10},
        },
    });
    let expected = [
        "spec.match.tenants: unknown field; the fields here are models, model_types, sla, priorities",
        "spec.match.priorities[0]: `p0` is not one of P0, P1, P2",
        "spec.limits.retries: unknown field; the fields here are max_connections, max_pending_requests, max_requests, \
         retry_percent, min_retries",
        "spec.limits.max_connections: must be an integer from 1 to 1000000, found a string",
        "spec.limits.max_requests: must be an integer from 1 to 1000000, found 0",
        "spec.connections.keepalive.timeout_s: is 10, and must be less than interval_s, 10",
        "spec.connections.initial_connection_window_bytes: is 70000, less than initial_stream_window_bytes, 100000: no \
         stream could use it",
    ];
    assert_eq!(violations(&pool("p", &spec)), expected);
}

#[test]
fn a_pool_says_which_requests_it_takes_and_only_the_default_one_takes_the_rest() {
    assert_eq!(
        violations(&pool("p", &json!({}))),
        ["spec.match: is required; only the pool `default` has none"]
    );
    assert!(parse(&pool("default", &json!({"limits": {"max_requests": 8}}))).is_ok());
    let some = json!({"match": {"priorities": ["P1"]}});
    assert_eq!(
        violations(&pool("default", &some)),
        ["spec.match: the pool `default` takes what the others leave: leave it out, or rename the pool"]
    );
    let found = violations(&pool("bulk", &some));
    assert!(
        found.len() == 1 && found[0].starts_with("metadata.name: `bulk` is built in"),
        "{found:?}"
    );
    assert_eq!(
        violations(&pool("p", &json!({"match": {}}))),
        ["spec.match: matches nothing in particular: give models, model_types, sla or priorities"]
    );
    let both = json!({"match": {"models": ["m"], "model_types": ["llm"]}});
    assert_eq!(
        violations(&pool("p", &both)),
        ["spec.match.model_types: names models already, whose types are known; give either models or model_types"]
    );
}

#[test]
fn requests_are_by_default_no_more_urgent_than_they_may_be() {
    let read = |urgency: &Value| match document(&with_spec("priority", urgency.clone())).spec() {
        Spec::Routing(policy) => serde_json::to_value(policy.priority).unwrap(),
        other => panic!("not a routing policy: {other:?}"),
    };
    assert_eq!(read(&json!({})), json!({"default": "P0", "highest": "P0"}));
    assert_eq!(
        read(&json!({"highest": "P1"})),
        json!({"default": "P1", "highest": "P1"})
    );
    assert_eq!(
        read(&json!({"default": "P2"})),
        json!({"default": "P2", "highest": "P0"})
    );
    assert_eq!(
        violations(&with_spec("priority", json!({"default": "P0", "highest": "P1"}))),
        ["spec.priority.default: P0 is more urgent than P1, the highest that requests may have"]
    );
}
