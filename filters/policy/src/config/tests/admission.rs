use super::*;

fn admission(spec: &Value) -> Value {
    json!({"api_version": "kilocard/v1", "kind": "AdmissionPolicy", "metadata": {"name": "m"}, "spec": spec})
}

#[test]
fn the_canonical_json_of_costs_spells_out_every_default() {
    let written = serde_json::to_value(document(&admission(&json!({"model": "m"})))).unwrap();
    let tokens = json!({"request_bytes_per_token": 4, "tokens_per_message": 1, "default_output": 256});
    assert_eq!(written["spec"], json!({"model": "m", "tokens": tokens}));
    let spec = json!({"model": "m", "memory": {"bytes_per_token": 131_072}});
    let written = serde_json::to_value(document(&admission(&spec))).unwrap();
    let memory = json!({
        "bytes_per_request": 0, "bytes_per_token": 131_072, "watermark_percent": 5, "output_percentile": 95, "stale_ms": 3000,
        "p1_margin_percent": 10, "p2_margin_percent": 20, "floor_percent": 5, "wait_ms": 40,
    });
    assert_eq!(written["spec"]["memory"], memory);
}

#[test]
fn costs_that_are_none_are_refused_with_their_paths() {
    let spec = json!({
        "model": "M",
        "tokens": {"request_bytes_per_token": 0, "tokens_per_message": "many", "default_output": 0},
        "memory": {"bytes_per_token": -1, "watermark_percent": 51, "stale_ms": 1, "floor_percent": 31, "wait_ms": 1000},
    });
    let expected = [
        "spec.model: `M` is not a name: use 1 to 63 lower-case letters, digits, `.`, `_` or `-`, and begin with a letter \
         or a digit",
        "spec.tokens.request_bytes_per_token: must be an integer from 1 to 4096, found 0",
        "spec.tokens.tokens_per_message: must be an integer from 1 to 4096, found a string",
        "spec.tokens.default_output: must be an integer from 1 to 1000000000000, found 0",
        "spec.memory.bytes_per_token: must be an integer from 0 to 1000000000000, found -1",
        "spec.memory.watermark_percent: must be an integer from 0 to 50, found 51",
        "spec.memory.stale_ms: must be an integer from 200 to 5000, found 1",
        "spec.memory.floor_percent: must be an integer from 0 to 30, found 31",
        "spec.memory.wait_ms: must be an integer from 0 to 200, found 1000",
    ];
    assert_eq!(violations(&admission(&spec)), expected);
    assert_eq!(
        violations(&admission(&json!({"model": "m", "memory": {}}))),
        ["spec.memory: costs nothing, so nothing would be held back: give bytes_per_request or bytes_per_token"]
    );
}
