//! Changes to the policies in etcd, all or none.
//!
//! What is to be done is checked together with everything in etcd, and done in one transaction on the condition that
//! nothing has changed since. The control plane checks again; its verdict is waited for.

use crate::args::WaitArgs;
use crate::authorship::Authorship;
use crate::cohorts::{self, Moves};
use crate::failure::Failure;
use crate::outcome::Outcome;
use crate::store::{Change, Commit, PolicySet, Store, conflicts, fit_one_write};
use crate::verdict::{self, Verdict};
use kilocard_policy::Policy;
use kilocard_policy::config::{Document, Violation};
use kilocard_registry::layout::PolicyId;
use serde_json::{Value, json};
use std::collections::{BTreeMap, BTreeSet};
use std::fmt::Write;

/// How often the check and the write are repeated when others keep writing other policies.
const ATTEMPTS: usize = 8;

/// What happens to one policy.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Action {
    /// There was no such policy.
    Created,
    /// There was another one of that name.
    Configured,
    /// It was there already, just so; not written.
    Unchanged,
    /// It was there and goes.
    Deleted,
}

impl Action {
    /// The word for it.
    pub fn label(self) -> &'static str {
        match self {
            Self::Created => "created",
            Self::Configured => "configured",
            Self::Unchanged => "unchanged",
            Self::Deleted => "deleted",
        }
    }
}

/// What somebody wants done.
#[derive(Clone, Debug, Default)]
pub struct Intent {
    /// To be written.
    pub documents: Vec<Document>,
    /// To be deleted; those that are not there count as done.
    pub deletions: Vec<PolicyId>,
    /// Whether the documents carry over what is remembered of the cohorts of those that they replace.
    pub remember_cohorts: bool,
    /// Whether it was decided by looking at all policies, so that a change of any other voids it.
    pub of_all: bool,
}

/// What is to be done, decided on one reading of etcd.
#[derive(Debug)]
pub struct Changes {
    intent: Intent,
    read: PolicySet,
    items: BTreeMap<PolicyId, (Option<Document>, Action)>,
    moves: BTreeMap<PolicyId, Vec<Moves>>,
    warnings: Vec<String>,
}

impl Changes {
    /// Compares what is wanted with what is in etcd and checks that the policies will be valid together.
    ///
    /// # Errors
    /// [`Failure::Together`] if the documents contradict each other or a policy in etcd, [`Failure::Without`] if a policy
    /// that stays needs one that goes; [`Failure::Store`] if the changes are too many to be made at once.
    pub fn new(intent: Intent, read: PolicySet) -> Result<Self, Failure> {
        let ids: BTreeSet<PolicyId> = intent.documents.iter().map(id_of).collect();
        let gone = |id: &PolicyId| intent.deletions.contains(id);
        let mut stored = BTreeMap::new();
        let mut warnings = Vec::new();
        for (id, policy) in &read.policies {
            match policy.document() {
                Ok(document) => {
                    stored.insert(id.clone(), document);
                }
                Err(_) if ids.contains(id) || gone(id) => {}
                Err(violations) => warnings.push(format!(
                    "{id} in etcd is not valid itself and was left out of the check: {}",
                    violations.first().map(ToString::to_string).unwrap_or_default()
                )),
            }
        }
        let (mut items, mut moves) = (BTreeMap::new(), BTreeMap::new());
        for document in &intent.documents {
            let id = id_of(document);
            let old = stored.get(&id);
            let document = match old.filter(|_| intent.remember_cohorts) {
                Some(old) => cohorts::remembering(document, old).map_err(Failure::Together)?,
                None => document.clone(),
            };
            let action = match old {
                Some(old) if *old == document => Action::Unchanged,
                _ if read.policies.contains_key(&id) => Action::Configured,
                _ => Action::Created,
            };
            moves.insert(
                id.clone(),
                old.map_or_else(Vec::new, |old| cohorts::moves(old, &document)),
            );
            items.insert(id, (Some(document), action));
        }
        for id in intent.deletions.iter().filter(|id| read.policies.contains_key(id)) {
            items.insert(id.clone(), (None, Action::Deleted));
        }
        check_together(&stored, &items)?;
        let changes = Self {
            intent,
            read,
            items,
            moves,
            warnings,
        };
        fit_one_write(&changes.effective())?;
        Ok(changes)
    }

    fn effective(&self) -> Vec<Change<'_>> {
        let changed = self
            .items
            .iter()
            .filter(|(_, (_, action))| *action != Action::Unchanged);
        changed
            .map(|(id, (document, _))| Change {
                id,
                document: document.as_ref(),
            })
            .collect()
    }

    /// What happens to each policy.
    pub fn actions(&self) -> impl Iterator<Item = (&PolicyId, Action)> {
        self.items.iter().map(|(id, (_, action))| (id, *action))
    }

    /// What each policy is to be; `None` if it is deleted.
    pub fn documents(&self) -> impl Iterator<Item = (&PolicyId, Option<&Document>)> {
        self.items.iter().map(|(id, (document, _))| (id, document.as_ref()))
    }

    /// The reading of etcd that this was decided on.
    pub fn read(&self) -> &PolicySet {
        &self.read
    }

    /// Makes the changes, in one transaction. If others wrote other policies meanwhile, all is decided anew with these.
    ///
    /// # Errors
    /// [`Failure::Conflict`] if one of these very policies was changed by somebody else, [`Failure::Together`] or
    /// [`Failure::Without`] if they contradict one that was just written, [`Failure::Store`].
    pub async fn commit(mut self, store: &mut Store, by: &Authorship) -> Result<Written, Failure> {
        for _ in 0..ATTEMPTS {
            let effective = self.effective();
            if effective.is_empty() {
                return Ok(Written {
                    revision: None,
                    changes: self,
                });
            }
            match store.write(&effective, &self.read, by).await? {
                Commit::Done(revision) => {
                    return Ok(Written {
                        revision: Some(revision),
                        changes: self,
                    });
                }
                Commit::Stale(now) => {
                    let in_the_way = self.conflicts(&now);
                    if !in_the_way.is_empty() {
                        return Err(Failure::Conflict(in_the_way));
                    }
                    self = Self::new(self.intent, now)?;
                }
            }
        }
        // Never our own policies, else it would have been a conflict above; all the same somebody is faster.
        Err(Failure::Conflict(Vec::new()))
    }

    fn conflicts(&self, now: &PolicySet) -> Vec<crate::failure::Conflict> {
        if self.intent.of_all {
            let all: BTreeSet<&PolicyId> = self.read.policies.keys().chain(now.policies.keys()).collect();
            conflicts(all, &self.read, now)
        } else {
            conflicts(self.items.keys(), &self.read, now)
        }
    }

    /// What would be done, without revisions and verdicts.
    pub fn dry_run(&self) -> Outcome {
        let mut outcome = self.outcome(&BTreeMap::new(), &BTreeMap::new());
        outcome.text.push_str("nothing was written (--dry-run)\n");
        outcome.data["dry_run"] = Value::Bool(true);
        outcome
    }

    fn outcome(&self, revisions: &BTreeMap<PolicyId, i64>, verdicts: &BTreeMap<PolicyId, Verdict>) -> Outcome {
        let mut text = String::new();
        let mut values: Vec<Value> = Vec::new();
        let mut success = true;
        for (id, action) in self.actions() {
            let (revision, verdict) = (revisions.get(id), verdicts.get(id));
            let _ = write!(text, "{id} {}", action.label());
            if let Some(revision) = revision {
                let _ = write!(text, " (revision {revision})");
            }
            if let Some(verdict) = verdict {
                let _ = write!(text, ": {}\n{}", verdict.summary(), verdict.reasons());
                success &= !matches!(verdict, Verdict::Rejected(_));
            } else {
                text.push('\n');
            }
            let moves = self.moves.get(id).map_or(&[][..], Vec::as_slice);
            for line in moves.iter().flat_map(Moves::lines) {
                let _ = writeln!(text, "  {line}");
            }
            values.push(json!({
                "kind": id.kind, "name": id.name, "action": action.label(), "revision": revision,
                "verdict": verdict.map(Verdict::to_json), "moves": moves.iter().map(Moves::to_json).collect::<Value>(),
            }));
        }
        let outcome = Outcome::new(text, json!({"policies": values}));
        Outcome {
            success,
            warnings: self.warnings.clone(),
            ..outcome
        }
    }
}

/// Changes that were made.
#[derive(Debug)]
pub struct Written {
    /// etcd's revision of the write; `None` if nothing had to be written.
    pub revision: Option<i64>,
    changes: Changes,
}

impl Written {
    /// The revision of every policy, written, deleted or unchanged.
    pub fn revisions(&self) -> BTreeMap<PolicyId, i64> {
        let revision = |(id, action): (&PolicyId, Action)| {
            let revision = match action {
                Action::Unchanged => self.changes.read.revision_of(id),
                Action::Created | Action::Configured | Action::Deleted => self.revision,
            };
            Some((id.clone(), revision?))
        };
        self.changes.actions().filter_map(revision).collect()
    }

    /// Waits for the control plane's verdict on what was written, and tells.
    ///
    /// # Errors
    /// [`Failure::Store`]; a rejection is an outcome without success.
    pub async fn judged(&self, store: &mut Store, wait: &WaitArgs) -> Result<Outcome, Failure> {
        let revisions = self.revisions();
        if wait.no_wait {
            return Ok(self.changes.outcome(&revisions, &BTreeMap::new()));
        }
        // Nobody judges a policy that is gone.
        let mut judged = revisions.clone();
        judged.retain(|id, _| {
            self.changes
                .items
                .get(id)
                .is_some_and(|(document, _)| document.is_some())
        });
        let verdicts = verdict::wait(store, &judged, wait.wait).await?;
        let mut outcome = self.changes.outcome(&revisions, &verdicts);
        if verdicts.values().any(|verdict| *verdict == Verdict::Pending) {
            outcome.warnings.push(format!(
                "etcd has the documents, but no control plane acknowledged all of them within {:?}; is one running on this \
                 etcd and prefix? `kilocard get` shows when it does",
                wait.wait
            ));
        }
        Ok(outcome)
    }
}

/// The key of a document's policy.
pub fn id_of(document: &Document) -> PolicyId {
    PolicyId::new(document.kind().as_str(), document.name())
}

/// Contradictions that were in etcd before are not blamed on the changes at hand, unless a document that is written has them.
fn check_together(
    stored: &BTreeMap<PolicyId, Document>,
    items: &BTreeMap<PolicyId, (Option<Document>, Action)>,
) -> Result<(), Failure> {
    let mut merged: BTreeMap<&PolicyId, &Document> = stored.iter().collect();
    for (id, (document, _)) in items {
        match document {
            Some(document) => merged.insert(id, document),
            None => merged.remove(id),
        };
    }
    let Err(violations) = Policy::compile("", merged.into_values()) else {
        return Ok(());
    };
    let written: Vec<String> = items
        .values()
        .filter_map(|(document, _)| Some(format!("{}: ", document.as_ref()?.id())))
        .collect();
    let is_written = |violation: &Violation| written.iter().any(|id| violation.path.starts_with(id));
    let before = Policy::compile("", stored.values()).err().unwrap_or_default();
    let new: Vec<Violation> = violations
        .into_iter()
        .filter(|violation| !before.contains(violation) || is_written(violation))
        .collect();
    match items.values().any(|(document, _)| document.is_some()) {
        _ if new.is_empty() => Ok(()),
        true => Err(Failure::Together(new)),
        false => Err(Failure::Without(new)),
    }
}
