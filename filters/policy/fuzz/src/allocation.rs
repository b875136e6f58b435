//! Cohorts with memory: who moves when weights change.

use std::ops::Range;

use arbitrary::{Result, Unstructured};
use kilocard_policy::cohort::{Allocation, BUCKETS};
use kilocard_policy::config::{self, RoutingPolicy, Spec};
use serde_json::{Value, json};

/// In this order in every document; versions come and go.
const VERSIONS: [&str; 6] = ["v1", "v2", "b", "v10", "a.1", "z-2"];
const MOST_CHANGES: usize = 12;

/// The bytes are one set of weights after another. Each is written as a document that remembers the allocation of the one
/// before, as `kilocard apply` does, and read back.
pub fn run(data: &[u8]) {
    let mut u = Unstructured::new(data);
    let _ = walk(&mut u);
}

fn walk(u: &mut Unstructured<'_>) -> Result<()> {
    let mut weights = draw(u)?;
    let mut policy = document(&weights, None);
    let mut before = check(&policy, &weights);
    for _ in 0..u.int_in_range(1..=MOST_CHANGES)? {
        let next = if u.arbitrary()? { shift(&weights, u)? } else { draw(u)? };
        let remembered = Allocation::of_policy(&policy);
        let changed = document(&next, Some(&remembered));
        let after = check(&changed, &next);
        check_moves((&weights, &before), (&next, &after));
        if same_versions(&weights, &next) {
            let back = Allocation::of_policy(&changed).reallocate(&given(&policy));
            assert_eq!(back, remembered, "taking {next:?} back to {weights:?} does not restore");
        }
        (weights, policy, before) = (next, changed, after);
    }
    Ok(())
}

/// Basis points by the position of the version in [`VERSIONS`]; `None`: it is not declared.
type Weights = [Option<u16>; VERSIONS.len()];

fn draw(u: &mut Unstructured<'_>) -> Result<Weights> {
    let mut left = BUCKETS;
    let mut weights = [None; VERSIONS.len()];
    let (stable, others) = weights.split_first_mut().expect("there are versions");
    for weight in others {
        if u.arbitrary()? {
            let share = u.int_in_range(0..=left)?;
            *weight = Some(share);
            left -= share;
        }
    }
    *stable = Some(left);
    Ok(weights)
}

/// Some weight from one declared version to another.
fn shift(weights: &Weights, u: &mut Unstructured<'_>) -> Result<Weights> {
    let declared: Vec<_> = (0..VERSIONS.len()).filter(|at| weights[*at].is_some()).collect();
    let (from, to) = (*u.choose(&declared)?, *u.choose(&declared)?);
    let mut next = *weights;
    let moved = u.int_in_range(0..=weights[from].unwrap_or_default())?;
    next[from] = next[from].map(|weight| weight - moved);
    next[to] = next[to].map(|weight| weight + moved);
    Ok(next)
}

fn document(weights: &Weights, remembered: Option<&Allocation>) -> RoutingPolicy {
    let declared = VERSIONS.iter().zip(weights);
    let versions: Vec<Value> = declared
        .filter_map(|(version, weight)| Some(json!({"version": version, "weight": f64::from((*weight)?) / 100.0})))
        .collect();
    let mut spec = json!({"model": "m", "versions": versions});
    if let Some(remembered) = remembered {
        spec["cohorts"] = json!(remembered.to_cohorts());
    }
    let document =
        json!({"api_version": "kilocard/v1", "kind": "RoutingPolicy", "metadata": {"name": "m"}, "spec": spec});
    let written = serde_json::to_vec(&document).expect("JSON can be written");
    match config::parse_bytes(&written).map(|document| document.spec().clone()) {
        Ok(Spec::Routing(policy)) => policy,
        other => panic!("{other:?}"),
    }
}

fn given(policy: &RoutingPolicy) -> Vec<(&str, config::Weight)> {
    policy
        .versions
        .iter()
        .map(|version| (version.version.as_str(), version.weight))
        .collect()
}

/// Which version, counted as in [`VERSIONS`], has the buckets from one to another, the other not included; from the lowest
/// bucket to the highest.
type Owners = Vec<(Range<u16>, usize)>;

/// Every bucket has an owner, and every version its share.
fn check(policy: &RoutingPolicy, weights: &Weights) -> Owners {
    let allocation = Allocation::of_policy(policy);
    let names: Vec<_> = allocation.versions().map(|(version, _)| version.to_owned()).collect();
    let mut owners = Owners::new();
    let mut shares = [0; VERSIONS.len()];
    let mut next = 0;
    for interval in allocation.intervals() {
        assert_eq!(interval.first, next, "a gap or an overlap");
        next = interval.last + 1;
        let owner = VERSIONS
            .iter()
            .position(|version| *version == names[interval.version])
            .expect("a known version");
        shares[owner] += next - interval.first;
        owners.push((interval.first..next, owner));
    }
    assert_eq!(next, BUCKETS);
    assert_eq!(shares, weights.map(Option::unwrap_or_default), "shares are weights");
    owners
}

/// Nobody moves who need not: out of a version go as many as it loses, into it come as many as it gains.
fn check_moves(before: (&Weights, &Owners), after: (&Weights, &Owners)) {
    let mut left = [0; VERSIONS.len()];
    let mut came = [0; VERSIONS.len()];
    let mut now = after.1.iter().peekable();
    for (range, from) in before.1 {
        let mut at = range.start;
        while let Some((other, to)) = now.peek().filter(|_| at < range.end) {
            let end = range.end.min(other.end);
            if from != to {
                left[*from] += end - at;
                came[*to] += end - at;
            }
            at = end;
            if at == other.end {
                now.next();
            }
        }
    }
    let weight = |weights: &Weights, version: usize| weights[version].unwrap_or(0);
    for version in 0..VERSIONS.len() {
        let (had, has) = (weight(before.0, version), weight(after.0, version));
        let moved = (left[version], came[version]);
        assert_eq!(
            moved,
            (had.saturating_sub(has), has.saturating_sub(had)),
            "out of and into {}",
            VERSIONS[version]
        );
    }
}

fn same_versions(some: &Weights, others: &Weights) -> bool {
    some.iter()
        .zip(others)
        .all(|(some, other)| some.is_some() == other.is_some())
}
