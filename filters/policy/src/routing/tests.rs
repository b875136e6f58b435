mod mesh;
mod pool;

use proptest::prelude::*;
use serde_json::json;

use super::*;
use crate::Verdict;
use crate::fixtures::{decide, default_routing, policy, refused, routed, routing};

/// The random number whose bucket is `bucket`, or a little above.
fn random_for(bucket: u16) -> u64 {
    (u128::from(bucket) * (1 << 64) / 10_000 + 1_000) as u64
}

#[test]
fn a_pin_wins_over_user_and_weights() {
    let policy = policy(&[default_routing("m", &[("v1", 100.0), ("v2", 0.0)])]);
    let route = routed(&policy, &[("x-model-version", b"v2"), ("x-user-id", b"ada")], 0);
    assert_eq!((route.version, route.route_key), ("v2", "m/v2"));
    assert_eq!((route.reason, route.bucket), (RouteReason::Pinned, None));
}

#[test]
fn a_pin_to_an_unknown_version_names_those_there_are() {
    let policy = policy(&[default_routing("m", &[("v1", 90.0), ("v2", 10.0)])]);
    let refusal = refused(&policy, &[("x-model-version", b"v3")]);
    assert_eq!(refusal.status, GrpcStatus::NotFound);
    assert_eq!(refusal.reason, RefusalReason::VersionNotFound);
    assert_eq!(refusal.field, "x-model-version");
    assert_eq!(
        refusal.message,
        "x-model-version: model m has no version v3; it has v1, v2"
    );
}

#[test]
fn an_empty_pin_is_an_invalid_argument_and_not_a_missing_one() {
    let policy = policy(&[default_routing("m", &[("v1", 100.0)])]);
    let refusal = refused(&policy, &[("x-model-version", b"")]);
    assert_eq!(
        (refusal.status, refusal.reason),
        (GrpcStatus::InvalidArgument, RefusalReason::MalformedModelVersion)
    );
}

#[test]
fn the_model_is_the_one_asked_for_else_the_default() {
    let policy = policy(&[routing("a", &[("v1", 100.0)]), default_routing("b", &[("v1", 100.0)])]);
    assert_eq!(routed(&policy, &[("x-model", b"a")], 0).route_key, "a/v1");
    assert_eq!(routed(&policy, &[("x-model", b"b")], 0).route_key, "b/v1");
    assert_eq!(routed(&policy, &[], 0).route_key, "b/v1");
}

#[test]
fn an_unknown_model_is_not_found_and_the_message_lists_the_models() {
    let policy = policy(&[routing("b", &[("v1", 100.0)]), routing("a", &[("v1", 100.0)])]);
    let refusal = refused(&policy, &[("x-model", b"c")]);
    assert_eq!(
        (refusal.status, refusal.reason),
        (GrpcStatus::NotFound, RefusalReason::ModelNotFound)
    );
    assert_eq!(refusal.message, "x-model: there is no model c; there are a, b");
}

#[test]
fn a_long_list_of_models_is_cut_in_the_message() {
    let documents: Vec<_> = (0..40)
        .map(|index| routing(&format!("m{index:02}"), &[("v1", 100.0)]))
        .collect();
    let refusal = refused(&policy(&documents), &[("x-model", b"other")]);
    assert!(refusal.message.ends_with("m14, m15 and 24 more"), "{}", refusal.message);
}

#[test]
fn without_a_model_and_without_a_default_the_client_is_told_to_name_one() {
    let refusal = refused(&policy(&[routing("a", &[("v1", 100.0)])]), &[]);
    assert_eq!(
        (refusal.status, refusal.reason),
        (GrpcStatus::InvalidArgument, RefusalReason::ModelRequired)
    );
    assert_eq!(
        refusal.message,
        "x-model: is required, for no model is the default; there are a"
    );
}

#[test]
fn without_any_model_nothing_is_found() {
    let empty = policy(&[]);
    assert_eq!(refused(&empty, &[]).status, GrpcStatus::NotFound);
    let refusal = refused(&empty, &[("x-model", b"a")]);
    assert_eq!(refusal.message, "x-model: there is no model a; there are no models");
}

#[test]
fn the_only_version_is_taken_without_drawing() {
    let policy = policy(&[default_routing("m", &[("v1", 100.0)])]);
    let route = routed(&policy, &[("x-user-id", b"ada")], u64::MAX);
    assert_eq!(
        (route.version, route.reason, route.bucket),
        ("v1", RouteReason::OnlyVersion, None)
    );
}

#[test]
fn a_user_stays_whatever_the_random_number() {
    let policy = policy(&[default_routing("m", &[("v1", 50.0), ("v2", 50.0)])]);
    let first = routed(&policy, &[("x-user-id", b"ada")], 0);
    assert_eq!(first.reason, RouteReason::Sticky);
    for random in [1, u64::MAX / 2, u64::MAX] {
        assert_eq!(routed(&policy, &[("x-user-id", b"ada")], random), first);
    }
}

#[test]
fn versions_after_the_first_are_stacked_from_bucket_zero() {
    let policy = policy(&[default_routing(
        "m",
        &[("v1", 60.0), ("v2", 10.0), ("v3", 0.0), ("v4", 30.0)],
    )]);
    let at = |bucket| routed(&policy, &[], random_for(bucket)).version;
    assert_eq!(
        [at(0), at(999), at(1000), at(3999), at(4000), at(9999)],
        ["v2", "v2", "v4", "v4", "v1", "v1"]
    );
}

#[test]
fn a_canary_weight_counts_only_where_the_policy_honours_it() {
    let ignoring = default_routing("m", &[("v1", 100.0), ("v2", 0.0)]);
    let mut honouring = ignoring.clone();
    honouring["spec"]["canary_override"] = json!(["anyone"]);
    let (ignoring, honouring) = (policy(&[ignoring]), policy(&[honouring]));
    let weight = |value: &'static str| [("x-canary-weight", value.as_bytes())];
    assert_eq!(routed(&ignoring, &weight("100"), 0).version, "v1");
    assert_eq!(routed(&honouring, &weight("100"), u64::MAX).version, "v2");
    assert_eq!(routed(&honouring, &weight("25"), random_for(2499)).version, "v2");
    assert_eq!(routed(&honouring, &weight("25"), random_for(2500)).version, "v1");
    assert_eq!(routed(&honouring, &weight("0"), 0).version, "v1");
    assert_eq!(routed(&honouring, &[], 0).version, "v1");
    // Refused even where it does not count: a client that sends nonsense should learn of it.
    assert_eq!(
        refused(&ignoring, &weight("101")).reason,
        RefusalReason::MalformedCanaryWeight
    );
}

#[test]
fn a_canary_weight_does_not_move_a_pin() {
    let mut document = default_routing("m", &[("v1", 50.0), ("v2", 50.0)]);
    document["spec"]["canary_override"] = json!(["anyone"]);
    let route_of = [("x-model-version", b"v1".as_slice()), ("x-canary-weight", b"100")];
    assert_eq!(routed(&policy(&[document]), &route_of, 0).version, "v1");
}

#[test]
fn the_weighted_draw_follows_the_weights() {
    let policy = policy(&[default_routing("m", &[("v1", 70.0), ("v2", 20.0), ("v3", 10.0)])]);
    let draws = 100_000_u64;
    let mut seen = [0_u64; 3];
    for draw in 0..draws {
        // A low-discrepancy sequence over all of u64 (multiples of 2^64 divided by the golden ratio).
        let version = routed(&policy, &[], draw.wrapping_mul(0x9e37_79b9_7f4a_7c15)).version;
        seen[usize::from(version.as_bytes()[1] - b'1')] += 1;
    }
    for (seen, share) in seen.iter().zip([0.7, 0.2, 0.1]) {
        assert!(
            (*seen as f64 / draws as f64 - share).abs() < 0.001,
            "{seen} of {draws} for {share}"
        );
    }
}

fn weights() -> impl Strategy<Value = (u16, u16)> {
    (0..=10_000_u16, 0..=10_000_u16).prop_map(|(a, b)| (a.min(b), a.max(b)))
}

fn two_versions(canary_basis_points: u16) -> crate::Policy {
    let canary = f64::from(canary_basis_points) / 100.0;
    let stable = f64::from(10_000 - canary_basis_points) / 100.0;
    policy(&[default_routing("m", &[("v1", stable), ("v2", canary)])])
}

proptest! {
    #[test]
    fn raising_the_canary_never_moves_a_user_off_it((low, high) in weights(), users in prop::collection::vec("[a-z0-9@.]{1,24}", 64)) {
        let (low, high) = (two_versions(low), two_versions(high));
        for user in &users {
            let headers = [("x-user-id", user.as_bytes())];
            if routed(&low, &headers, 0).version == "v2" {
                prop_assert_eq!(routed(&high, &headers, 0).version, "v2");
            }
        }
    }

    #[test]
    fn raising_a_header_canary_weight_never_moves_a_user_off_it(low in 0..=100_u16, more in 0..=100_u16, user in "[a-z0-9]{1,24}") {
        let mut document = default_routing("m", &[("v1", 90.0), ("v2", 10.0)]);
        document["spec"]["canary_override"] = json!(["anyone"]);
        let policy = policy(&[document]);
        let version = |weight: u16| {
            let weight = weight.to_string();
            routed(&policy, &[("x-user-id", user.as_bytes()), ("x-canary-weight", weight.as_bytes())], 0).version.to_owned()
        };
        if version(low) == "v2" {
            prop_assert_eq!(version((low + more).min(100)), "v2");
        }
    }

    #[test]
    fn a_pin_always_wins(canary in 0..=10_000_u16, user in "[a-z0-9]{1,24}", random: u64, pin in prop::sample::select(vec!["v1", "v2"])) {
        let policy = two_versions(canary);
        let route = routed(&policy, &[("x-user-id", user.as_bytes()), ("x-model-version", pin.as_bytes())], random);
        prop_assert_eq!((route.version, route.reason), (pin, RouteReason::Pinned));
    }

    #[test]
    fn arbitrary_header_values_never_panic_and_never_come_back(
        name in prop::sample::select(vec![
            ":method", ":path", "content-type", "te", "grpc-timeout", "x-model", "x-model-version", "x-canary-weight",
            "x-user-id", "x-kilocard-route", "x-other",
        ]),
        value in prop::collection::vec(any::<u8>(), 0..300),
        random: u64,
    ) {
        let policy = two_versions(1_000);
        if let Verdict::Refuse(refusal) = decide(&policy, &[(name, &value)], random).verdict {
            prop_assert!(refusal.message.starts_with(&refusal.field));
            prop_assert!(refusal.message.bytes().all(|byte| (0x20..0x7f).contains(&byte)), "{}", refusal.message);
            prop_assert!(refusal.message.len() < 512);
        }
    }

    #[test]
    fn arbitrary_headers_never_panic(
        headers in prop::collection::vec((prop::collection::vec(any::<u8>(), 0..24), prop::collection::vec(any::<u8>(), 0..64)), 0..120),
        random: u64,
    ) {
        let policy = two_versions(5_000);
        let headers: Vec<(&[u8], &[u8])> = headers.iter().map(|(name, value)| (name.as_slice(), value.as_slice())).collect();
        for stages in [crate::Stages::ALL, crate::Stages::VALIDATION, crate::Stages::ROUTING, crate::Stages::empty()] {
            let _ = policy.decide_stages(stages, &crate::RequestView::new(&headers), random);
        }
    }
}
