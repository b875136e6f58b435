use super::*;
use kilocard_policy::config::parse;

fn policy(name: &str, spec: &Value) -> Document {
    let document =
        json!({"api_version": "kilocard/v1", "kind": "RoutingPolicy", "metadata": {"name": name}, "spec": spec});
    parse(&document).unwrap()
}

fn three(name: &str, v1: u32, v2: u32, v3: u32) -> Document {
    policy(
        name,
        &json!({"model": name, "versions": [
        {"version": "v1", "weight": v1}, {"version": "v2", "weight": v2}, {"version": "v3", "weight": v3}]}),
    )
}

#[test]
fn the_plan_is_of_what_apply_would_write() {
    let old = [three("a", 80, 10, 10), three("b", 80, 10, 10)];
    let next = to_be(&old, &[three("a", 70, 20, 10)], false).unwrap();
    assert_eq!(next.len(), 2);
    let moves = moves(&old, &next);
    assert_eq!(moves.len(), 1);
    assert_eq!(
        (moves[0].0.as_str(), moves[0].1[0].lines()),
        ("a", vec!["v1 → v2: 10% of users".to_owned()])
    );
    assert!(
        describe_moves(&moves).ends_with("a      -     v1    v2  10%\n"),
        "{}",
        describe_moves(&moves)
    );
}

#[test]
fn the_files_alone_are_compared_if_so_wanted() {
    let old = [three("a", 80, 10, 10), three("b", 80, 10, 10)];
    let next = to_be(&old, &[three("a", 80, 10, 10)], true).unwrap();
    assert_eq!(next, [old[0].clone()]);
    let differences = diff::between(&values(&old), &values(&next));
    assert_eq!(differences.len(), 1);
    assert_eq!(differences[0].id.name, "b");
}

#[test]
fn a_policy_under_another_name_still_routes_its_model() {
    let old = [three("a", 80, 10, 10)];
    let renamed = policy(
        "z",
        &json!({"model": "a", "salt": "a", "versions": [
        {"version": "v1", "weight": 70}, {"version": "v2", "weight": 20}, {"version": "v3", "weight": 10}]}),
    );
    assert_eq!(moves(&old, &[renamed])[0].0, "a");
}
