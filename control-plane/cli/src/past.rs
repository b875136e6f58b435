//! The policies as they were right after an earlier revision.
//!
//! etcd itself knows, until it compacts. After that the history knows what `kilocard` changed, and each record says which
//! revision it replaced, so that a change made by other means in between does not go unnoticed.

use crate::failure::Failure;
use crate::store::{History, PolicySet, Store, StoredPolicy};
use kilocard_registry::layout::PolicyId;
use std::collections::BTreeSet;

/// The policies right after `revision`, all or only one. `now` is a reading of etcd that is not older.
///
/// # Errors
/// [`Failure::NotFound`] for a revision that is not there yet, [`Failure::Forgotten`] if neither etcd nor the history
/// reaches back that far, [`Failure::Store`].
pub async fn policies_at(
    store: &mut Store,
    now: &PolicySet,
    revision: i64,
    only: Option<&PolicyId>,
) -> Result<PolicySet, Failure> {
    if revision > now.revision {
        return Err(Failure::NotFound(format!(
            "there is no revision {revision} yet; etcd is at revision {}",
            now.revision
        )));
    }
    let mut then = match store.policies_at(revision).await? {
        Some(then) => then,
        None => reconstruct(now, &store.history().await?, revision, only)
            .map_err(|unknown| Failure::Forgotten { revision, unknown })?,
    };
    then.policies.retain(|id, _| only.is_none_or(|only| only == id));
    Ok(then)
}

/// From the records alone.
///
/// # Errors
/// What of it cannot be known, and why, a line each.
fn reconstruct(
    now: &PolicySet,
    history: &History,
    revision: i64,
    only: Option<&PolicyId>,
) -> Result<PolicySet, Vec<String>> {
    if revision <= history.forgotten_until() {
        return Err(vec![format!(
            "the records of the history begin with revision {}",
            history.forgotten_until() + 1
        )]);
    }
    let changed = history.records.iter().flat_map(|recorded| &recorded.record.changes);
    let mut ids: BTreeSet<PolicyId> = changed
        .map(|change| PolicyId::new(&change.kind, &change.name))
        .collect();
    ids.extend(now.policies.keys().cloned());
    let mut then = PolicySet {
        revision,
        ..PolicySet::default()
    };
    let mut unknown = Vec::new();
    for id in ids.into_iter().filter(|id| only.is_none_or(|only| only == id)) {
        match policy_at(now, history, revision, &id) {
            Ok(Some(policy)) => {
                then.policies.insert(id, policy);
            }
            Ok(None) => {}
            Err(why) => unknown.push(format!("{id} {why}")),
        }
    }
    if unknown.is_empty() { Ok(then) } else { Err(unknown) }
}

fn policy_at(now: &PolicySet, history: &History, revision: i64, id: &PolicyId) -> Result<Option<StoredPolicy>, String> {
    if let Some(current) = now.policies.get(id).filter(|current| current.revision <= revision) {
        return Ok(Some(current.clone()));
    }
    let upto = history.of(&id.kind, &id.name).rfind(|(at, _)| *at <= revision);
    let recorded = upto.and_then(|(at, change)| {
        let document = change.document.as_ref()?;
        Some(StoredPolicy {
            id: id.clone(),
            revision: at,
            value: document.to_string().into_bytes(),
        })
    });
    let was_there = recorded.as_ref().map(|policy| policy.revision);
    let next = history.of(&id.kind, &id.name).find(|(at, _)| *at > revision);
    match (next, now.policies.get(id)) {
        // The record after it names the revision that it replaced.
        (Some((_, next)), _) if next.from_revision == was_there => Ok(recorded),
        (None, None) if was_there.is_none() => Ok(None),
        (Some((at, _)), _) => Err(format!(
            "was changed before revision {at} by other means than `kilocard`"
        )),
        (None, Some(current)) => Err(format!(
            "was written at revision {} by other means than `kilocard`",
            current.revision
        )),
        (None, None) => Err("was deleted by other means than `kilocard`".to_owned()),
    }
}

#[cfg(test)]
mod tests;
