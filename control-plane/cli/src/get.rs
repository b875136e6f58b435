//! `kilocard get`: policies, with their revision and the control plane's verdict.

use crate::args::GetArgs;
use crate::failure::Failure;
use crate::outcome::{Outcome, yaml_text};
use crate::store::{PolicySet, Store, StoredPolicy};
use crate::summary::summarise;
use crate::table::Table;
use crate::verdict::Verdict;
use kilocard_policy::config::Kind;
use kilocard_registry::connect::EtcdArgs;
use kilocard_registry::layout::PolicyId;
use kilocard_registry::policy_status::PolicyStatus;
use serde_json::json;
use std::collections::BTreeMap;
use std::fmt::Write;

/// Runs the command.
///
/// # Errors
/// [`Failure::NotFound`] if a policy was named that is not there; [`Failure::Store`].
pub async fn run(etcd: &EtcdArgs, args: &GetArgs) -> Result<Outcome, Failure> {
    let mut store = Store::connect(etcd).await?;
    let set = store.policies().await?;
    let statuses = store.statuses().await?;
    let wanted = |id: &PolicyId| {
        args.kind.is_none_or(|kind| kind.as_str() == id.kind) && args.name.as_ref().is_none_or(|name| *name == id.name)
    };
    let found: Vec<&StoredPolicy> = set.policies.values().filter(|policy| wanted(&policy.id)).collect();
    if let (Some(kind), Some(name), true) = (args.kind, &args.name, found.is_empty()) {
        return Err(not_found(kind, name, &set));
    }
    Ok(show(&found, &statuses))
}

/// The failure for a policy that is not there; lists those of its kind that are.
pub fn not_found(kind: Kind, name: &str, set: &PolicySet) -> Failure {
    let names: Vec<&str> = set
        .policies
        .keys()
        .filter(|id| id.kind == kind.as_str())
        .map(|id| id.name.as_str())
        .collect();
    let there = if names.is_empty() {
        "none".to_owned()
    } else {
        names.join(", ")
    };
    Failure::NotFound(format!(
        "there is no {}/{name}; of this kind there are: {there}",
        kind.as_str()
    ))
}

/// Shows policies in all formats.
fn show(policies: &[&StoredPolicy], statuses: &BTreeMap<PolicyId, PolicyStatus>) -> Outcome {
    let mut table = Table::new(&["KIND", "NAME", "REVISION", "STATUS", "SUMMARY"]);
    let (mut values, mut yaml, mut reasons) = (Vec::new(), String::new(), String::new());
    for policy in policies {
        let StoredPolicy { id, revision, .. } = policy;
        let verdict = Verdict::on(*revision, statuses.get(id));
        let document = policy.document();
        let summary = document.as_ref().map_or("cannot be read".to_owned(), summarise);
        table.row([
            id.kind.clone(),
            id.name.clone(),
            revision.to_string(),
            verdict.summary(),
            summary,
        ]);
        if matches!(verdict, Verdict::Rejected(_)) {
            let _ = write!(reasons, "\n{id} is {}:\n{}", verdict.summary(), verdict.reasons());
        }
        let _ = writeln!(yaml, "---\n# {id}, revision {revision}: {}", verdict.summary());
        yaml.push_str(
            &document
                .as_ref()
                .map_or_else(|_| yaml_text(&policy.as_json()), yaml_text),
        );
        values.push(json!({
            "kind": id.kind, "name": id.name, "revision": revision, "verdict": verdict.to_json(),
            "document": policy.as_json(), "violations": document.err().unwrap_or_default(),
        }));
    }
    let text = if policies.is_empty() {
        "no policies\n".to_owned()
    } else {
        format!("{table}{reasons}")
    };
    Outcome {
        yaml: Some(yaml),
        ..Outcome::new(text, json!({"policies": values}))
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::args::Output;

    fn stored(name: &str, value: &str) -> StoredPolicy {
        StoredPolicy {
            id: PolicyId::new("RoutingPolicy", name),
            revision: 7,
            value: value.as_bytes().to_vec(),
        }
    }

    const GOOD: &str = r#"{"api_version":"kilocard/v1","kind":"RoutingPolicy","metadata":{"name":"a"},
        "spec":{"model":"minilm","default":true,"versions":[{"version":"v1","weight":87.5},{"version":"v2","weight":12.5}]}}"#;

    #[test]
    fn good_and_unreadable_policies_are_both_shown() {
        let (good, bad) = (stored("a", GOOD), stored("b", "{"));
        let outcome = show(&[&good, &bad], &BTreeMap::new());
        assert!(
            outcome.text.contains("minilm (default): v1 87.5%, v2 12.5%"),
            "{}",
            outcome.text
        );
        assert!(outcome.text.contains("cannot be read"), "{}", outcome.text);
        assert_eq!(outcome.data["policies"][0]["document"]["spec"]["model"], "minilm");
        assert_eq!(outcome.data["policies"][1]["document"], "{");
        assert_ne!(outcome.data["policies"][1]["violations"], json!([]));
    }

    #[test]
    fn the_yaml_is_what_apply_takes_back() {
        let good = stored("a", GOOD);
        let yaml = show(&[&good], &BTreeMap::new()).print(Output::Yaml).stdout;
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("a.yaml");
        std::fs::write(&path, yaml).unwrap();
        let loaded = crate::documents::load(&[path.display().to_string()]).unwrap();
        assert_eq!(loaded[0].document, good.document().unwrap());
    }

    #[test]
    fn a_document_under_the_wrong_key_is_not_taken_for_the_one_it_stands_for() {
        let violations = stored("other", GOOD).document().unwrap_err();
        assert!(violations[0].message.contains("RoutingPolicy/a"), "{violations:?}");
    }
}
