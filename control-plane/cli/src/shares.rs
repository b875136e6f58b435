//! How the buckets of a request are divided between the versions: the allocation that the policy decides by.

use kilocard_policy::cohort::{Allocation, BUCKETS};
use kilocard_policy::config::{Document, RoutingPolicy, RoutingRule, Spec};
use kilocard_policy::{CanaryOverride, Route};
use serde_json::{Value, json};

/// A version and the buckets it has.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Share {
    /// The version.
    pub version: String,
    /// First and last bucket of each run, from below.
    pub ranges: Vec<(u16, u16)>,
}

impl Share {
    /// In percent.
    pub fn percent(&self) -> f64 {
        let buckets: u16 = self.ranges.iter().map(|(first, last)| last - first + 1).sum();
        f64::from(buckets) * 100.0 / f64::from(BUCKETS)
    }

    /// For `--output json`.
    pub fn to_json(&self) -> Value {
        let range = |(first, last): &(u16, u16)| json!({"first_bucket": first, "last_bucket": last});
        json!({
            "version": self.version, "percent": self.percent(),
            "ranges": self.ranges.iter().map(range).collect::<Value>(),
        })
    }

    /// In words: `v2 has buckets 0 to 999 (10%)`.
    pub fn describe(&self) -> String {
        let ranges: Vec<String> = self
            .ranges
            .iter()
            .map(|(first, last)| format!("{first} to {last}"))
            .collect();
        format!(
            "{} has buckets {} ({}%)",
            self.version,
            ranges.join(" and "),
            self.percent()
        )
    }
}

/// The policy of a model among documents.
pub fn policy_of<'d>(documents: &'d [Document], model: &str) -> Option<&'d RoutingPolicy> {
    documents.iter().find_map(|document| match document.spec() {
        Spec::Routing(routing) if routing.model == model => Some(routing),
        _ => None,
    })
}

/// The rule of a policy that a route was decided by.
pub fn rule_of<'d>(policy: &'d RoutingPolicy, route: &Route<'_>) -> Option<&'d RoutingRule> {
    policy.rules.iter().find(|rule| Some(rule.name.as_str()) == route.rule)
}

/// How requests like the one that was routed are divided; by bucket. `canary_percent` is what the request asks for, and
/// counts if the policy honours it. Empty if the request was not drawn.
pub fn of(documents: &[Document], route: &Route<'_>, canary_percent: Option<u16>) -> Vec<Share> {
    let Some(policy) = policy_of(documents, route.model).filter(|_| route.bucket.is_some()) else {
        return Vec::new();
    };
    if let (CanaryOverride::Honoured, Some(percent), [stable, canary]) =
        (route.override_, canary_percent, policy.versions.as_slice())
    {
        let edge = percent * (BUCKETS / 100);
        let share = |version: &str, from: u16, to: u16| Share {
            version: version.to_owned(),
            ranges: (from < to).then(|| (from, to - 1)).into_iter().collect(),
        };
        let shares = [share(&canary.version, 0, edge), share(&stable.version, edge, BUCKETS)];
        return shares.into_iter().filter(|share| !share.ranges.is_empty()).collect();
    }
    let of_rule = rule_of(policy, route).and_then(Allocation::of_rule);
    of_allocation(&of_rule.unwrap_or_else(|| Allocation::of_policy(policy)))
}

/// By the lowest bucket of each version.
fn of_allocation(allocation: &Allocation) -> Vec<Share> {
    let versions: Vec<&str> = allocation.versions().map(|(version, _)| version).collect();
    let mut shares: Vec<Share> = Vec::new();
    for interval in allocation.intervals() {
        let Some(version) = versions.get(interval.version) else {
            continue;
        };
        let range = (interval.first, interval.last);
        match shares.iter_mut().find(|share| share.version == **version) {
            Some(share) => share.ranges.push(range),
            None => shares.push(Share {
                version: (*version).to_owned(),
                ranges: vec![range],
            }),
        }
    }
    shares
}

#[cfg(test)]
mod tests {
    use super::*;
    use kilocard_policy::config::parse;

    #[test]
    fn a_version_with_several_ranges_is_told_whole() {
        let document = parse(&json!({
            "api_version": "kilocard/v1", "kind": "RoutingPolicy", "metadata": {"name": "m"}, "spec": {
                "model": "m", "versions": [{"version": "v1", "weight": 90}, {"version": "v2", "weight": 10}],
                "cohorts": {"v1": "9499-1000,0-499", "v2": "500-999,9500-9999"}}}))
        .unwrap();
        let Spec::Routing(policy) = document.spec() else {
            panic!("not a RoutingPolicy")
        };
        let shares = of_allocation(&Allocation::of_policy(policy));
        let told: Vec<String> = shares.iter().map(Share::describe).collect();
        assert!(
            told[0].starts_with("v1 has buckets 0 to 499 and 1000 to 9499 (90%)"),
            "{told:?}"
        );
        assert!(told[1].ends_with("9500 to 9999 (10%)"), "{told:?}");
        assert_eq!(
            shares[1].to_json()["ranges"][0],
            json!({"first_bucket": 500, "last_bucket": 999})
        );
    }
}
