use std::collections::BTreeMap;

use proptest::prelude::*;
use serde_json::json;

use super::*;
use crate::config::{Spec, parse};

/// Versions and their shares in basis points.
type Shares<'a> = [(&'a str, u16)];

fn weights(shares: &Shares<'_>) -> Vec<(String, Weight)> {
    let versions: Vec<_> = shares
        .iter()
        .map(|(version, share)| json!({"version": version, "weight": f64::from(*share) / 100.0}))
        .collect();
    let document = parse(&json!({
        "api_version": "kilocard/v1", "kind": "RoutingPolicy", "metadata": {"name": "m"},
        "spec": {"model": "m", "versions": versions},
    }));
    let document = document.unwrap();
    let Spec::Routing(policy) = document.spec() else {
        panic!("it is a RoutingPolicy");
    };
    let pair = |version: &crate::config::VersionWeight| (version.version.clone(), version.weight);
    policy.versions.iter().map(pair).collect()
}

fn borrowed(weights: &[(String, Weight)]) -> Vec<(&str, Weight)> {
    weights
        .iter()
        .map(|(version, weight)| (version.as_str(), *weight))
        .collect()
}

fn initial(shares: &Shares<'_>) -> Allocation {
    Allocation::initial(&borrowed(&weights(shares)))
}

fn reallocated(from: &Allocation, shares: &Shares<'_>) -> Allocation {
    from.reallocate(&borrowed(&weights(shares)))
}

fn text(allocation: &Allocation) -> Vec<String> {
    let cohorts = allocation.to_cohorts();
    allocation
        .versions()
        .map(|(version, _)| format!("{version} {}", cohorts.get(version).unwrap()))
        .collect()
}

fn owners(allocation: &Allocation) -> Vec<String> {
    let names: Vec<_> = allocation.versions().map(|(version, _)| version.to_owned()).collect();
    let mut owners = Vec::new();
    for interval in allocation.intervals() {
        assert_eq!(usize::from(interval.first), owners.len(), "a gap or an overlap");
        owners.resize(usize::from(interval.last) + 1, names[interval.version].clone());
    }
    assert_eq!(owners.len(), usize::from(BUCKETS));
    owners
}

#[test]
fn without_history_versions_after_the_first_are_stacked_from_bucket_zero() {
    let allocation = initial(&[("v1", 6_000), ("v2", 1_000), ("v3", 0), ("v4", 3_000)]);
    assert_eq!(text(&allocation), ["v1 9999-4000", "v2 0-999", "v3 ", "v4 1000-3999"]);
    assert_eq!(text(&initial(&[("v1", 0), ("v2", 10_000)])), ["v1 ", "v2 0-9999"]);
    assert_eq!(text(&initial(&[("v1", 10_000)])), ["v1 9999-0"]);
}

#[test]
fn a_third_version_does_not_move_when_the_second_grows() {
    let before = initial(&[("v1", 8_000), ("v2", 1_000), ("v3", 1_000)]);
    let after = reallocated(&before, &[("v1", 7_500), ("v2", 1_500), ("v3", 1_000)]);
    assert_eq!(text(&after), ["v1 9999-2500", "v2 0-999,2000-2499", "v3 1000-1999"]);
    let back = reallocated(&after, &[("v1", 8_000), ("v2", 1_000), ("v3", 1_000)]);
    assert_eq!(back, before);
}

#[test]
fn a_version_that_is_gone_gives_up_all_and_nobody_else_moves() {
    let before = initial(&[("v1", 8_000), ("v2", 1_000), ("v3", 1_000)]);
    let after = reallocated(&before, &[("v1", 9_000), ("v3", 1_000)]);
    assert_eq!(text(&after), ["v1 9999-2000,999-0", "v3 1000-1999"]);
    let renamed = reallocated(&after, &[("v1", 9_000), ("v4", 1_000)]);
    assert_eq!(text(&renamed), ["v1 9999-2000,999-0", "v4 1999-1000"]);
}

#[test]
fn what_a_document_remembers_survives_its_text() {
    let allocation = reallocated(
        &initial(&[("v1", 8_000), ("v2", 1_000), ("v3", 1_000)]),
        &[("v1", 500), ("v2", 9_499), ("v3", 1)],
    );
    let cohorts = allocation.to_cohorts();
    let same = [("v1", 500), ("v2", 9_499), ("v3", 1)];
    assert_eq!(reallocated(&Allocation::remembered(&cohorts), &same), allocation);
    // Ranges written one by one are the same ranges.
    let split: Cohorts = [("v1", "9999-5000,4999-4000"), ("v2", "0-0,1-1,2-3999")]
        .map(|(version, ranges)| (version.to_owned(), ranges.parse().unwrap()))
        .into_iter()
        .collect();
    assert_eq!(text(&Allocation::remembered(&split)), ["v1 9999-4000", "v2 0-3999"]);
}

const NAMES: [&str; 6] = ["v1", "v2", "v3", "v4", "v5", "v6"];

/// Shares of `count` versions that sum to the whole, some of them nothing.
fn shares(count: usize) -> impl Strategy<Value = Vec<(&'static str, u16)>> {
    let cuts = prop::collection::vec(prop_oneof![0..=BUCKETS, Just(0), Just(BUCKETS)], count - 1);
    cuts.prop_map(move |mut cuts| {
        cuts.sort_unstable();
        let mut last = 0;
        let mut shares = Vec::new();
        for (name, cut) in NAMES.iter().zip(cuts.into_iter().chain([BUCKETS])) {
            shares.push((*name, cut - last));
            last = cut;
        }
        shares
    })
}

/// A history of the same versions.
fn history() -> impl Strategy<Value = Vec<Vec<(&'static str, u16)>>> {
    (2..=NAMES.len()).prop_flat_map(|count| prop::collection::vec(shares(count), 2..6))
}

fn after(history: &[Vec<(&'static str, u16)>]) -> Allocation {
    let (first, rest) = history.split_first().unwrap();
    rest.iter()
        .fold(initial(first), |allocation, shares| reallocated(&allocation, shares))
}

proptest! {
    #[test]
    fn every_bucket_has_one_owner_and_every_version_its_share(history in history()) {
        let mut seen: BTreeMap<String, u16> = BTreeMap::new();
        for owner in owners(&after(&history)) {
            *seen.entry(owner).or_default() += 1;
        }
        for (version, share) in history.last().unwrap() {
            prop_assert_eq!(seen.remove(*version).unwrap_or_default(), *share);
        }
        prop_assert!(seen.is_empty());
    }

    #[test]
    fn nobody_moves_but_into_a_version_that_grew_and_no_more_than_must(history in history(), next in 0_usize..6) {
        let next = &history[next % history.len()];
        let before = after(&history);
        let moved: Vec<_> = owners(&before).into_iter().zip(owners(&reallocated(&before, next))).filter(|(a, b)| a != b).collect();
        let was: BTreeMap<_, _> = history.last().unwrap().iter().copied().collect();
        let is: BTreeMap<_, _> = next.iter().copied().collect();
        let grown: usize = is.iter().map(|(version, share)| usize::from(share.saturating_sub(was[version]))).sum();
        prop_assert_eq!(moved.len(), grown);
        for (from, to) in moved {
            prop_assert!(is[from.as_str()] < was[from.as_str()], "{} gave without falling", from);
            prop_assert!(is[to.as_str()] > was[to.as_str()], "{} got without growing", to);
        }
    }

    #[test]
    fn a_lower_weight_moves_out_only_those_who_came_last(history in history(), next in 0_usize..6) {
        let before = after(&history);
        let now = reallocated(&before, &history[next % history.len()]);
        let order = |allocation: &Allocation| -> BTreeMap<String, Vec<u16>> {
            let buckets = |range: &BucketRange| -> Vec<u16> {
                if range.from <= range.to { (range.from..=range.to).collect() } else { (range.to..=range.from).rev().collect() }
            };
            allocation.versions().map(|(version, ranges)| (version.to_owned(), ranges.iter().flat_map(buckets).collect())).collect()
        };
        let now = order(&now);
        for (version, had) in order(&before) {
            let has = &now[&version];
            let common = had.len().min(has.len());
            prop_assert_eq!(&had[..common], &has[..common], "{}", version);
        }
    }

    #[test]
    fn taking_a_change_back_restores_every_bucket(history in history()) {
        let (last, earlier) = history.split_last().unwrap();
        let before = after(earlier);
        let back = reallocated(&reallocated(&before, last), earlier.last().unwrap());
        prop_assert_eq!(back, before);
    }

    #[test]
    fn two_versions_need_no_memory(history in prop::collection::vec(shares(2), 2..6)) {
        prop_assert_eq!(after(&history), initial(history.last().unwrap()));
    }

    #[test]
    fn versions_that_come_and_go_leave_every_bucket_owned(
        history in prop::collection::vec((1..=NAMES.len()).prop_flat_map(shares), 2..6),
    ) {
        let allocation = after(&history);
        prop_assert_eq!(owners(&allocation).len(), usize::from(BUCKETS));
        let remembered = Allocation::remembered(&allocation.to_cohorts());
        prop_assert_eq!(reallocated(&remembered, history.last().unwrap()), allocation);
    }
}
