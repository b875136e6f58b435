use super::*;

fn weights(spec: &Value) -> Value {
    json!({"api_version": "kilocard/v1", "kind": "WeightPolicy", "metadata": {"name": "w"}, "spec": spec})
}

#[test]
fn the_canonical_json_spells_out_a_section_that_is_given_and_no_other() {
    let spec = json!({
        "model": "llama", "memory": {"floor_percent": 10}, "fatal_xids": [79, 48],
        "cards": [{"product": "H100", "capacity": 350}, {"product": "H100", "mig": "3g.40gb", "capacity": 150}],
    });
    let mut canonical = spec.clone();
    canonical["memory"] = json!({"floor_percent": 10, "ample_percent": 25});
    assert_eq!(
        serde_json::to_value(document(&weights(&spec))).unwrap()["spec"],
        canonical
    );
    assert_eq!(
        serde_json::to_value(document(&weights(&json!({})))).unwrap()["spec"],
        json!({})
    );
}

#[test]
fn what_makes_no_sense_is_refused_with_its_path() {
    let found = violations(&weights(&json!({
        "memory": {"floor_percent": 30}, "publication": {"interval_ms": 20_000}, "faults": {"max_ejected_percent": 51},
        "fatal_xids": [79, 79], "smoothing": {"up": 1},
        "cards": [{"product": "L4", "capacity": 60}, {"product": "L4", "capacity": 61}, {"product": ""}],
    })));
    let expected = [
        "spec.memory.ample_percent: is 25, but must be above floor_percent, 30: between them the factor goes from 0 to 1",
        "spec.smoothing.up: unknown field; the fields here are up_percent, down_percent, max_up_percent, max_down_percent",
        "spec.publication.settle_ms: is 10000, less than interval_ms, 20000: nothing is published more often than that",
        "spec.faults.max_ejected_percent: must be an integer from 0 to 50, found 51",
        "spec.fatal_xids[1]: `79` is already in spec.fatal_xids[0]",
        "spec.cards[1].product: `L4` is already in spec.cards[0]",
        "spec.cards[2].product: must be 1 to 128 bytes without control characters",
        "spec.cards[2].capacity: is required",
    ];
    assert_eq!(found, expected);
}
