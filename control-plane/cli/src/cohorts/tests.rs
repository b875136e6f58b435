use super::*;
use config::parse;

fn document(spec: &Value) -> Document {
    parse(&json!({"api_version": "kilocard/v1", "kind": "RoutingPolicy", "metadata": {"name": "m"}, "spec": spec}))
        .unwrap()
}

fn split(weights: &[(&str, u32)]) -> Value {
    weights
        .iter()
        .map(|(version, weight)| json!({"version": version, "weight": weight}))
        .collect()
}

fn policy(weights: &[(&str, u32)]) -> Document {
    document(&json!({"model": "m", "versions": split(weights)}))
}

fn cohorts(document: &Document) -> Value {
    serde_json::to_value(document).unwrap()["spec"]["cohorts"].clone()
}

fn lines(old: &Document, new: &Document) -> Vec<String> {
    moves(old, new).iter().flat_map(Moves::lines).collect()
}

#[test]
fn two_versions_need_no_memory() {
    let old = policy(&[("v1", 90), ("v2", 10)]);
    let new = remembering(&policy(&[("v1", 80), ("v2", 20)]), &old).unwrap();
    assert_eq!(cohorts(&new), Value::Null);
    assert_eq!(lines(&old, &new), ["v1 → v2: 10% of users"]);
}

#[test]
fn with_three_versions_only_those_move_who_must() {
    let old = policy(&[("v1", 80), ("v2", 10), ("v3", 10)]);
    let plain = policy(&[("v1", 70), ("v2", 20), ("v3", 10)]);
    assert_eq!(lines(&old, &plain), ["v1 → v3: 10% of users", "v3 → v2: 10% of users"]);
    let new = remembering(&plain, &old).unwrap();
    assert_ne!(cohorts(&new), Value::Null);
    assert_eq!(lines(&old, &new), ["v1 → v2: 10% of users"]);
    // And back, with the memory that was written.
    let back = remembering(&old, &new).unwrap();
    assert_eq!(lines(&new, &back), ["v2 → v1: 10% of users"]);
    assert_eq!(lines(&old, &back), Vec::<String>::new());
    assert_eq!(
        cohorts(&back),
        Value::Null,
        "what the weights alone give is not remembered"
    );
}

#[test]
fn applying_the_same_again_changes_nothing() {
    let old = policy(&[("v1", 80), ("v2", 10), ("v3", 10)]);
    let plain = policy(&[("v1", 70), ("v2", 20), ("v3", 10)]);
    let stored = remembering(&plain, &old).unwrap();
    assert_eq!(remembering(&plain, &stored).unwrap(), stored);
    assert_eq!(remembering(&stored, &stored).unwrap(), stored);
}

#[test]
fn cohorts_that_are_given_are_taken_and_those_carried_along_are_brought_up_to_date() {
    let old = policy(&[("v1", 80), ("v2", 10), ("v3", 10)]);
    let stored = remembering(&policy(&[("v1", 70), ("v2", 20), ("v3", 10)]), &old).unwrap();
    // What `get -o yaml` gave, with other weights.
    let mut edited = serde_json::to_value(&stored).unwrap();
    edited["spec"]["versions"] = split(&[("v1", 60), ("v2", 30), ("v3", 10)]);
    let new = remembering(&parse(&edited).unwrap(), &stored).unwrap();
    assert_ne!(cohorts(&new), cohorts(&stored));
    assert_eq!(lines(&stored, &new), ["v1 → v2: 10% of users"]);
    let given = json!({"v1": "0-9999"});
    edited["spec"]["cohorts"] = given.clone();
    assert_eq!(cohorts(&remembering(&parse(&edited).unwrap(), &stored).unwrap()), given);
}

#[test]
fn another_salt_draws_everybody_anew_and_remembers_nothing() {
    let old = policy(&[("v1", 50), ("v2", 50)]);
    let new = document(&json!({"model": "m", "salt": "other", "versions": split(&[("v1", 50), ("v2", 50)])}));
    assert_eq!(remembering(&new, &old).unwrap(), new);
    assert_eq!(
        lines(&old, &new),
        [
            "v1 → v2: 25% of users (drawn anew)",
            "v2 → v1: 25% of users (drawn anew)"
        ]
    );
}

#[test]
fn each_rule_has_cohorts_of_its_own() {
    let with_rule = |weights: &[(&str, u32)]| {
        document(&json!({
            "model": "m", "versions": split(&[("v1", 100), ("v2", 0), ("v3", 0)]),
            "rules": [{"name": "gold", "match": {"tenants": ["t"]}, "versions": split(weights)}]}))
    };
    let old = with_rule(&[("v1", 80), ("v2", 10), ("v3", 10)]);
    let new = remembering(&with_rule(&[("v1", 70), ("v2", 20), ("v3", 10)]), &old).unwrap();
    assert_eq!(lines(&old, &new), ["rule gold: v1 → v2: 10% of users"]);
    assert_eq!(cohorts(&new), Value::Null);
    // A rule that is new takes its requests from the policy's split.
    let without = policy(&[("v1", 100), ("v2", 0), ("v3", 0)]);
    assert_eq!(
        lines(&without, &old),
        ["rule gold: v1 → v2: 10% of users", "rule gold: v1 → v3: 10% of users"]
    );
    assert_eq!(
        moves(&old, &without)[0].to_json()["shifts"][0],
        json!({"from": "v2", "to": "v1", "percent": 10.0})
    );
}
