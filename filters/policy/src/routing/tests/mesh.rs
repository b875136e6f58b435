//! Rules, sticky keys, callers, readiness, GPU classes and shadows.

use std::net::IpAddr;

use base64::Engine as _;
use serde_json::Value;

use super::*;
use crate::config::MeshState;
use crate::fixtures::{document, request};
use crate::{Decision, Peer, Policy};

/// Every bucket of a rule's or a policy's split has one owner, so this falls into the second version or not.
fn three() -> Value {
    let mut document = default_routing("m", &[("v1", 80.0), ("v2", 10.0), ("v3", 10.0)]);
    document["spec"]["versions"][2]["fallback"] = json!(["v2", "v1"]);
    document
}

#[allow(clippy::needless_pass_by_value, reason = "documents are written in place")]
fn with(mut document: Value, spec: Value) -> Value {
    for (field, value) in spec.as_object().unwrap() {
        document["spec"][field] = value.clone();
    }
    document
}

#[allow(clippy::needless_pass_by_value, reason = "as above")]
fn mesh(spec: Value) -> Value {
    json!({"api_version": "kilocard/v1", "kind": "MeshPolicy", "metadata": {"name": "mesh"}, "spec": spec})
}

fn in_state(documents: &[Value], unready: &[&str], saturated: &[&str]) -> Policy {
    let documents: Vec<_> = documents.iter().map(document).collect();
    let owned = |keys: &[&str]| keys.iter().map(|key| (*key).to_owned()).collect();
    let state = MeshState {
        unready: owned(unready),
        saturated: owned(saturated),
    };
    Policy::compile_in(&state, "test-1", &documents).unwrap()
}

#[test]
fn callers_stay_together_by_the_first_key_that_they_have() {
    let halves = default_routing("m", &[("v1", 50.0), ("v2", 50.0)]);
    let policy = policy(&[with(halves, json!({"sticky_by": ["session", "tenant"]}))]);
    let bucket = |more: &[(&str, &[u8])]| {
        let route = routed(&policy, more, 7);
        (route.reason, route.bucket.unwrap())
    };
    let of = |key: &[u8]| {
        (
            RouteReason::Sticky,
            cohort::bucket(cohort::Salt::new("m"), Key::of(key)),
        )
    };
    let all = [
        ("x-user-id", b"u".as_slice()),
        ("x-tenant-id", b"t"),
        ("x-session-id", b"s"),
    ];
    assert_eq!(bucket(&all), of(b"s"));
    assert_eq!(bucket(&all[..2]), of(b"t"));
    assert_eq!(bucket(&all[..1]), (RouteReason::Weighted, cohort::scale(7)));
}

#[test]
fn the_first_rule_that_matches_decides_the_split() {
    let rules = json!({"rules": [
        {"name": "both", "match": {"tenants": ["gold"], "methods": ["/inference.GRPCInferenceService/*"],
            "headers": [{"name": "x-size", "range": {"min": 100}}]}, "versions": [{"version": "v3", "weight": 100}]},
        {"name": "gold", "match": {"tenants": ["gold", "silver"]}, "versions": [{"version": "v2", "weight": 100}]},
        {"name": "beta", "match": {"headers": [{"name": "x-beta", "present": true}, {"name": "x-team", "pattern": "[a-c]+"}]},
            "versions": [{"version": "v2", "weight": 50}, {"version": "v3", "weight": 50}]},
        {"name": "other-method", "match": {"methods": ["/other.Service/Do"]}, "versions": [{"version": "v2", "weight": 100}]},
    ]});
    let policy = policy(&[with(three(), rules)]);
    let to = |more: &[(&str, &[u8])]| {
        let route = routed(&policy, more, u64::MAX);
        (route.rule, route.version)
    };
    assert_eq!(to(&[]), (None, "v1"));
    assert_eq!(to(&[("x-tenant-id", b"gold")]), (Some("gold"), "v2"));
    assert_eq!(to(&[("x-tenant-id", b"bronze")]), (None, "v1"));
    assert_eq!(
        to(&[("x-tenant-id", b"gold"), ("x-size", b"99.5")]),
        (Some("gold"), "v2")
    );
    assert_eq!(
        to(&[("x-tenant-id", b"gold"), ("x-size", b"100")]),
        (Some("both"), "v3")
    );
    assert_eq!(to(&[("x-beta", b""), ("x-team", b"abc")]), (Some("beta"), "v2"));
    // Any of its values, and the whole of it.
    assert_eq!(
        to(&[("x-beta", b"1"), ("x-team", b"x"), ("x-team", b"a")]),
        (Some("beta"), "v2")
    );
    assert_eq!(to(&[("x-beta", b"1"), ("x-team", b"abcd")]), (None, "v1"));
    let mut headers = request(&[]);
    headers.retain(|(name, _)| *name != b":path");
    headers.push((b":path", b"/other.Service/Do"));
    let Verdict::Route(route) = policy.decide(&RequestView::new(&headers), u64::MAX).verdict else {
        panic!("it is routed");
    };
    assert_eq!(route.rule, Some("other-method"));
}

#[test]
fn a_pin_wins_over_the_split_of_a_rule_but_not_over_its_gpu_class() {
    let documents = [
        mesh(json!({"gpu_classes": [{"name": "big", "select": {"min_memory_gb": 80}}]})),
        with(
            three(),
            json!({"rules": [{"name": "gold", "match": {"tenants": ["gold"]}, "gpu": {"class": "big"},
                "versions": [{"version": "v2", "weight": 100}]}]}),
        ),
    ];
    let policy = policy(&documents);
    let route = routed(&policy, &[("x-tenant-id", b"gold"), ("x-model-version", b"v3")], 0);
    assert_eq!((route.version, route.reason), ("v3", RouteReason::Pinned));
    assert_eq!(route.gpu.unwrap().label, "big");
}

#[test]
fn a_rule_remembers_its_own_cohorts_and_a_policy_its() {
    let cohorts = json!({"cohorts": {"v1": "9999-2500,1999-1500", "v2": "0-999,1000-1499", "v3": "2000-2499"}});
    let weights = default_routing("m", &[("v1", 80.0), ("v2", 15.0), ("v3", 5.0)]);
    let policy = policy(&[with(weights, cohorts)]);
    let at = |bucket| routed(&policy, &[], random_for(bucket)).version;
    assert_eq!(
        [at(0), at(1499), at(1500), at(2000), at(2499), at(2500)],
        ["v2", "v2", "v1", "v3", "v3", "v1"]
    );
}

struct From(&'static str);

impl Peer for From {
    fn address(&self) -> Option<IpAddr> {
        self.0.parse().ok()
    }

    fn uri_sans(&self) -> Vec<String> {
        Vec::new()
    }
}

#[test]
fn a_canary_weight_counts_only_for_the_callers_that_the_policy_names() {
    let documents = [
        mesh(json!({"callers": [{"name": "operators", "addresses": ["10.0.0.0/8"]}]})),
        with(
            default_routing("m", &[("v1", 100.0), ("v2", 0.0)]),
            json!({"canary_override": ["operators"]}),
        ),
    ];
    let policy = policy(&documents);
    let headers = request(&[("x-canary-weight", b"100")]);
    let from = |address| match policy
        .decide(&RequestView::new(&headers).from_peer(&From(address)), 0)
        .verdict
    {
        Verdict::Route(route) => (route.version, route.override_),
        other => panic!("{other:?}"),
    };
    assert_eq!(from("10.1.2.3"), ("v2", CanaryOverride::Honoured));
    assert_eq!(from("192.0.2.1"), ("v1", CanaryOverride::Ignored));
    assert_eq!(from("nowhere"), ("v1", CanaryOverride::Ignored));
    assert_eq!(routed(&policy, &[], 0).override_, CanaryOverride::None);
}

#[test]
fn a_version_that_is_not_ready_gives_way_to_its_fallbacks_in_order() {
    let to = |unready: &[&str]| {
        let policy = in_state(&[three()], unready, &[]);
        let Decision { verdict, .. } = decide(&policy, &[], random_for(1_500));
        match verdict {
            Verdict::Route(route) => Ok((route.version.to_owned(), route.instead_of.map(str::to_owned))),
            Verdict::Refuse(refusal) => Err((refusal.status, refusal.reason, refusal.message)),
            Verdict::Pass => panic!("it is routed"),
        }
    };
    let fallback = |version: &str| Ok((version.to_owned(), Some("v3".to_owned())));
    assert_eq!(to(&[]), Ok(("v3".to_owned(), None)));
    assert_eq!(to(&["m/v3"]), fallback("v2"));
    assert_eq!(to(&["m/v2", "m/v3"]), fallback("v1"));
    let message =
        "x-model: version v3 of model m has no ready endpoint, and nor has a fallback, v2, v1; try again later";
    assert_eq!(
        to(&["m/v1", "m/v2", "m/v3"]),
        Err((
            GrpcStatus::Unavailable,
            RefusalReason::VersionNotReady,
            message.to_owned()
        ))
    );
}

#[test]
fn a_canary_takes_no_traffic_before_it_is_ready() {
    let policy = in_state(&[default_routing("m", &[("v1", 50.0), ("v2", 50.0)])], &["m/v2"], &[]);
    for bucket in 0..10_000 {
        assert_eq!(routed(&policy, &[], random_for(bucket)).version, "v1");
    }
}

#[test]
fn a_pinned_request_falls_back_only_where_the_policy_says_so() {
    let pin: [(&str, &[u8]); 1] = [("x-model-version", b"v2")];
    let strict = in_state(&[three()], &["m/v2"], &[]);
    let refusal = refused(&strict, &pin);
    assert_eq!(
        (refusal.status, refusal.field.as_str()),
        (GrpcStatus::Unavailable, "x-model-version")
    );
    assert!(
        refusal.message.contains("a pinned request does not fall back"),
        "{}",
        refusal.message
    );
    let lenient = in_state(&[with(three(), json!({"pinned_fallback": true}))], &["m/v2"], &[]);
    let route = routed(&lenient, &pin, 0);
    assert_eq!(
        (route.version, route.instead_of, route.reason),
        ("v1", Some("v2"), RouteReason::Pinned)
    );
}

#[test]
fn a_refusal_says_how_far_routing_had_come() {
    let policy = in_state(
        &[default_routing("m", &[("v1", 90.0), ("v2", 10.0)])],
        &["m/v1", "m/v2"],
        &[],
    );
    let Verdict::Refuse(refusal) = decide(&policy, &[], random_for(42)).verdict else {
        panic!("nothing is ready");
    };
    let expected = Reached {
        model: Some("m"),
        rule: None,
        version: Some("v2"),
        bucket: Some(42),
    };
    assert_eq!(refusal.reached, expected);
}

fn with_classes() -> Policy {
    let class =
        |name: &str| json!({"name": name, "select": {"archs": [name]}, "fallback": [], "otherwise": "unavailable"});
    policy(&[
        mesh(json!({"gpu_classes": [class("hopper"), class("ampere"), class("ada")]})),
        with(
            three(),
            json!({"gpu": {"class": "ada"}, "rules": [
                {"name": "large", "match": {"headers": [{"name": "content-length", "range": {"min": 1000}}]}, "gpu": {"class": "ampere"}},
            ]}),
        ),
    ])
}

#[test]
fn the_gpu_class_is_the_requests_then_the_rules_then_the_models() {
    let policy = with_classes();
    let label = |more: &[(&str, &[u8])]| {
        routed(&policy, more, 0)
            .gpu
            .map(|wish| wish.label.into_owned())
            .unwrap()
    };
    assert_eq!(label(&[]), "ada");
    assert_eq!(label(&[("x-gpu-affinity", b"gpu0:high")]), "ada");
    assert_eq!(label(&[("content-length", b"1000")]), "ampere");
    assert_eq!(
        label(&[("content-length", b"1000"), ("x-gpu-class", b"hopper")]),
        "hopper"
    );
    let refusal = refused(&policy, &[("x-gpu-class", b"Volta")]);
    assert_eq!(
        (refusal.status, refusal.reason),
        (GrpcStatus::NotFound, RefusalReason::GpuClassNotFound)
    );
    assert_eq!(
        refusal.message,
        "x-gpu-class: there is no GPU class Volta; there are hopper, ampere, ada"
    );
}

#[test]
fn without_any_class_the_affinity_counts_and_goes_on_with_the_trace() {
    let policy = policy(&[three()]);
    let parent: (&str, &[u8]) = (
        "traceparent",
        b"00-0af7651916cd43dd8448eb211c80319c-b7ad6b7169203331-01",
    );
    let trace: (&str, &[u8]) = ("x-trace-id", b"ABCDEFGH-1");
    let id: (&str, &[u8]) = ("x-request-id", b"5b1c6c5e-9c66-4f41-9a3b-3f6f7a1d2c4e");
    let affinity: (&str, &[u8]) = ("x-gpu-affinity", b"gpu0:high");
    let tag = |more: &[(&str, &[u8])]| routed(&policy, more, 0).tag;
    assert_eq!(tag(&[affinity, id, trace, parent]).unwrap(), "0af76519-gpu0:high");
    assert_eq!(tag(&[affinity, id, trace]).unwrap(), "ABCDEFGH-gpu0:high");
    assert_eq!(tag(&[affinity, id]).unwrap(), "5b1c6c5e-gpu0:high");
    assert_eq!(tag(&[affinity, ("x-request-id", b"<script>")]), None);
    assert_eq!(tag(&[id]), None);
    let wish = routed(&policy, &[affinity], 0).gpu.unwrap();
    assert_eq!(wish.label, "gpu0:high");
    let subset = base64::engine::general_purpose::STANDARD
        .decode(wish.subset.as_bytes())
        .unwrap();
    assert!(String::from_utf8_lossy(&subset).contains("memory-high"));
    assert_eq!(tag(&[("x-gpu-affinity", b"any"), id]).unwrap(), "5b1c6c5e-any");
}

#[test]
fn a_shadow_gets_its_sample_unless_it_is_not_ready_saturated_or_the_one_that_serves() {
    let shadow = with(
        default_routing("m", &[("v1", 100.0), ("v2", 0.0)]),
        json!({"shadow": {"version": "v2", "percent": 25, "max_per_second": 5}}),
    );
    let share = |policy: &Policy, more: &[(&str, &[u8])]| {
        let draws = (0..4_000_u64).map(|draw| draw.wrapping_mul(0x9e37_79b9_7f4a_7c15));
        let copied: Vec<_> = draws.filter_map(|random| routed(policy, more, random).shadow).collect();
        assert!(
            copied
                .iter()
                .all(|copy| (copy.route_key, copy.max_per_second) == ("m/v2", 5))
        );
        copied.len()
    };
    let ready = policy(std::slice::from_ref(&shadow));
    assert!((850..1_150).contains(&share(&ready, &[])), "{}", share(&ready, &[]));
    assert!(share(&ready, &[("x-model-version", b"v1")]) > 0);
    assert_eq!(share(&ready, &[("x-model-version", b"v2")]), 0);
    assert_eq!(share(&in_state(std::slice::from_ref(&shadow), &["m/v2"], &[]), &[]), 0);
    assert_eq!(share(&in_state(&[shadow], &[], &["m/v2"]), &[]), 0);
}
