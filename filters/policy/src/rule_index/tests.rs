use proptest::collection::vec;
use proptest::prelude::*;

use super::*;

type Rule = (Vec<String>, Vec<String>);

fn index(rules: &[Rule]) -> RuleIndex {
    RuleIndex::build(rules.iter().map(|(subjects, methods)| Scope {
        subjects: subjects.iter().map(|it| it.clone().into_bytes()).collect(),
        methods: methods.iter().map(String::as_str).collect(),
    }))
}

/// The meaning that the index must have, spelled out.
fn scan(rules: &[Rule], subject: Option<&str>, path: &str) -> Vec<usize> {
    let for_subject =
        |subjects: &[String]| subjects.is_empty() || subjects.iter().any(|it| Some(it.as_str()) == subject);
    let for_path = |methods: &[String]| {
        let is_service_of = |it: &str| it.ends_with('/') && path.starts_with(it);
        methods.is_empty() || methods.iter().any(|it| it == path || is_service_of(it))
    };
    let applies = |(subjects, methods): &Rule| for_subject(subjects) && for_path(methods);
    (0..rules.len()).filter(|at| applies(&rules[*at])).collect()
}

fn find(rules: &[Rule], subject: Option<&str>, path: &str) -> Vec<usize> {
    index(rules).find(subject.map(str::as_bytes), path.as_bytes()).collect()
}

fn rule(subjects: &[&str], methods: &[&str]) -> Rule {
    let owned = |texts: &[&str]| texts.iter().map(|text| (*text).to_owned()).collect();
    (owned(subjects), owned(methods))
}

#[test]
fn no_rules_apply_where_there_are_none() {
    assert!(find(&[], Some("m"), "/p.S/M").is_empty());
}

#[test]
fn rules_are_found_by_subject_method_and_service_in_declared_order() {
    let rules = [
        rule(&["a"], &["/p.S/M"]),
        rule(&[], &["/p.S/"]),
        rule(&["b"], &[]),
        rule(&[], &[]),
        rule(&["a", "b"], &["/p.S/M", "/p.S/"]),
    ];
    assert_eq!(find(&rules, Some("a"), "/p.S/M"), [0, 1, 3, 4]);
    assert_eq!(find(&rules, Some("b"), "/p.S/N"), [1, 2, 3, 4]);
    assert_eq!(find(&rules, Some("c"), "/p.T/M"), [3]);
    assert_eq!(find(&rules, None, "/p.S/M"), [1, 3]);
    assert_eq!(find(&rules, Some("b"), ""), [2, 3]);
}

#[test]
fn a_rule_of_many_subjects_and_many_methods_takes_few_entries_and_is_found_all_the_same() {
    let subjects: Vec<_> = (0..300).map(|at| format!("m{at}")).collect();
    let methods: Vec<_> = (0..200).map(|at| format!("/p.S/M{at}")).collect();
    let rules = [(subjects.clone(), methods.clone()), (methods, subjects)];
    let index = index(&rules);
    let entries: usize = index.lists.values().map(Vec::len).sum();
    assert_eq!(entries, 600);
    assert_eq!(find(&rules, Some("m7"), "/p.S/M9"), [0]);
    assert!(find(&rules, Some("m7"), "/p.S/M200").is_empty());
    assert!(find(&rules, Some("m300"), "/p.S/M9").is_empty());
    assert!(find(&rules, None, "/p.S/M9").is_empty());
}

#[test]
fn subjects_may_be_numbers() {
    let scope = |subjects: &[u64]| Scope {
        subjects: subjects.to_vec(),
        methods: vec![],
    };
    let index = RuleIndex::build([scope(&[1, 2]), scope(&[2])]);
    assert_eq!(index.find(Some(&2), b"/p.S/M").collect::<Vec<_>>(), [0, 1]);
    assert_eq!(index.find(Some(&1), b"/p.S/M").collect::<Vec<_>>(), [0]);
}

fn rules() -> impl Strategy<Value = Vec<Rule>> {
    let subject = "[ab]{1,3}";
    let method = "/[pq]\\.[ST]/([MN]{1,2})?";
    vec((vec(subject, 0..12), vec(method, 0..12)), 0..40)
}

proptest! {
    #[test]
    fn the_index_finds_exactly_what_a_linear_scan_finds(
        rules in rules(),
        subject in proptest::option::of("[abc]{1,3}"),
        path in "(/[pq]\\.[ST]/[MNO/]{0,3})|[/pS]{0,6}",
    ) {
        prop_assert_eq!(find(&rules, subject.as_deref(), &path), scan(&rules, subject.as_deref(), &path));
    }
}
