//! `kilocard history`: who changed which policies, when and why.

use crate::args::HistoryArgs;
use crate::changes::Action;
use crate::failure::Failure;
use crate::outcome::Outcome;
use crate::store::{History, PolicySet, Recorded, Store};
use crate::table::Table;
use kilocard_registry::connect::EtcdArgs;
use kilocard_registry::history::HistoryChange;
use kilocard_registry::layout::PolicyId;
use serde_json::{Value, json};
use std::collections::BTreeSet;
use std::fmt::Write;

/// Runs the command.
///
/// # Errors
/// [`Failure::Store`].
pub async fn run(etcd: &EtcdArgs, args: &HistoryArgs) -> Result<Outcome, Failure> {
    let mut store = Store::connect(etcd).await?;
    // In this order, so that no policy is newer than the records.
    let now = store.policies().await?;
    let history = store.history().await?;
    let wanted = |kind: &str, name: &str| {
        args.kind.is_none_or(|wanted| wanted.as_str() == kind) && args.name.as_ref().is_none_or(|wanted| wanted == name)
    };
    Ok(show(&now, &history, wanted, args.limit as usize))
}

fn show(now: &PolicySet, history: &History, wanted: impl Fn(&str, &str) -> bool, limit: usize) -> Outcome {
    let concerned = |recorded: &&Recorded| {
        let mut changes = recorded.record.changes.iter();
        changes.any(|change| wanted(&change.kind, &change.name))
    };
    let found: Vec<&Recorded> = history.records.iter().rev().filter(concerned).collect();
    let mut table = Table::new(&["REVISION", "TIME", "AUTHOR", "CHANGES", "REASON"]);
    let mut values = Vec::new();
    for Recorded { revision, record } in found.iter().take(limit) {
        let changes: Vec<&HistoryChange> = record
            .changes
            .iter()
            .filter(|change| wanted(&change.kind, &change.name))
            .collect();
        let told: Vec<String> = changes
            .iter()
            .map(|change| format!("{}/{} {}", change.kind, change.name, action(change).label()))
            .collect();
        table.row([
            revision.to_string(),
            record.time.clone(),
            record.author.clone(),
            told.join(", "),
            record.reason.clone().unwrap_or_else(|| "-".to_owned()),
        ]);
        values.push(json!({
            "revision": revision, "time": record.time, "author": record.author, "reason": record.reason,
            "changes": changes.into_iter().map(change_json).collect::<Value>(),
        }));
    }
    let older = found.len().saturating_sub(limit);
    let notes = unrecorded(now, history, wanted);
    let mut text = if found.is_empty() {
        "no changes in the history\n".to_owned()
    } else {
        table.to_string()
    };
    if older > 0 {
        let _ = writeln!(text, "{older} older changes are not shown (--limit)");
    }
    for note in &notes {
        let _ = writeln!(text, "{note}");
    }
    let unreadable = history
        .unreadable
        .iter()
        .map(|key| format!("{key} is not a record of a change and was left out"));
    Outcome::new(text, json!({"changes": values, "older": older, "unrecorded": notes}))
        .with_warnings(unreadable.collect())
}

fn action(change: &HistoryChange) -> Action {
    match (&change.document, change.from_revision) {
        (None, _) => Action::Deleted,
        (Some(_), None) => Action::Created,
        (Some(_), Some(_)) => Action::Configured,
    }
}

fn change_json(change: &HistoryChange) -> Value {
    json!({
        "kind": change.kind, "name": change.name, "action": action(change).label(),
        "from_revision": change.from_revision, "document": change.document,
    })
}

/// The policies whose present state no record tells of, a line each.
fn unrecorded(now: &PolicySet, history: &History, wanted: impl Fn(&str, &str) -> bool) -> Vec<String> {
    let mut ids: BTreeSet<PolicyId> = now.policies.keys().cloned().collect();
    let changed = history.records.iter().flat_map(|recorded| &recorded.record.changes);
    ids.extend(changed.map(|change| PolicyId::new(&change.kind, &change.name)));
    let note = |id: &PolicyId| {
        let last = history.of(&id.kind, &id.name).next_back();
        match (now.policies.get(id), last) {
            (Some(policy), Some((at, change))) if policy.revision == at && change.document.is_some() => None,
            // Written or deleted between our two readings.
            (_, Some((at, _))) if at > now.revision => None,
            (Some(policy), _) if policy.revision <= history.forgotten_until() => Some(format!(
                "{id} is of revision {}, older than the history that is kept",
                policy.revision
            )),
            (Some(policy), _) => Some(format!(
                "{id} is of revision {}, which was written by other means than `kilocard`",
                policy.revision
            )),
            (None, Some((at, change))) if change.document.is_some() => Some(format!(
                "{id} was deleted by other means than `kilocard` after revision {at}"
            )),
            (None, _) => None,
        }
    };
    ids.iter()
        .filter(|id| wanted(&id.kind, &id.name))
        .filter_map(note)
        .collect()
}

#[cfg(test)]
mod tests;
