//! Which pool takes a request.

use super::*;
use crate::Policy;
use crate::config::{Priority, parse};
use crate::fixtures::document;
use serde_json::Value;

fn pool(name: &str, match_: &Value) -> Value {
    json!({"api_version": "kilocard/v1", "kind": "PoolPolicy", "metadata": {"name": name}, "spec": {"match": match_}})
}

fn model(name: &str, model_type: &str, more: &Value) -> Value {
    let mut document = routing(name, &[("v1", 100.0)]);
    document["spec"]["model_type"] = json!(model_type);
    for (field, value) in more.as_object().unwrap() {
        document["spec"][field] = value.clone();
    }
    document
}

fn pool_of(policy: &Policy, headers: &[(&str, &[u8])]) -> (Priority, Option<String>) {
    let route = routed(policy, headers, 0);
    (route.priority, route.pool.map(str::to_owned))
}

fn named(name: &str) -> Option<String> {
    Some(name.to_owned())
}

#[test]
fn without_pools_only_what_is_less_urgent_goes_apart() {
    let policy = policy(&[routing("m", &[("v1", 100.0)])]);
    let with = |priority: &'static [u8]| pool_of(&policy, &[("x-model", b"m"), ("x-priority", priority)]);
    assert_eq!(pool_of(&policy, &[("x-model", b"m")]), (Priority::P0, None));
    assert_eq!(with(b"P0"), (Priority::P0, None));
    assert_eq!(with(b"P1"), (Priority::P1, named("bulk")));
    assert_eq!(with(b"P2"), (Priority::P2, named("bulk")));
}

#[test]
fn of_the_pools_that_would_take_a_request_the_one_that_says_more_of_it_counts() {
    let policy = policy(&[
        model("chat", "llm", &json!({})),
        model("embed", "embedding", &json!({})),
        pool("batch", &json!({"priorities": ["P1", "P2"]})),
        pool("gold", &json!({"sla": ["gold"]})),
        pool("vectors", &json!({"model_types": ["embedding"]})),
        pool("gold-vectors", &json!({"model_types": ["embedding"], "sla": ["gold"]})),
        pool("chat-later", &json!({"models": ["chat"], "priorities": ["P2"]})),
    ]);
    let of = |model: &'static [u8], priority: &'static [u8], sla: Option<&'static [u8]>| {
        let mut headers = vec![("x-model", model), ("x-priority", priority)];
        headers.extend(sla.map(|sla| ("x-sla", sla)));
        pool_of(&policy, &headers).1
    };
    assert_eq!(of(b"chat", b"P0", None), None);
    assert_eq!(of(b"chat", b"P1", None), named("batch"));
    assert_eq!(of(b"chat", b"P1", Some(b"gold")), named("gold"));
    assert_eq!(of(b"chat", b"P2", Some(b"gold")), named("chat-later"));
    assert_eq!(of(b"chat", b"P0", Some(b"silver")), None);
    assert_eq!(of(b"embed", b"P0", None), named("vectors"));
    assert_eq!(of(b"embed", b"P2", Some(b"gold")), named("gold-vectors"));
}

#[test]
fn the_policy_says_how_urgent_a_request_is_that_does_not_and_how_urgent_it_may_be() {
    let policy = policy(&[model(
        "m",
        "llm",
        &json!({
            "priority": {"default": "P1", "highest": "P1"},
            "rules": [{"name": "gold", "match": {"tenants": ["gold"]}, "priority": {}}],
        }),
    )]);
    let of = |headers: &[(&'static str, &'static [u8])]| {
        let headers = [&[("x-model", b"m".as_slice())], headers].concat();
        pool_of(&policy, &headers).0
    };
    assert_eq!(of(&[]), Priority::P1);
    assert_eq!(
        of(&[("x-priority", b"P0")]),
        Priority::P1,
        "nobody asks for more than he may"
    );
    assert_eq!(of(&[("x-priority", b"P2")]), Priority::P2);
    assert_eq!(of(&[("x-tenant-id", b"gold")]), Priority::P0);
    assert_eq!(of(&[("x-tenant-id", b"gold"), ("x-priority", b"P2")]), Priority::P2);
}

#[test]
fn a_filter_that_only_routes_makes_do_without_a_priority_and_an_sla_that_are_none() {
    let policy = policy(&[
        default_routing("m", &[("v1", 100.0)]),
        pool("gold", &json!({"sla": ["gold"]})),
    ]);
    let headers = crate::fixtures::request(&[("x-priority", b"urgent"), ("x-sla", b"gold\x00")]);
    let verdict = policy
        .decide_stages(crate::Stages::ROUTING, &crate::RequestView::new(&headers), 0)
        .verdict;
    let Verdict::Route(route) = verdict else {
        panic!("{verdict:?}")
    };
    assert_eq!((route.priority, route.pool), (Priority::P0, None));
}

#[test]
fn pools_that_would_take_the_same_request_and_say_as_much_contradict_each_other() {
    let refusal = |one: &Value, other: &Value| {
        let documents = [document(&pool("one", one)), document(&pool("other", other))];
        Policy::compile("r", &documents)
            .err()
            .map(|violations| violations[0].to_string())
    };
    let told = refusal(&json!({"priorities": ["P1", "P2"]}), &json!({"priorities": ["P2"]})).unwrap();
    assert!(
        told.starts_with("PoolPolicy/other: spec.match: would take requests that PoolPolicy/one takes"),
        "{told}"
    );
    let by_type = json!({"model_types": ["llm", "rerank"], "sla": ["a"]});
    assert!(refusal(&by_type, &json!({"model_types": ["rerank"], "sla": ["b", "a"]})).is_some());
    assert_eq!(
        refusal(&by_type, &json!({"model_types": ["rerank"], "sla": ["b"]})),
        None
    );
    assert_eq!(refusal(&json!({"priorities": ["P2"]}), &json!({"models": ["m"]})), None);
}

#[test]
fn a_mesh_has_no_more_pools_than_a_proxy_can_hold() {
    let pools: Vec<_> = (0..65)
        .map(|index| document(&pool(&format!("p{index}"), &json!({"models": [format!("m{index}")]}))))
        .collect();
    assert!(Policy::compile("r", &pools[..64]).is_ok());
    let violations = Policy::compile("r", &pools).unwrap_err();
    assert_eq!(
        violations[0].to_string(),
        "PoolPolicy/p64: metadata.name: there are 64 pools already, and may be no more"
    );
}

prop_compose! {
    fn any_match()(
        by in 0..3_u8,
        models in prop::sample::subsequence(&["a", "b", "c"], 1..=3),
        types in prop::sample::subsequence(&["llm", "embedding", "rerank"], 1..=3),
        sla in prop::sample::subsequence(&["x", "y"], 0..=2),
        priorities in prop::sample::subsequence(&["P0", "P1", "P2"], 0..=3),
    ) -> Value {
        let mut match_ = json!({});
        match by {
            0 => match_["models"] = json!(models),
            1 => match_["model_types"] = json!(types),
            _ => {}
        }
        if !sla.is_empty() {
            match_["sla"] = json!(sla);
        }
        if !priorities.is_empty() || match_ == json!({}) {
            match_["priorities"] = if priorities.is_empty() { json!(["P1"]) } else { json!(priorities) };
        }
        match_
    }
}

proptest! {
    /// Pools that are admitted together take a request alike in whatever order they are declared.
    #[test]
    fn the_order_of_pools_does_not_matter(
        matches in prop::collection::vec(any_match(), 1..6),
        asked in prop::sample::select(&["a", "b", "c"][..]),
        priority in prop::sample::select(&["P0", "P1", "P2"][..]),
        sla in prop::option::of(prop::sample::select(&["x", "y"][..])),
    ) {
        let types = [("a", "llm"), ("b", "embedding"), ("c", "rerank")];
        let mut documents: Vec<_> = types.iter().map(|(name, of)| document(&model(name, of, &json!({})))).collect();
        let pools = matches.iter().enumerate().map(|(index, match_)| parse(&pool(&format!("p{index}"), match_)).unwrap());
        documents.extend(pools);
        let forth = Policy::compile("r", &documents);
        documents.reverse();
        let back = Policy::compile("r", &documents);
        prop_assert_eq!(forth.is_ok(), back.is_ok());
        if let (Ok(forth), Ok(back)) = (forth, back) {
            let mut headers = vec![("x-model", asked.as_bytes()), ("x-priority", priority.as_bytes())];
            headers.extend(sla.map(|sla| ("x-sla", sla.as_bytes())));
            prop_assert_eq!(pool_of(&forth, &headers), pool_of(&back, &headers));
        }
    }
}
