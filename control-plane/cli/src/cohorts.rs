//! Whom a change of a RoutingPolicy moves from version to version, and the memory that keeps the moves few.
//!
//! With three versions and more, no function of the weights alone moves only those who must. So a document remembers
//! which buckets each version has, and this is where that memory is written: `apply` carries it over from the document
//! that is replaced.

use kilocard_policy::cohort::{Allocation, BUCKETS};
use kilocard_policy::config::{
    self, Cohorts, Document, RoutingPolicy, RoutingRule, Spec, StickyKey, Violation, Weight,
};
use serde_json::{Value, json};
use std::collections::{BTreeMap, BTreeSet};

/// The document that replaces `stored`, with what is to be remembered of the cohorts there. Cohorts that the document
/// gives itself, and not just those that stand there already, stay as they are.
///
/// # Errors
/// What would be wrong with the document then.
pub fn remembering(document: &Document, stored: &Document) -> Result<Document, Vec<Violation>> {
    let (Spec::Routing(new), Spec::Routing(old)) = (document.spec(), stored.spec()) else {
        return Ok(document.clone());
    };
    if new.model != old.model || new.salt != old.salt {
        return Ok(document.clone());
    }
    let mut value = serde_json::to_value(document).map_err(|error| {
        vec![Violation {
            path: String::new(),
            message: format!("cannot be written as JSON: {error}"),
        }]
    })?;
    let allocation = Allocation::of_policy(old).reallocate(&weights(new));
    let remembered = old.cohorts.as_ref();
    set_cohorts(
        &mut value["spec"],
        next_cohorts(&allocation, &weights(new), remembered, new.cohorts.as_ref()),
    );
    for (index, rule) in new.rules.iter().enumerate().filter(|(_, rule)| has_split(rule)) {
        let earlier = old.rules.iter().find(|earlier| earlier.name == rule.name);
        let Some((earlier, allocation)) = earlier.and_then(|earlier| Some((earlier, Allocation::of_rule(earlier)?)))
        else {
            continue;
        };
        let (allocation, remembered) = (allocation.reallocate(&rule_weights(rule)), earlier.cohorts.as_ref());
        let next = next_cohorts(&allocation, &rule_weights(rule), remembered, rule.cohorts.as_ref());
        set_cohorts(&mut value["spec"]["rules"][index], next);
    }
    config::parse(&value)
}

type Weights<'d> = Vec<(&'d str, Weight)>;

/// What to remember of an allocation: nothing if the weights alone give it.
fn next_cohorts(
    allocation: &Allocation,
    weights: &Weights<'_>,
    remembered: Option<&Cohorts>,
    given: Option<&Cohorts>,
) -> Option<Cohorts> {
    if given.is_some() && given != remembered {
        return given.cloned();
    }
    (*allocation != Allocation::initial(weights)).then(|| allocation.to_cohorts())
}

fn set_cohorts(owner: &mut Value, cohorts: Option<Cohorts>) {
    match (cohorts, owner) {
        (Some(cohorts), owner) => owner["cohorts"] = json!(cohorts),
        (None, Value::Object(fields)) => {
            fields.remove("cohorts");
        }
        (None, _) => {}
    }
}

fn weights(policy: &RoutingPolicy) -> Weights<'_> {
    policy
        .versions
        .iter()
        .map(|version| (version.version.as_str(), version.weight))
        .collect()
}

fn rule_weights(rule: &RoutingRule) -> Weights<'_> {
    rule.versions
        .iter()
        .map(|version| (version.version.as_str(), version.weight))
        .collect()
}

fn has_split(rule: &RoutingRule) -> bool {
    !rule.versions.is_empty()
}

/// How the requests of a policy, or of one of its rules, are divided.
struct Split<'d> {
    salt: &'d str,
    sticky_by: &'d [StickyKey],
    allocation: Allocation,
}

impl<'d> Split<'d> {
    fn of(policy: &'d RoutingPolicy, rule: Option<&'d RoutingRule>) -> Self {
        let of_rule = rule.and_then(Allocation::of_rule);
        let allocation = of_rule.unwrap_or_else(|| Allocation::of_policy(policy));
        Self {
            salt: &policy.salt,
            sticky_by: &policy.sticky_by,
            allocation,
        }
    }

    /// The version of each bucket.
    fn owners(&self) -> Vec<&str> {
        let versions: Vec<&str> = self.allocation.versions().map(|(version, _)| version).collect();
        let mut owners = vec![""; usize::from(BUCKETS)];
        for interval in self.allocation.intervals() {
            let version = versions.get(interval.version).copied().unwrap_or_default();
            if let Some(buckets) = owners.get_mut(usize::from(interval.first)..=usize::from(interval.last)) {
                buckets.fill(version);
            }
        }
        owners
    }
}

/// Some users get another version.
#[derive(Clone, Debug, PartialEq)]
pub struct Shift {
    /// The version they have.
    pub from: String,
    /// The version they will have.
    pub to: String,
    /// How many of all users, in percent.
    pub percent: f64,
}

/// Who moves within one split.
#[derive(Clone, Debug, PartialEq)]
pub struct Moves {
    /// The rule whose split it is; `None` for that of the policy.
    pub rule: Option<String>,
    /// Whether every user is drawn anew, for another salt or by another key; the percentages are then expected ones.
    pub redrawn: bool,
    /// Who goes where; nobody if empty.
    pub shifts: Vec<Shift>,
}

impl Moves {
    /// `v1 → v2: 10% of users`, a line each.
    pub fn lines(&self) -> Vec<String> {
        let rule = self
            .rule
            .as_ref()
            .map_or(String::new(), |rule| format!("rule {rule}: "));
        let how = if self.redrawn { " (drawn anew)" } else { "" };
        let line = |shift: &Shift| {
            format!(
                "{rule}{} → {}: {}% of users{how}",
                shift.from,
                shift.to,
                round(shift.percent)
            )
        };
        self.shifts.iter().map(line).collect()
    }

    /// For `--output json`.
    pub fn to_json(&self) -> Value {
        let shift = |shift: &Shift| json!({"from": shift.from, "to": shift.to, "percent": round(shift.percent)});
        json!({"rule": self.rule, "redrawn": self.redrawn, "shifts": self.shifts.iter().map(shift).collect::<Value>()})
    }
}

/// To two decimals, as weights have them.
pub fn round(percent: f64) -> f64 {
    (percent * 100.0).round() / 100.0
}

/// Who moves when one document takes the place of another; empty unless both route the same model. Rules are known by
/// their names: one that is new takes its requests from the policy's split, one that goes gives them back.
pub fn moves(old: &Document, new: &Document) -> Vec<Moves> {
    match (old.spec(), new.spec()) {
        (Spec::Routing(old), Spec::Routing(new)) if old.model == new.model => moves_of_model(old, new),
        _ => Vec::new(),
    }
}

/// As [`moves`], of two policies for one model; only splits in which somebody moves.
pub fn moves_of_model(old: &RoutingPolicy, new: &RoutingPolicy) -> Vec<Moves> {
    let mut rules: BTreeSet<Option<&str>> = BTreeSet::from([None]);
    let with_split = old.rules.iter().chain(&new.rules).filter(|rule| has_split(rule));
    rules.extend(with_split.map(|rule| Some(rule.name.as_str())));
    let find = |policy: &'_ RoutingPolicy, name: Option<&str>| -> Option<usize> {
        policy.rules.iter().position(|rule| Some(rule.name.as_str()) == name)
    };
    let of = |name: Option<&str>| {
        let before = Split::of(old, find(old, name).and_then(|at| old.rules.get(at)));
        let after = Split::of(new, find(new, name).and_then(|at| new.rules.get(at)));
        moves_of_split(name, &before, &after)
    };
    rules
        .into_iter()
        .map(of)
        .filter(|moves| !moves.shifts.is_empty())
        .collect()
}

fn moves_of_split(rule: Option<&str>, old: &Split<'_>, new: &Split<'_>) -> Moves {
    let redrawn = old.salt != new.salt || old.sticky_by != new.sticky_by;
    let (before, after) = (old.owners(), new.owners());
    let mut shares: BTreeMap<(&str, &str), f64> = BTreeMap::new();
    if redrawn {
        // Independent draws: of those of one version, each version gets its share.
        let (before, after) = (count(&before), count(&after));
        for (from, of_from) in &before {
            for (to, of_to) in &after {
                shares.insert((from, to), f64::from(*of_from) * f64::from(*of_to) / f64::from(BUCKETS));
            }
        }
    } else {
        for pair in before.into_iter().zip(after) {
            *shares.entry(pair).or_default() += 1.0;
        }
    }
    let shifts = shares.into_iter().filter(|((from, to), _)| from != to);
    Moves {
        rule: rule.map(str::to_owned),
        redrawn,
        shifts: shifts
            .map(|((from, to), buckets)| Shift {
                from: from.to_owned(),
                to: to.to_owned(),
                percent: buckets * 100.0 / f64::from(BUCKETS),
            })
            .collect(),
    }
}

fn count<'v>(owners: &[&'v str]) -> BTreeMap<&'v str, u32> {
    let mut counts = BTreeMap::new();
    for version in owners {
        *counts.entry(*version).or_default() += 1;
    }
    counts
}

#[cfg(test)]
mod tests;
