use serde_json::json;

use super::*;
use crate::fixtures::{default_routing, document, policy, routing};

fn violations(documents: &[serde_json::Value]) -> Vec<String> {
    let documents: Vec<_> = documents.iter().map(document).collect();
    let violations = Policy::compile("1", &documents).unwrap_err();
    violations.iter().map(Violation::to_string).collect()
}

fn named(name: &str, mut document: serde_json::Value) -> serde_json::Value {
    document["metadata"]["name"] = json!(name);
    document
}

fn validation(name: &str) -> serde_json::Value {
    json!({"api_version": "kilocard/v1", "kind": "ValidationPolicy", "metadata": {"name": name}, "spec": {}})
}

#[test]
fn models_come_by_name_with_their_versions_as_declared() {
    let policy = policy(&[
        routing("b", &[("v2", 60.0), ("v1", 40.0)]),
        default_routing("a", &[("v1", 100.0)]),
    ]);
    let models: Vec<_> = policy
        .models()
        .map(|model| (model.name(), model.is_default()))
        .collect();
    assert_eq!(models, [("a", true), ("b", false)]);
    let versions = policy.model(b"b").unwrap().versions();
    let versions: Vec<_> = versions
        .iter()
        .map(|version| (version.route_key(), version.weight().percent()))
        .collect();
    assert_eq!(versions, [("b/v2", 60.0), ("b/v1", 40.0)]);
    assert_eq!(policy.default_model().unwrap().name(), "a");
    assert_eq!(policy.revision(), "test-1");
}

#[test]
fn without_documents_the_default_limits_hold() {
    let policy = policy(&[]);
    assert_eq!(policy.limits(), &HeaderLimits::default());
    assert_eq!(policy.models().len(), 0);
}

#[test]
fn two_policies_for_one_model_contradict() {
    let first = routing("m", &[("v1", 100.0)]);
    let second = named("other", first.clone());
    let expected = ["RoutingPolicy/other: spec.model: model m is already routed by RoutingPolicy/m"];
    assert_eq!(violations(&[first, second]), expected);
}

#[test]
fn two_defaults_contradict() {
    let documents = [
        default_routing("a", &[("v1", 100.0)]),
        default_routing("b", &[("v1", 100.0)]),
    ];
    let expected = ["RoutingPolicy/b: spec.default: RoutingPolicy/a is already the default, and there may be only one"];
    assert_eq!(violations(&documents), expected);
}

#[test]
fn one_section_in_two_documents_contradicts() {
    let with_limits = |name| {
        let mut document = validation(name);
        document["spec"]["limits"] = json!({});
        document
    };
    let found = violations(&[with_limits("a"), with_limits("b")]);
    let expected = "ValidationPolicy/b: spec.limits: is already in ValidationPolicy/a, and may be in one document only";
    assert_eq!(found, [expected]);
    assert_eq!(
        policy(&[with_limits("a"), validation("b")]).limits(),
        &HeaderLimits::default()
    );
}

#[test]
fn a_document_twice_is_one_violation_and_all_violations_are_reported() {
    let a = default_routing("a", &[("v1", 100.0)]);
    let found = violations(&[a.clone(), a, default_routing("b", &[("v1", 100.0)])]);
    assert_eq!(found.len(), 2, "{found:?}");
    assert_eq!(
        found[0],
        "RoutingPolicy/a: metadata.name: there is already a RoutingPolicy/a"
    );
}

#[test]
fn one_name_may_serve_two_kinds() {
    let policy = policy(&[validation("m"), routing("m", &[("v1", 100.0)])]);
    assert_eq!(policy.models().len(), 1);
}

#[test]
fn stages_combine() {
    assert_eq!(
        Stages::VALIDATION | Stages::ROUTING | Stages::LIMITS | Stages::TIMEOUTS,
        Stages::ALL
    );
    assert!(Stages::ALL.contains(Stages::ROUTING) && !Stages::ROUTING.contains(Stages::ALL));
    assert!(Stages::empty().is_empty() && !Stages::ROUTING.is_empty());
}
