//! `kilocard rollback`: policies as they were at an earlier revision, in one transaction.

use crate::args::RollbackArgs;
use crate::authorship::Authorship;
use crate::changes::{Changes, Intent};
use crate::diff;
use crate::failure::Failure;
use crate::get::not_found;
use crate::outcome::Outcome;
use crate::past::policies_at;
use crate::store::{PolicySet, Store};
use kilocard_policy::config::Kind;
use kilocard_registry::connect::EtcdArgs;
use kilocard_registry::layout::PolicyId;
use serde_json::json;

/// Runs the command.
///
/// # Errors
/// [`Failure::Forgotten`] if the history does not reach back that far, [`Failure::Outdated`] if a policy of then is not
/// valid for this release, and what [`Changes`] says.
pub async fn run(etcd: &EtcdArgs, args: &RollbackArgs) -> Result<Outcome, Failure> {
    let mut store = Store::connect(etcd).await?;
    let now = store.policies().await?;
    let only = named(args);
    let then = policies_at(&mut store, &now, args.revision, only.as_ref().map(|(_, id)| id)).await?;
    if let Some((kind, id)) = &only
        && !now.policies.contains_key(id)
        && !then.policies.contains_key(id)
    {
        return Err(not_found(*kind, &id.name, &now));
    }
    let changes = Changes::new(
        intent(&then, &now, only.as_ref().map(|(_, id)| id), args.revision)?,
        now,
    )?;
    let (old, new) = diff::values_of_changes(&changes);
    let differences = diff::between(&old, &new);
    let mut outcome = if args.dry_run {
        changes.dry_run()
    } else {
        let by = Authorship::because(&args.author, &format!("rollback to {}", args.revision));
        changes
            .commit(&mut store, &by)
            .await?
            .judged(&mut store, &args.wait)
            .await?
    };
    outcome.text = match differences.is_empty() {
        true => format!(
            "nothing to do: the policies are as they were at revision {}\n",
            args.revision
        ),
        false => format!("{}\n{}", diff::describe(&differences), outcome.text),
    };
    outcome.data["rollback_to"] = json!(args.revision);
    outcome.data["differences"] = diff::to_json(&differences);
    Ok(outcome)
}

fn named(args: &RollbackArgs) -> Option<(Kind, PolicyId)> {
    let (kind, name) = (args.kind?, args.name.as_ref()?);
    Some((kind, PolicyId::new(kind.as_str(), name)))
}

/// Write what differs from then, delete what was not there.
fn intent(then: &PolicySet, now: &PolicySet, only: Option<&PolicyId>, revision: i64) -> Result<Intent, Failure> {
    let mut intent = Intent {
        of_all: only.is_none(),
        ..Intent::default()
    };
    let concerned = |id: &PolicyId| only.is_none_or(|only| only == id);
    for (id, policy) in then.policies.iter().filter(|(id, _)| concerned(id)) {
        if now
            .policies
            .get(id)
            .is_some_and(|current| current.value == policy.value)
        {
            continue;
        }
        let outdated = |violations| Failure::Outdated {
            policy: id.to_string(),
            revision,
            violations,
        };
        intent.documents.push(policy.document().map_err(outdated)?);
    }
    let gone = now
        .policies
        .keys()
        .filter(|id| concerned(id) && !then.policies.contains_key(id));
    intent.deletions.extend(gone.cloned());
    Ok(intent)
}
