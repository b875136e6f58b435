use std::time::Duration;

use proptest::prelude::*;
use serde_json::{Value, json};

use super::*;
use crate::capture::{self, Circumstances};
use crate::fixtures::{default_routing, policy, request};
use crate::limit::gcra::WHOLE;
use crate::request::RequestView;

const SECOND: u64 = 1_000_000_000;

fn limited(specs: &[Value]) -> Policy {
    let mut documents = vec![
        default_routing("m", &[("v1", 100.0)]),
        json!({"api_version": "kilocard/v1", "kind": "MeshPolicy", "metadata": {"name": "mesh"},
            "spec": {"capture": {"percent": 100}}}),
    ];
    documents.extend(specs.iter().enumerate().map(|(index, spec)| {
        json!({"api_version": "kilocard/v1", "kind": "RateLimitPolicy", "metadata": {"name": format!("limit-{index}")},
            "spec": spec})
    }));
    policy(&documents)
}

type Headers<'a> = [(&'a str, &'a [u8])];

fn capture_of(policy: &Policy, headers: &Headers<'_>) -> Captured {
    let headers = request(headers);
    let view = RequestView::new(&headers);
    let circumstances = Circumstances {
        stages: Stages::ALL,
        random: 1,
        time: None,
    };
    let line = capture::write(policy, &view, &policy.decide(&view, 1), circumstances);
    Captured::parse(line.as_bytes()).unwrap().unwrap()
}

fn ask<'r>(rehearsal: &'r Rehearsal<'_>, headers: &Headers<'_>, now_ns: u64) -> Trial<'r> {
    let captured = capture_of(rehearsal.policy, headers);
    let decision = captured.decide(rehearsal.policy);
    let recorded = rehearsal.read(&captured, &decision).unwrap();
    rehearsal.ask(&recorded, now_ns, WHOLE)
}

fn key(trial: &Trial<'_>) -> Option<(String, String)> {
    trial
        .refused
        .as_ref()
        .map(|limited| (limited.label(), limited.key.clone()))
}

#[test]
fn a_tenant_that_the_policy_names_is_known_by_its_digest_and_others_stay_digests() {
    let policy = limited(&[
        json!({"match": {"tenants": ["acme"]}, "by": ["tenant"], "limits": [{"unit": "requests", "rate": 1, "burst": 1}]}),
        json!({"by": ["tenant", "user"], "limits": [{"unit": "requests", "rate": 1, "burst": 2}]}),
    ]);
    let rehearsal = Rehearsal::of(&policy);
    let acme: &Headers<'_> = &[("x-tenant-id", b"acme"), ("x-user-id", b"ada")];
    let beta: &Headers<'_> = &[("x-tenant-id", b"beta"), ("x-user-id", b"ada")];
    assert_eq!(key(&ask(&rehearsal, acme, SECOND)), None);
    let expected = Some(("limit-0.requests".to_owned(), "tenant=acme".to_owned()));
    assert_eq!(key(&ask(&rehearsal, acme, SECOND)), expected);
    // A tenant with a name as long is not taken for the same.
    let met = [(); 3].map(|()| key(&ask(&rehearsal, beta, SECOND)));
    let digest = |text: &[u8]| Key::of(text).digest();
    let expected = format!("tenant=#{:016x},user=#{:016x}", digest(b"beta"), digest(b"ada"));
    assert_eq!(met, [None, None, Some(("limit-1.requests".to_owned(), expected))]);
    // And after a second one may pass again.
    assert_eq!(key(&ask(&rehearsal, beta, 2 * SECOND)), None);
}

#[test]
fn what_can_never_pass_is_told_from_what_is_used_up_and_a_trial_run_refuses_nothing() {
    let tokens = json!({"limits": [{"unit": "tokens", "rate": 100, "burst": 1000}]});
    let mut trial = tokens.clone();
    trial["shadow"] = json!(true);
    let policies = [limited(&[tokens]), limited(&[trial])];
    let [enforcing, counting] = policies.each_ref().map(Rehearsal::of);
    let large: &Headers<'_> = &[("x-prompt-tokens", b"1"), ("x-max-tokens", b"1000000000000")];
    let refused = ask(&enforcing, large, 0).refused.unwrap();
    assert_eq!(refused.retry_after, None);
    let half: &Headers<'_> = &[("x-max-tokens", b"600")];
    assert!(ask(&enforcing, half, 0).refused.is_none());
    assert!(ask(&enforcing, half, 0).refused.unwrap().retry_after.is_some());
    let trial = ask(&counting, large, 0);
    assert!(
        trial.refused.is_none() && trial.counted[0].retry_after.is_none(),
        "{trial:?}"
    );
}

#[test]
fn a_request_that_is_refused_before_takes_nothing_and_one_of_another_stage_neither() {
    let policy = limited(&[json!({"limits": [{"unit": "requests", "rate": 1, "burst": 1}]})]);
    let rehearsal = Rehearsal::of(&policy);
    let refused = capture_of(&policy, &[("x-model", b"no such")]);
    assert!(rehearsal.read(&refused, &refused.decide(&policy)).is_none());
    let line = json!({"v": 1, "random": "0", "stages": "routing", "headers": [[":path", "/a.B/C"]]}).to_string();
    let routed = Captured::parse(line.as_bytes()).unwrap().unwrap();
    assert!(rehearsal.read(&routed, &routed.decide(&policy)).is_none());
    let line = line.replace("routing", "limits");
    let limited = Captured::parse(line.as_bytes()).unwrap().unwrap();
    assert!(rehearsal.read(&limited, &limited.decide(&policy)).is_some());
}

#[test]
fn the_filter_alone_goes_by_the_route_that_another_has_set() {
    let policy = limited(&[
        json!({"match": {"models": ["m"], "versions": ["v1"]}, "by": ["version"],
        "limits": [{"unit": "requests", "rate": 1, "burst": 1}]}),
    ]);
    let headers = request(&[("x-kilocard-route", b"m/v1")]);
    let view = RequestView::new(&headers);
    let circumstances = Circumstances {
        stages: Stages::LIMITS,
        random: 1,
        time: None,
    };
    let decision = policy.decide_stages(Stages::LIMITS, &view, 1);
    let line = capture::write(&policy, &view, &decision, circumstances);
    let captured = Captured::parse(line.as_bytes()).unwrap().unwrap();
    let rehearsal = Rehearsal::of(&policy);
    let recorded = rehearsal.read(&captured, &captured.decide(&policy)).unwrap();
    assert_eq!(key(&rehearsal.ask(&recorded, 0, WHOLE)), None);
    let expected = Some(("limit-0.requests".to_owned(), "version=v1".to_owned()));
    assert_eq!(key(&rehearsal.ask(&recorded, 0, WHOLE)), expected);
}

#[test]
fn of_a_sample_about_the_same_part_is_refused_as_of_all() {
    let policy = limited(&[json!({"by": ["tenant"], "limits": [{"unit": "requests", "rate": 500, "burst": 500}]})]);
    let captured = capture_of(&policy, &[("x-tenant-id", b"acme")]);
    let refused = |sample: u32| {
        let rehearsal = Rehearsal::of(&policy);
        let recorded = rehearsal.read(&captured, &captured.decide(&policy)).unwrap();
        let (mut seen, mut refused) = (0_u32, 0_u32);
        // A thousand a second for a minute.
        for number in 0..60_000_u64 {
            let drawn = Key::of(&number.to_le_bytes()).digest() % u64::from(WHOLE);
            if drawn < u64::from(sample) {
                seen += 1;
                refused += u32::from(
                    rehearsal
                        .ask(&recorded, number * SECOND / 1000, sample)
                        .refused
                        .is_some(),
                );
            }
        }
        f64::from(refused) / f64::from(seen)
    };
    let all = refused(WHOLE);
    assert!((0.48..0.5).contains(&all), "{all}");
    for sample in [WHOLE / 10, WHOLE / 100] {
        let of_sample = refused(sample);
        assert!(
            (of_sample - all).abs() < 0.06,
            "{of_sample} of {sample} ppm, {all} of all"
        );
    }
}

/// As the filter does it, with the request itself.
fn live(policy: &Policy, shelf: &Shelf, headers: &Headers<'_>, now_ns: u64) -> Option<(String, Option<Duration>)> {
    let headers = request(headers);
    let view = RequestView::new(&headers);
    let decision = policy.decide(&view, 1);
    let subject = Subject::of(&view, &decision, Stages::ALL);
    let cost = policy
        .cost_model(subject.model)
        .reserve(Asked::of(&view), Known::default());
    let charges = Charges::of(policy.rate_limits(), &subject, cost, SEED);
    let at = Moment {
        now_ns,
        base_share: WHOLE,
    };
    let Ok(outcome) = admit(shelf, &charges.enforced, at);
    match outcome {
        Outcome::Admitted(_) => None,
        Outcome::Refused(obstacle) => {
            Limited::of(&obstacle, &subject).map(|limited| (limited.label(), limited.retry_after))
        }
    }
}

proptest! {
    #[test]
    fn a_rehearsal_refuses_what_the_filter_refuses(requests in prop::collection::vec(
        (0_u64..SECOND, prop::sample::select(vec!["acme", "beta", "gama"]), prop::option::of("[ab]"), 0_u32..400), 1..80))
    {
        let policy = limited(&[
            json!({"match": {"tenants": ["acme", "gama"]}, "by": ["tenant"], "scope": "mesh",
                "limits": [{"unit": "tokens", "rate": 300, "burst": 350}]}),
            json!({"by": ["user", "version"], "limits": [{"unit": "requests", "rate": 2, "burst": 3}]}),
        ]);
        let (rehearsal, shelf) = (Rehearsal::of(&policy), Shelf::default());
        let mut now_ns = 0;
        for (pause, tenant, user, tokens) in requests {
            now_ns += pause / 4;
            let tokens = tokens.to_string();
            let mut headers: Vec<(&str, &[u8])> = vec![("x-tenant-id", tenant.as_bytes()), ("x-max-tokens", tokens.as_bytes())];
            headers.extend(user.as_ref().map(|user| ("x-user-id", user.as_bytes())));
            let trial = ask(&rehearsal, &headers, now_ns);
            let told = trial.refused.map(|limited| (limited.label(), limited.retry_after));
            prop_assert_eq!(told, live(&policy, &shelf, &headers, now_ns));
        }
    }
}
