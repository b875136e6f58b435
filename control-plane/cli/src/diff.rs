//! `kilocard diff`: policies of files and of revisions, compared field by field.

use crate::apply::wanted;
use crate::args::DiffArgs;
use crate::changes::{Action, Changes};
use crate::difference::{self, Difference};
use crate::failure::Failure;
use crate::outcome::Outcome;
use crate::past::policies_at;
use crate::store::{PolicySet, Store, StoredPolicy};
use crate::table::printable;
use kilocard_registry::connect::EtcdArgs;
use kilocard_registry::layout::PolicyId;
use serde_json::{Value, json};
use std::collections::{BTreeMap, BTreeSet};
use std::fmt::Write;

/// Policies as JSON: canonical if they are valid, else as they stand.
pub type Values = BTreeMap<PolicyId, Value>;

/// What became of one policy.
#[derive(Clone, Debug)]
pub struct PolicyDifference {
    /// Which.
    pub id: PolicyId,
    /// Created, configured or deleted.
    pub action: Action,
    /// What differs; for a policy that was created or deleted, all of it as one.
    pub fields: Vec<Difference>,
}

/// Runs the command.
///
/// # Errors
/// [`Failure::Trouble`]: here, 1 means a difference.
pub async fn run(etcd: &EtcdArgs, args: &DiffArgs) -> Result<Outcome, Failure> {
    diff(etcd, args).await.map_err(Failure::in_a_question)
}

async fn diff(etcd: &EtcdArgs, args: &DiffArgs) -> Result<Outcome, Failure> {
    // Files are checked before etcd is asked.
    let intent = match args.from {
        Some(_) => None,
        None => Some(wanted(&args.files)?),
    };
    let mut store = Store::connect(etcd).await?;
    let now = store.policies().await?;
    let (from, to, found) = match (intent, args.from) {
        (Some(intent), _) => {
            let from = format!("etcd at revision {}", now.revision);
            let (old, new) = values_of_changes(&Changes::new(intent, now)?);
            (from, args.files.join(", "), between(&old, &new))
        }
        (None, from) => {
            let from = policies_at(&mut store, &now, from.unwrap_or(now.revision), None).await?;
            let to = match args.to {
                Some(revision) => policies_at(&mut store, &now, revision, None).await?,
                None => now,
            };
            let name = |set: &PolicySet| format!("revision {}", set.revision);
            (name(&from), name(&to), between(&values_of(&from), &values_of(&to)))
        }
    };
    let text = match found.is_empty() {
        true => format!("no difference between {from} and {to}\n"),
        false => format!("from {from} to {to}\n{}", describe(&found)),
    };
    let data = json!({"from": from, "to": to, "policies": to_json(&found)});
    Ok(Outcome {
        success: found.is_empty(),
        is_written: false,
        ..Outcome::new(text, data)
    })
}

/// Policies of a set, as they are compared.
pub fn values_of(set: &PolicySet) -> Values {
    set.policies
        .iter()
        .map(|(id, policy)| (id.clone(), value_of(policy)))
        .collect()
}

fn value_of(policy: &StoredPolicy) -> Value {
    let canonical = policy
        .document()
        .ok()
        .and_then(|document| serde_json::to_value(document).ok());
    canonical.unwrap_or_else(|| policy.as_json())
}

/// The policies that changes touch, as they are and as they are to be.
pub fn values_of_changes(changes: &Changes) -> (Values, Values) {
    let (mut old, mut new) = (Values::new(), Values::new());
    for (id, document) in changes.documents() {
        if let Some(policy) = changes.read().policies.get(id) {
            old.insert(id.clone(), value_of(policy));
        }
        if let Some(value) = document.and_then(|document| serde_json::to_value(document).ok()) {
            new.insert(id.clone(), value);
        }
    }
    (old, new)
}

/// What differs between two sets of policies.
pub fn between(old: &Values, new: &Values) -> Vec<PolicyDifference> {
    let ids: BTreeSet<&PolicyId> = old.keys().chain(new.keys()).collect();
    let differences = ids.into_iter().filter_map(|id| {
        let (old, new) = (old.get(id), new.get(id));
        let action = match (old, new) {
            (Some(old), Some(new)) if old == new => return None,
            (Some(_), Some(_)) => Action::Configured,
            (None, _) => Action::Created,
            (_, None) => Action::Deleted,
        };
        let fields = match (old, new) {
            (Some(old), Some(new)) => difference::between(old, new),
            (old, new) => vec![Difference {
                path: "spec".to_owned(),
                old: old.map(spec_of),
                new: new.map(spec_of),
            }],
        };
        Some(PolicyDifference {
            id: id.clone(),
            action,
            fields,
        })
    });
    differences.collect()
}

/// The rest of a document is its kind and its name.
fn spec_of(value: &Value) -> Value {
    value.get("spec").unwrap_or(value).clone()
}

/// For people; ends with a newline.
pub fn describe(differences: &[PolicyDifference]) -> String {
    let mut text = String::new();
    for PolicyDifference { id, action, fields } in differences {
        let _ = writeln!(text, "{id} {}", action.label());
        for field in fields {
            let _ = writeln!(text, "  {}", printable(&field.describe()));
        }
    }
    text
}

/// For programs.
pub fn to_json(differences: &[PolicyDifference]) -> Value {
    let one = |difference: &PolicyDifference| {
        json!({
            "kind": difference.id.kind, "name": difference.id.name, "action": difference.action.label(),
            "fields": difference.fields.iter().map(Difference::to_json).collect::<Value>(),
        })
    };
    differences.iter().map(one).collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    fn values(entries: &[(&str, Value)]) -> Values {
        entries
            .iter()
            .map(|(name, value)| (PolicyId::new("RoutingPolicy", *name), value.clone()))
            .collect()
    }

    #[test]
    fn policies_that_come_go_and_change_are_told_apart() {
        let old = values(&[
            ("a", json!({"spec": {"x": 1}})),
            ("b", json!({"spec": {"x": 1}})),
            ("c", json!({"spec": 1})),
        ]);
        let new = values(&[
            ("a", json!({"spec": {"x": 2}})),
            ("c", json!({"spec": 1})),
            ("d", json!({"spec": {"y": "\n"}})),
        ]);
        assert_eq!(
            describe(&between(&old, &new)),
            "RoutingPolicy/a configured\n  spec.x: 1 → 2\nRoutingPolicy/b deleted\n  spec: - {\"x\":1}\n\
             RoutingPolicy/d created\n  spec: + {\"y\":\"\\n\"}\n"
        );
        assert!(between(&new, &new).is_empty());
    }
}
