//! Declared rules.

use std::net::IpAddr;

use serde_json::{Value, json};

use super::*;
use crate::{Decision, Peer};

fn with_rules(rules: &Value) -> Policy {
    policy(&[
        default_routing("m", &[("v1", 100.0)]),
        validation_policy(&json!({"rules": rules})),
    ])
}

/// One rule on `x-h`.
fn with_rule(condition: &Value) -> Policy {
    let mut rule = json!({"name": "r", "header": "x-h"});
    for (key, value) in condition.as_object().unwrap() {
        rule[key] = value.clone();
    }
    with_rules(&json!([rule]))
}

fn validated<'p>(policy: &'p Policy, more: &[(&str, &[u8])]) -> Decision<'p> {
    policy.decide_stages(Stages::VALIDATION, &RequestView::new(&request(more)), 0)
}

fn assert_border(condition: &Value, good: &[&str], broken: &[&str]) {
    let shown = condition.to_string();
    let policy = with_rule(condition);
    for value in good {
        assert_eq!(
            validated(&policy, &[("x-h", value.as_bytes())]).verdict,
            Verdict::Pass,
            "{shown}: {value}"
        );
    }
    for value in broken {
        let Verdict::Refuse(refusal) = validated(&policy, &[("x-h", value.as_bytes())]).verdict else {
            panic!("{shown}: {value} passes");
        };
        assert_eq!(
            (refusal.reason, refusal.field.as_str()),
            (RefusalReason::RuleViolated, "x-h")
        );
        assert_eq!(
            refusal.violations[0]
                .rule
                .map(|rule| (rule.policy.as_str(), rule.name.as_str())),
            Some(("default", "r"))
        );
        assert!(
            value.len() < 8 || !refusal.message.contains(value),
            "echo: {}",
            refusal.message
        );
    }
}

#[test]
fn each_condition_holds_at_its_border_and_not_beyond() {
    assert_border(
        &json!({"pattern": "[a-z]+"}),
        &["a", "abc"],
        &["", "A", "abc1", "1abc", "a b"],
    );
    assert_border(&json!({"pattern": "a|b"}), &["a", "b"], &["ab", "xb", "ax"]);
    assert_border(
        &json!({"length": {"min": 2, "max": 3}}),
        &["ab", "abc"],
        &["", "a", "abcd"],
    );
    assert_border(
        &json!({"one_of": ["gold", "silver"]}),
        &["gold", "silver"],
        &["", "Gold", "gol", "golden"],
    );
    assert_border(
        &json!({"range": {"min": -1, "max": 10.5}}),
        &["-1", "0", "10.5", "010", "-0.5"],
        &[
            "-1.1", "10.51", "", "NaN", "inf", "1e1", "+1", "1.", ".5", "0x1", "--1", "1 ",
        ],
    );
    assert_border(
        &json!({"range": {"min": 5}}),
        &["5", "99999999999999999999999"],
        &["4.999", "-5"],
    );
    assert_border(
        &json!({"forbid": ["sql_injection", "path_traversal"]}),
        &["", "ada@example.org", "<script>"],
        &["' OR 1=1--", "../etc/passwd", "%2e%2e%2fetc"],
    );
}

#[test]
fn a_required_header_must_be_there_and_other_conditions_are_about_one_that_is() {
    let policy = with_rule(&json!({"required": true}));
    assert_eq!(validated(&policy, &[("x-h", b"")]).verdict, Verdict::Pass);
    let Verdict::Refuse(refusal) = validated(&policy, &[]).verdict else {
        panic!("passes");
    };
    assert_eq!(refusal.message, "x-h: is required by rule r");
    assert_eq!(
        validated(&with_rule(&json!({"length": {"min": 1}})), &[]).verdict,
        Verdict::Pass
    );
}

#[test]
fn a_value_of_the_wrong_length_is_not_held_to_costlier_conditions() {
    let policy = with_rule(&json!({"length": {"max": 8}, "pattern": ".*a.{100}", "forbid": ["sql_injection"]}));
    let long = "a".repeat(4000);
    let Verdict::Refuse(refusal) = validated(&policy, &[("x-h", long.as_bytes())]).verdict else {
        panic!("passes");
    };
    let messages: Vec<_> = refusal.violations.iter().map(|violation| &violation.message).collect();
    assert_eq!(messages, ["x-h: must be 0 to 8 bytes long, is 4000 (rule r)"]);
}

#[test]
fn every_value_of_a_header_is_held_to_a_rule() {
    let policy = with_rule(&json!({"one_of": ["a"]}));
    assert_eq!(
        validated(&policy, &[("x-h", b"a"), ("x-h", b"a")]).verdict,
        Verdict::Pass
    );
    assert!(matches!(
        validated(&policy, &[("x-h", b"a"), ("x-h", b"b")]).verdict,
        Verdict::Refuse(_)
    ));
}

#[test]
fn a_rule_is_about_the_models_and_methods_it_matches() {
    let matching = |of: &Value| with_rules(&json!([{"name": "r", "match": of, "header": "x-h", "required": true}]));
    let model = |name: &'static str| [("x-model", name.as_bytes())];
    let refuses =
        |policy: &Policy, more: &[(&str, &[u8])]| matches!(validated(policy, more).verdict, Verdict::Refuse(_));
    let policy = matching(&json!({"models": ["m"]}));
    assert!(refuses(&policy, &model("m")) && !refuses(&policy, &model("other")));
    assert!(
        refuses(&policy, &[]),
        "without x-model it is the default model's request"
    );
    let policy = matching(&json!({"methods": ["/inference.GRPCInferenceService/*"]}));
    assert!(refuses(&policy, &[]));
    let policy = matching(&json!({"methods": ["/inference.GRPCInferenceService/Other"]}));
    assert!(!refuses(&policy, &[]));
    let policy = matching(&json!({"models": ["m"], "methods": ["/inference.GRPCInferenceService/ModelInfer"]}));
    assert!(refuses(&policy, &[]) && !refuses(&policy, &model("other")));
}

#[test]
fn a_rule_that_reports_lets_pass_and_names_itself() {
    let policy = with_rule(&json!({"required": true, "action": "report"}));
    let decision = validated(&policy, &[]);
    assert_eq!(decision.verdict, Verdict::Pass);
    assert_eq!(decision.findings.len(), 1);
    assert_eq!(decision.findings[0].rule.map(|rule| rule.label), Some(0));
    assert_eq!(policy.rule_labels(), ["default.r"]);
}

#[test]
fn a_rule_has_a_status_of_its_own_or_that_of_its_kind() {
    let status = |condition: &Value| match validated(&with_rule(condition), &[("x-h", b"1")]).verdict {
        Verdict::Refuse(refusal) => refusal.status,
        other => panic!("{other:?}"),
    };
    assert_eq!(status(&json!({"one_of": ["a"]})), GrpcStatus::InvalidArgument);
    assert_eq!(
        status(&json!({"one_of": ["a"], "status": "UNAUTHENTICATED"})),
        GrpcStatus::Unauthenticated
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
fn a_header_for_some_callers_is_refused_from_others() {
    let policy = policy(&[
        json!({"api_version": "kilocard/v1", "kind": "MeshPolicy", "metadata": {"name": "mesh"},
            "spec": {"callers": [{"name": "local", "addresses": ["10.0.0.0/8"]}]}}),
        validation_policy(&json!({"rules": [{"name": "r", "header": "x-h", "callers": ["local"]}]})),
    ]);
    let decide = |address: &'static str, more: &[(&str, &[u8])]| {
        let (headers, peer) = (request(more), From(address));
        let view = RequestView::new(&headers).from_peer(&peer);
        match policy.decide_stages(Stages::VALIDATION, &view, 0).verdict {
            Verdict::Pass => None,
            Verdict::Refuse(refusal) => Some((refusal.reason, refusal.status)),
            Verdict::Route(_) => panic!("nothing routes"),
        }
    };
    assert_eq!(decide("10.1.2.3", &[("x-h", b"1")]), None);
    assert_eq!(decide("192.0.2.1", &[]), None);
    let expected = Some((RefusalReason::CallerNotAllowed, GrpcStatus::PermissionDenied));
    assert_eq!(decide("192.0.2.1", &[("x-h", b"1")]), expected);
    assert_eq!(
        decide("", &[("x-h", b"1")]),
        expected,
        "nobody in particular is not local"
    );
}

#[test]
fn rules_beyond_the_bound_share_a_label() {
    let rules: Vec<_> = (0..300)
        .map(|at| json!({"name": format!("r{at}"), "header": "x-h", "one_of": ["a"]}))
        .collect();
    let policy = with_rules(&json!(rules));
    let labels = policy.rule_labels();
    assert_eq!(
        (labels.len(), labels[255].as_str(), labels[256].as_str()),
        (257, "default.r255", "other")
    );
    let Verdict::Refuse(refusal) = validated(&policy, &[("x-h", b"b")]).verdict else {
        panic!("passes");
    };
    assert_eq!(refusal.violations.len(), crate::MAX_FINDINGS);
    assert!(
        refusal
            .violations
            .iter()
            .all(|finding| finding.rule.is_some_and(|rule| rule.label < labels.len()))
    );
}

#[test]
fn a_pattern_without_a_length_is_tried_on_no_more_than_clients_may_make_it_cost() {
    let (fits, longer) = ("a".repeat(512), "a".repeat(513));
    assert_border(&json!({"pattern": "a+"}), &[&fits], &[&longer]);
    assert_border(&json!({"pattern": "a+", "length": {"max": 600}}), &[&longer], &[]);
}
