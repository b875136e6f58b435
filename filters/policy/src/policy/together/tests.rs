use serde_json::{Value, json};

use super::*;
use crate::Policy;
use crate::config::parse;
use crate::fixtures::{document, routing};

fn named(kind: &str, name: &str, spec: &Value) -> Value {
    json!({"api_version": "kilocard/v1", "kind": kind, "metadata": {"name": name}, "spec": spec})
}

fn mesh(name: &str, spec: &Value) -> Value {
    named("MeshPolicy", name, spec)
}

fn validation(name: &str, spec: &Value) -> Value {
    named("ValidationPolicy", name, spec)
}

fn violations(documents: &[Value]) -> Vec<String> {
    let documents: Vec<_> = documents.iter().map(document).collect();
    match Together::of(&documents) {
        Ok(_) => Vec::new(),
        Err(violations) => violations.iter().map(Violation::to_string).collect(),
    }
}

#[test]
fn sections_come_from_several_documents_and_rules_add_up() {
    let rule = |name: &str| json!({"name": name, "header": "x-a", "required": true});
    let documents = [
        document(&validation(
            "a",
            &json!({"limits": {}, "rules": [rule("one"), rule("two")]}),
        )),
        document(&validation("b", &json!({"refusal": {}, "rules": [rule("one")]}))),
        document(&mesh("c", &json!({"decision_record": {"response_header": true}}))),
    ];
    let together = Together::of(&documents).unwrap();
    assert!(together.limits.get().is_some() && together.refusal.get().is_some() && together.methods.get().is_none());
    assert!(together.decision_record.get().unwrap().response_header);
    let rules: Vec<_> = together
        .header_rules
        .iter()
        .map(|declared| (declared.document.name(), declared.index, declared.rule.name.as_str()))
        .collect();
    assert_eq!(rules, [("a", 0, "one"), ("a", 1, "two"), ("b", 0, "one")]);
}

#[test]
fn each_section_stands_in_one_document() {
    let validations = json!({
        "limits": {}, "protocols": {}, "methods": {}, "internal_headers": "strip", "refusal": {}, "report_only": "all",
    });
    let meshes =
        json!({"callers": [], "gpu_classes": [], "decision_record": {}, "capture": {"percent": 0}, "runtime": {}});
    for (kind, spec) in [("ValidationPolicy", validations), ("MeshPolicy", meshes)] {
        let found = violations(&[named(kind, "a", &spec), named(kind, "b", &spec)]);
        let expected: Vec<_> = spec
            .as_object()
            .unwrap()
            .keys()
            .map(|section| format!("{kind}/b: spec.{section}: is already in {kind}/a, and may be in one document only"))
            .collect();
        let sorted: std::collections::BTreeSet<_> = found.iter().collect();
        assert_eq!(sorted, expected.iter().collect());
    }
}

#[test]
fn callers_that_nobody_declares_are_blamed_on_who_names_them() {
    let mut model = routing("m", &[("v1", 90.0), ("v2", 10.0)]);
    model["spec"]["canary_override"] = json!(["ops", "devs"]);
    let rules = json!({"rules": [
        {"name": "a", "header": "x-a", "required": true},
        {"name": "b", "header": "x-b", "callers": ["devs", "ops"]},
    ]});
    let callers = json!({"callers": [{"name": "ops", "addresses": ["::1"]}]});
    let documents = [model, validation("v", &rules), mesh("c", &callers)];
    let expected = [
        "ValidationPolicy/v: spec.rules[1].callers[0]: no MeshPolicy declares the callers `devs`",
        "RoutingPolicy/m: spec.canary_override[1]: no MeshPolicy declares the callers `devs`",
    ];
    assert_eq!(violations(&documents), expected);
}

#[test]
fn everybody_needs_no_declaration() {
    let mut model = routing("m", &[("v1", 90.0), ("v2", 10.0)]);
    model["spec"]["canary_override"] = json!(["anyone"]);
    assert_eq!(violations(&[model]), [""; 0]);
}

#[test]
fn gpu_classes_that_nobody_declares_are_blamed_on_who_names_them() {
    let mut model = routing("m", &[("v1", 100.0)]);
    model["spec"]["gpu"] = json!({"class": "big"});
    model["spec"]["rules"] = json!([{"name": "r", "match": {"tenants": ["t"]}, "gpu": {"class": "small"}}]);
    let classes = json!({"gpu_classes": [{"name": "big", "select": {"nvlink": true}}]});
    let expected = ["RoutingPolicy/m: spec.rules[0].gpu.class: no MeshPolicy declares the GPU class `small`"];
    assert_eq!(violations(&[model.clone(), mesh("c", &classes)]), expected);
    let expected = [
        "RoutingPolicy/m: spec.gpu.class: no MeshPolicy declares the GPU class `big`",
        "RoutingPolicy/m: spec.rules[0].gpu.class: no MeshPolicy declares the GPU class `small`",
    ];
    assert_eq!(violations(&[model]), expected);
}

#[test]
fn names_that_nobody_declares_are_told_in_bounds() {
    let rule = |n: usize| json!({"name": format!("r{n}"), "header": "x-a", "callers": ["gone"]});
    let rules: Vec<_> = (0..1000).map(rule).collect();
    let found = violations(&[validation("v", &json!({ "rules": rules }))]);
    assert_eq!(found.len(), 65);
    assert_eq!(found[64], "936 further violations are left out");
}

#[test]
fn patterns_are_bounded_over_all_documents_and_one_text_counts_once() {
    let with_patterns = |name: &str, from: usize, count: usize| {
        let rule = |n: usize| json!({"name": format!("r{n}"), "header": "x-a", "pattern": format!("a{n}")});
        let rules: Vec<_> = (from..from + count).map(rule).collect();
        validation(name, &json!({ "rules": rules }))
    };
    let (a, b, same) = (
        with_patterns("a", 0, 4000),
        with_patterns("b", 4000, 96),
        with_patterns("c", 0, 4000),
    );
    assert_eq!(violations(&[a.clone(), b.clone(), same]), [""; 0]);
    let mut model = routing("m", &[("v1", 100.0)]);
    let headers = json!([{"name": "x-a", "pattern": "b"}]);
    model["spec"]["rules"] = json!([{"name": "r", "match": {"headers": headers}, "gpu": {"class": "big"}}]);
    let classes = json!({"gpu_classes": [{"name": "big", "select": {"nvlink": true}}]});
    let found = violations(&[a, b, model, mesh("c", &classes)]);
    assert_eq!(
        found,
        ["RoutingPolicy/m: spec.rules: the documents have more than 4096 different patterns together"]
    );
}

#[test]
fn all_models_are_weighed_by_one_document_and_each_model_by_one_of_its_own() {
    let weights = |name: &str, spec: &Value| named("WeightPolicy", name, spec);
    let (all, own) = (json!({}), json!({"model": "m"}));
    assert_eq!(violations(&[weights("a", &all), weights("b", &own)]), [""; 0]);
    assert_eq!(
        violations(&[
            weights("a", &all),
            weights("b", &own),
            weights("c", &all),
            weights("d", &own)
        ]),
        [
            "WeightPolicy/c: spec.model: is absent, as in WeightPolicy/a, and only one may be for all models",
            "WeightPolicy/d: spec.model: model m is already weighed by WeightPolicy/b",
        ]
    );
}

#[test]
fn a_limit_on_what_nobody_routes_is_told_instead_of_never_applying() {
    let limits = |takes: Value| {
        let spec = json!({"match": takes, "limits": [{"unit": "requests", "rate": 1}]});
        parse(
            &json!({"api_version": "kilocard/v1", "kind": "RateLimitPolicy", "metadata": {"name": "l"}, "spec": spec}),
        )
        .unwrap()
    };
    let routed = routing("m", &[("v1", 100.0)]);
    let found = |takes: Value| Policy::compile("r", &[parse(&routed).unwrap(), limits(takes)]).map(drop);
    let told = |violations: Vec<Violation>| violations.iter().map(Violation::to_string).collect::<Vec<_>>();
    assert_eq!(
        found(json!({"models": ["m", "n"], "versions": ["v2"]})).map_err(told),
        Err(vec![
            "RateLimitPolicy/l: spec.match.models[1]: no RoutingPolicy routes the model `n`, so the limit would never apply"
                .to_owned(),
            "RateLimitPolicy/l: spec.match.versions[0]: no model that is meant has the version `v2`, so the limit would \
             never apply"
                .to_owned(),
        ])
    );
    assert!(found(json!({"models": ["m"], "versions": ["v1"]})).is_ok());
    assert!(Policy::compile("r", &[limits(json!({"models": ["n"]}))]).is_ok());
}

#[test]
fn what_requests_of_a_model_cost_is_said_once_and_of_a_model_that_is_routed() {
    let costs = |name: &str, model: &str| parse(&named("AdmissionPolicy", name, &json!({"model": model}))).unwrap();
    let routed = parse(&routing("m", &[("v1", 100.0)])).unwrap();
    let all = [routed, costs("a", "m"), costs("b", "m"), costs("c", "n")];
    let told = Policy::compile("r", &all).map(drop).unwrap_err();
    assert_eq!(
        told.iter().map(Violation::to_string).collect::<Vec<_>>(),
        [
            "AdmissionPolicy/b: spec.model: AdmissionPolicy/a already says what requests of model m cost",
            "AdmissionPolicy/c: spec.model: no RoutingPolicy routes the model `n`, so the policy would never apply",
        ]
    );
}

#[test]
fn each_version_is_scaled_by_one_document_and_each_model_by_one_for_all_versions() {
    let scale = |name: &str, version: Option<&str>| {
        let mut spec = json!({"model": "m", "max_replicas": 4, "targets": {"qps_per_replica": 50}});
        if let Some(version) = version {
            spec["version"] = json!(version);
        }
        named("ScalePolicy", name, &spec)
    };
    let alone = [scale("a", None), scale("b", Some("v1")), scale("c", Some("v2"))];
    assert_eq!(violations(&alone), [""; 0]);
    let [a, b, c] = alone;
    assert_eq!(
        violations(&[a, b, c, scale("d", None), scale("e", Some("v2"))]),
        [
            "ScalePolicy/d: spec.model: all versions of m are already scaled by ScalePolicy/a",
            "ScalePolicy/e: spec.version: m/v2 is already scaled by ScalePolicy/c",
        ]
    );
}
