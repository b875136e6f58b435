//! Which policy documents are in force. Pure.
//!
//! A document is admitted when it is valid alone and together with all others in force. One that is not leaves the last
//! good document of its key in force. A key that is deleted takes its document with it, unless others in force refer to
//! what it declares: the filter would refuse them without it, so it stays until they go too. Which document of a conflicting
//! pair wins depends on which was in force first, so that knowledge must outlive this process: [`Admission::recover`]
//! takes it from the verdicts that stand in etcd and from etcd's history.

use crate::model::inventory::RecordedStatus;
use crate::model::{Policies, PolicyInForce};
use kilocard_policy::Policy;
use kilocard_policy::config::{self, Document, MAX_DOCUMENTS, MAX_FILTER_CONFIG_BYTES, Spec, Violation};
use kilocard_registry::layout::PolicyId;
use kilocard_registry::policy_status::{PolicyError, PolicyState, PolicyStatus};
use std::collections::{BTreeMap, BTreeSet};
use std::sync::Arc;

/// What the filter's configuration takes besides its documents and what it says of their versions: the revision, names of
/// fields and brackets, generously.
const ENVELOPE_BYTES: usize = 512;

/// A document as it stands in etcd, not judged yet.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Candidate {
    /// `mod_revision` of the document.
    pub revision: i64,
    /// Its JSON.
    pub json: Arc<[u8]>,
}

/// A document that was in force when the verdicts in etcd were written and whose key has been overwritten since.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Wanted {
    /// Whose.
    pub id: PolicyId,
    /// At which revision etcd's history shows it.
    pub revision: i64,
}

/// The judge, with what it admitted so far.
#[derive(Clone, Debug, Default)]
pub struct Admission {
    in_force: Arc<Policies>,
    verdicts: Arc<BTreeMap<PolicyId, PolicyStatus>>,
    /// Last good documents that etcd's history no longer holds, by their revision.
    lost: BTreeMap<PolicyId, i64>,
}

/// A valid document on trial together with the others.
struct Trial {
    id: PolicyId,
    policy: PolicyInForce,
}

impl Admission {
    /// What has to be fetched from etcd's history before [`Admission::recover`].
    pub fn wanted(
        candidates: &BTreeMap<PolicyId, Candidate>,
        statuses: &BTreeMap<PolicyId, RecordedStatus>,
    ) -> Vec<Wanted> {
        served(candidates, statuses)
            .filter(|(candidate, wanted)| candidate.is_none_or(|candidate| candidate.revision != wanted.revision))
            .map(|(_, wanted)| wanted)
            .collect()
    }

    /// Takes up what was in force before this process began: documents that the verdicts in etcd name and that still
    /// stand, and `past` ones from history, as far as it reaches; `None` is one that was compacted away.
    pub fn recover(
        &mut self,
        candidates: &BTreeMap<PolicyId, Candidate>,
        statuses: &BTreeMap<PolicyId, RecordedStatus>,
        past: &BTreeMap<PolicyId, Option<Candidate>>,
    ) {
        let mut served_before = BTreeMap::new();
        for (candidate, Wanted { id, revision }) in served(candidates, statuses) {
            if let Some(candidate) = candidate.filter(|candidate| candidate.revision == revision) {
                served_before.insert(id, candidate.clone());
            } else if let Some(Some(document)) = past.get(&id) {
                served_before.insert(id, document.clone());
            } else {
                self.lost.insert(id, revision);
            }
        }
        let refused = self.admit(&served_before);
        for id in refused.into_keys() {
            if let Some(candidate) = served_before.get(&id) {
                self.lost.insert(id, candidate.revision);
            }
        }
    }

    /// Takes up documents that an earlier process had in force, as it left them on disk.
    pub fn readmit(&mut self, served_before: &BTreeMap<PolicyId, Candidate>) {
        self.admit(served_before);
    }

    /// Judges the documents as they stand now.
    pub fn judge(&mut self, candidates: &BTreeMap<PolicyId, Candidate>) {
        // Before the others, for which it may make room; and after them, since what held a deleted one may be gone.
        self.retire(candidates);
        self.lost.retain(|id, _| candidates.contains_key(id));
        let mut refused = self.admit(candidates);
        self.retire(candidates);
        self.lost.retain(|id, _| !self.in_force.contains_key(id));
        let verdicts = candidates.iter().map(|(id, candidate)| {
            let mut errors = refused.remove(id).unwrap_or_default();
            let serving_revision = self.in_force.get(id).map(|policy| policy.revision);
            let accepted = serving_revision == Some(candidate.revision);
            if let (false, Some(revision)) = (accepted, self.lost.get(id)) {
                errors.push(lost_error(*revision));
            }
            let state = if accepted {
                PolicyState::Accepted
            } else {
                PolicyState::Rejected
            };
            (
                id.clone(),
                PolicyStatus {
                    state,
                    revision: candidate.revision,
                    serving_revision,
                    errors,
                },
            )
        });
        let held = self.in_force.iter().filter(|(id, _)| !candidates.contains_key(id));
        let held = held.map(|(id, policy)| (id.clone(), held_status(policy.revision)));
        self.verdicts = Arc::new(verdicts.chain(held).collect());
    }

    /// Takes out of force what has been deleted, all at once or, where that is not possible, whatever can go.
    fn retire(&mut self, candidates: &BTreeMap<PolicyId, Candidate>) {
        let deleted = |id: &&PolicyId| !candidates.contains_key(*id);
        let deleted: BTreeSet<PolicyId> = self.in_force.keys().filter(deleted).cloned().collect();
        if deleted.is_empty() || self.try_without(&deleted) {
            return;
        }
        for id in deleted {
            self.try_without(&BTreeSet::from([id]));
        }
    }

    /// Takes these out of force if the filter would take the rest; whether it would.
    fn try_without(&mut self, ids: &BTreeSet<PolicyId>) -> bool {
        let rest = self.in_force.iter().filter(|(id, _)| !ids.contains(id));
        let possible = Policy::compile("admission", rest.map(|(_, policy)| &*policy.document)).is_ok();
        if possible {
            Arc::make_mut(&mut self.in_force).retain(|id, _| !ids.contains(id));
        }
        possible
    }

    /// The documents in force.
    pub fn in_force(&self) -> &Arc<Policies> {
        &self.in_force
    }

    /// The verdicts of the last [`Admission::judge`].
    pub fn verdicts(&self) -> &Arc<BTreeMap<PolicyId, PolicyStatus>> {
        &self.verdicts
    }

    /// Admits what can be admitted and gives the reasons for the rest.
    ///
    /// Documents that came together are tried together first: two policies may swap roles in one transaction, and each
    /// alone would be refused. Whatever conflicts is tried again as long as anything else was admitted, so that a
    /// document is not refused for a conflict that the same batch resolves; the older revision goes first.
    fn admit(&mut self, candidates: &BTreeMap<PolicyId, Candidate>) -> BTreeMap<PolicyId, Vec<PolicyError>> {
        let mut refused = BTreeMap::new();
        let mut trials = Vec::new();
        for (id, candidate) in candidates {
            if self
                .in_force
                .get(id)
                .is_some_and(|policy| policy.revision == candidate.revision)
            {
                continue;
            }
            match read(id, &candidate.json) {
                Ok(document) => {
                    let policy = PolicyInForce {
                        revision: candidate.revision,
                        bytes: encoded_len(&document).saturating_add(state_len(&document)),
                        document: Arc::new(document),
                    };
                    trials.push(Trial { id: id.clone(), policy });
                }
                Err(errors) => drop(refused.insert(id.clone(), errors)),
            }
        }
        trials.sort_by(|a, b| (a.policy.revision, &a.id).cmp(&(b.policy.revision, &b.id)));
        if self.try_together(&trials).is_ok() {
            return refused;
        }
        loop {
            let before = trials.len();
            trials = self.admit_by_transaction(trials);
            trials.retain(|trial| match self.try_together(std::slice::from_ref(trial)) {
                Ok(()) => false,
                Err(errors) => {
                    refused.insert(trial.id.clone(), errors);
                    true
                }
            });
            if trials.len() == before || trials.is_empty() {
                let still: Vec<&PolicyId> = trials.iter().map(|trial| &trial.id).collect();
                refused.retain(|id, _| still.contains(&id) || !self.is_in_force(id, candidates));
                return refused;
            }
        }
    }

    /// Admits those groups of one revision, hence of one transaction, that fit as a whole; gives back the rest.
    fn admit_by_transaction(&mut self, trials: Vec<Trial>) -> Vec<Trial> {
        let mut rest = Vec::new();
        let mut trials = trials.into_iter().peekable();
        while let Some(first) = trials.next() {
            let mut group = vec![first];
            while let Some(next) =
                trials.next_if(|next| group.iter().all(|t| t.policy.revision == next.policy.revision))
            {
                group.push(next);
            }
            if self.try_together(&group).is_err() {
                rest.extend(group);
            }
        }
        rest
    }

    /// Puts all trials in force if the filter would take the whole, or none.
    fn try_together(&mut self, trials: &[Trial]) -> Result<(), Vec<PolicyError>> {
        let mut policies: BTreeMap<&PolicyId, &PolicyInForce> = self.in_force.iter().collect();
        policies.extend(trials.iter().map(|trial| (&trial.id, &trial.policy)));
        let for_filters = policies
            .values()
            .filter(|policy| policy.document.kind().is_for_filters());
        check_size(policies.len(), for_filters.map(|policy| policy.bytes))?;
        let documents = policies.into_values().map(|policy| &*policy.document);
        Policy::compile("admission", documents).map_err(errors)?;
        Arc::make_mut(&mut self.in_force).extend(trials.iter().map(|trial| (trial.id.clone(), trial.policy.clone())));
        Ok(())
    }

    fn is_in_force(&self, id: &PolicyId, candidates: &BTreeMap<PolicyId, Candidate>) -> bool {
        let serving = self.in_force.get(id).map(|policy| policy.revision);
        serving.is_some() && serving == candidates.get(id).map(|candidate| candidate.revision)
    }
}

/// What the verdicts in etcd say is being served, with what stands under its key now, if it was not deleted.
fn served<'a>(
    candidates: &'a BTreeMap<PolicyId, Candidate>,
    statuses: &'a BTreeMap<PolicyId, RecordedStatus>,
) -> impl Iterator<Item = (Option<&'a Candidate>, Wanted)> {
    statuses.iter().filter_map(|(id, recorded)| {
        let revision = recorded.status.as_ref()?.serving_revision?;
        Some((
            candidates.get(id),
            Wanted {
                id: id.clone(),
                revision,
            },
        ))
    })
}

/// A document that is valid alone and stands under the key that it names.
fn read(id: &PolicyId, json: &[u8]) -> Result<Document, Vec<PolicyError>> {
    let document = config::parse_bytes(json).map_err(errors)?;
    let mut misplaced = Vec::new();
    for (path, key, found) in [
        ("kind", &id.kind, document.kind().as_str()),
        ("metadata.name", &id.name, document.name()),
    ] {
        if key != found {
            let message = format!("is {found:?} but the document stands under the key {id}; they must agree");
            misplaced.push(PolicyError {
                path: path.to_owned(),
                message,
            });
        }
    }
    if misplaced.is_empty() {
        Ok(document)
    } else {
        Err(misplaced)
    }
}

/// The filter refuses a configuration beyond these bounds, and with it every later one: what would exceed them must not
/// be admitted. `count` is of all that would be in force, `documents` are the lengths of those that filters are given.
fn check_size(count: usize, documents: impl Iterator<Item = usize>) -> Result<(), Vec<PolicyError>> {
    let bytes = documents.fold(ENVELOPE_BYTES, |sum, bytes| sum.saturating_add(bytes).saturating_add(1));
    let message = if count > MAX_DOCUMENTS {
        format!("with this document {count} would be in force; at most {MAX_DOCUMENTS} can be: delete others first")
    } else if bytes > MAX_FILTER_CONFIG_BYTES {
        format!(
            "with this document the filter's configuration would have {bytes} bytes; at most {MAX_FILTER_CONFIG_BYTES} \
             are allowed: shorten it or delete others first"
        )
    } else {
        return Ok(());
    };
    let path = String::new();
    Err(vec![PolicyError { path, message }])
}

/// Most that the filter's configuration may hold about the state of the document's versions: each of them unready or
/// saturated, as `"<model>/<version>",`. No worker that comes or goes may make the configuration too long.
fn state_len(document: &Document) -> usize {
    match document.spec() {
        Spec::Routing(routing) => {
            let versions = routing.versions.iter();
            versions
                .map(|version| routing.model.len() + version.version.len() + 4)
                .sum()
        }
        _ => 0,
    }
}

/// Length within the filter's configuration. What cannot be encoded (there is no such document) fits nowhere.
fn encoded_len(document: &Document) -> usize {
    serde_json::to_vec(document).map_or(usize::MAX, |json| json.len())
}

fn errors(violations: Vec<Violation>) -> Vec<PolicyError> {
    violations
        .into_iter()
        .map(|Violation { path, message }| PolicyError { path, message })
        .collect()
}

/// The verdict on a document that has been deleted and cannot go.
fn held_status(revision: i64) -> PolicyStatus {
    let message = "was deleted, but other policies in force refer to what it declares: it stays in force until they no \
                   longer do; change or delete those, or apply it again";
    PolicyStatus {
        state: PolicyState::Rejected,
        revision,
        serving_revision: Some(revision),
        errors: vec![PolicyError {
            path: String::new(),
            message: message.to_owned(),
        }],
    }
}

fn lost_error(revision: i64) -> PolicyError {
    let message = format!(
        "the last good document (revision {revision}) can no longer be had from etcd's history: nothing is in force for \
         this policy until a valid document is applied"
    );
    PolicyError {
        path: String::new(),
        message,
    }
}

#[cfg(test)]
mod tests;
