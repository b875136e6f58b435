use super::*;

fn scale(spec: &Value) -> Value {
    json!({"api_version": "kilocard/v1", "kind": "ScalePolicy", "metadata": {"name": "s"}, "spec": spec})
}

#[test]
fn the_canonical_json_spells_out_every_default_of_scaling() {
    let spec = json!({
        "model": "llama", "max_replicas": 20, "targets": {"qps_per_replica": 0.5, "memory_percent": 85},
        "scale_up": {"max_replicas": 8},
    });
    let canonical = json!({
        "model": "llama", "min_replicas": 1, "max_replicas": 20,
        "targets": {"qps_per_replica": 0.5, "memory_percent": 85}, "tolerance_percent": 10,
        "scale_up": {"stabilization_s": 0, "max_percent": 100, "max_replicas": 8, "period_s": 15},
        "scale_down": {"stabilization_s": 300, "max_percent": 100, "max_replicas": 0, "period_s": 15},
    });
    let read = document(&scale(&spec));
    assert_eq!(serde_json::to_value(&read).unwrap()["spec"], canonical);
    assert!(!read.kind().is_for_filters());
}

#[test]
fn a_policy_that_could_never_scale_is_refused_with_its_path() {
    let found = violations(&scale(&json!({
        "model": "llama", "version": "v1.", "min_replicas": 9, "max_replicas": 8, "targets": {},
        "scale_up": {"max_percent": 0, "max_replicas": 0}, "scale_down": {"max_percent": 0}, "tolerance_percent": 51,
    })));
    let expected = [
        "spec.version: `v1.` is not a version: use 1 to 63 lower-case letters and digits, with single `.`, `_` or `-` \
         between them",
        "spec.targets: names no target: give qps_per_replica, memory_percent or queue_per_replica",
        "spec.tolerance_percent: must be an integer from 0 to 50, found 51",
        "spec.scale_up: has max_percent and max_replicas 0, so nothing would ever change: give one of them",
        "spec.scale_down: has max_percent and max_replicas 0, so nothing would ever change: give one of them",
        "spec.max_replicas: is 8, less than min_replicas, 9",
    ];
    assert_eq!(found, expected);
}

#[test]
fn a_rate_is_above_zero_and_has_at_most_two_decimals() {
    for rate in [
        json!(0),
        json!(0.001),
        json!(1.005),
        json!(1_000_001),
        json!(-1),
        json!("50"),
    ] {
        let spec = json!({"model": "m", "max_replicas": 4, "targets": {"qps_per_replica": rate}});
        let found = violations(&scale(&spec));
        assert!(
            found.len() == 1 && found[0].starts_with("spec.targets.qps_per_replica: must be a number from 0.01"),
            "{found:?}"
        );
    }
}
