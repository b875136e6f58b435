//! Documents as large as they may be, and larger.

use super::*;
use crate::Policy;

fn validation(name: &str, rules: &[Value]) -> Value {
    json!({"api_version": "kilocard/v1", "kind": "ValidationPolicy", "metadata": {"name": name}, "spec": {"rules": rules}})
}

fn header_rule(index: usize) -> Value {
    json!({"name": format!("r{index}"), "header": "x-a", "match": {"models": [format!("m{index}")]}, "length": {"max": 9}})
}

fn routing_rule(index: usize) -> Value {
    let match_ = json!({"tenants": [format!("t{index}")]});
    json!({"name": format!("r{index}"), "match": match_, "versions": [{"version": "v2", "weight": 100}]})
}

#[test]
fn ten_thousand_rules_are_read_and_compiled() {
    let mut documents: Vec<Document> = (0..4)
        .map(|n| validation(&format!("d{n}"), &(0..1250).map(header_rule).collect::<Vec<_>>()))
        .map(|json| document(&json))
        .collect();
    for n in 0..4 {
        let mut json = routing(&format!("m{n}"), &[("v1", 90.0), ("v2", 10.0)]);
        json["spec"]["rules"] = (0..1250).map(routing_rule).collect();
        documents.push(document(&json));
    }
    let policy = Policy::compile("many", &documents).unwrap();
    assert_eq!(policy.models().len(), 4);
}

#[test]
fn a_document_has_at_most_4096_rules() {
    let rules = |count: usize| (0..count).map(header_rule).collect::<Vec<_>>();
    assert!(parse(&validation("d", &rules(4096))).is_ok());
    let expected = ["spec.rules: has 4097 elements; 0 to 4096 are allowed"];
    assert_eq!(violations(&validation("d", &rules(4097))), expected);
    let many: Vec<_> = (0..4097).map(routing_rule).collect();
    assert_eq!(violations(&with_spec("rules", json!(many))), expected);
}

#[test]
fn thousands_of_faulty_rules_are_reported_in_bounds() {
    let rule = json!({"name": "r", "header": "x-a", "pattern": "(a{1000}){1000}"});
    let found = violations(&validation("d", &vec![rule; 4096]));
    assert_eq!(found.len(), 65);
    assert_eq!(found[64], "4032 further violations are left out");
}

#[test]
fn rules_nested_without_end_are_refused() {
    let open = "{\"rules\":[".repeat(60);
    let json = format!("{{\"spec\":{open}");
    assert!(strings(parse_bytes(json.as_bytes()).unwrap_err())[0].starts_with("is not JSON"));
    let deep = (0..200).fold(json!("x"), |inner, _| json!([inner]));
    let found = violations(&with_spec("rules", deep));
    assert_eq!(found, ["spec.rules[0]: must be an object, found an array"]);
}
