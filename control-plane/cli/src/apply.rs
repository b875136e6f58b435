//! `kilocard apply`: documents into etcd, all or none.
//!
//! The documents are checked alone, then together with those in etcd, and written in one transaction on the condition
//! that nothing has changed since. The control plane checks again; its verdict is waited for.

use crate::args::ApplyArgs;
use crate::documents::{self, Loaded};
use crate::failure::Failure;
use crate::outcome::Outcome;
use crate::store::{Commit, PolicySet, Store, conflicts, fit_one_write};
use crate::verdict::{self, Verdict};
use kilocard_policy::Policy;
use kilocard_policy::config::{Document, Violation};
use kilocard_registry::connect::EtcdArgs;
use kilocard_registry::layout::PolicyId;
use serde_json::{Value, json};
use std::collections::BTreeMap;
use std::fmt::Write;

/// How often the check and the write are repeated when others keep writing other policies.
const ATTEMPTS: usize = 8;

/// What happens to one document.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Action {
    /// There was no such policy.
    Created,
    /// There was another one of that name.
    Configured,
    /// It was there already, just so; not written.
    Unchanged,
}

impl Action {
    /// The word for it.
    pub fn label(self) -> &'static str {
        match self {
            Self::Created => "created",
            Self::Configured => "configured",
            Self::Unchanged => "unchanged",
        }
    }
}

/// What is to be done, decided on one reading of etcd.
#[derive(Debug)]
pub struct Plan {
    read: PolicySet,
    actions: BTreeMap<PolicyId, (Document, Action)>,
    warnings: Vec<String>,
}

impl Plan {
    /// Compares the documents with what is in etcd and checks them together with it.
    ///
    /// # Errors
    /// [`Failure::Together`] if they contradict each other or a policy in etcd; [`Failure::Store`] if they are too many to
    /// be written at once.
    pub fn new(documents: &[Document], read: PolicySet) -> Result<Self, Failure> {
        let mut stored = BTreeMap::new();
        let mut warnings = Vec::new();
        let ids: Vec<PolicyId> = documents.iter().map(id_of).collect();
        for (id, policy) in &read.policies {
            match policy.document() {
                Ok(document) => {
                    stored.insert(id.clone(), document);
                }
                Err(_) if ids.contains(id) => {}
                Err(violations) => warnings.push(format!(
                    "{id} in etcd is not valid itself and was left out of the check: {}",
                    violations.first().map(ToString::to_string).unwrap_or_default()
                )),
            }
        }
        let mut actions = BTreeMap::new();
        for (id, document) in ids.into_iter().zip(documents) {
            let action = match (read.policies.contains_key(&id), stored.get(&id)) {
                (_, Some(old)) if old == document => Action::Unchanged,
                (true, _) => Action::Configured,
                (false, _) => Action::Created,
            };
            actions.insert(id, (document.clone(), action));
        }
        check_together(&stored, &actions)?;
        let plan = Self {
            read,
            actions,
            warnings,
        };
        fit_one_write(&plan.changed())?;
        Ok(plan)
    }

    fn changed(&self) -> Vec<&Document> {
        self.actions
            .values()
            .filter(|(_, action)| *action != Action::Unchanged)
            .map(|(document, _)| document)
            .collect()
    }

    /// What happens to each document.
    pub fn actions(&self) -> impl Iterator<Item = (&PolicyId, Action)> {
        self.actions.iter().map(|(id, (_, action))| (id, *action))
    }

    /// Writes what changed, in one transaction; gives the revision of every document. If others wrote other policies
    /// meanwhile, the plan is made anew with these.
    ///
    /// # Errors
    /// [`Failure::Conflict`] if one of these very policies was changed by somebody else, [`Failure::Together`] if the
    /// documents contradict one that was just written, [`Failure::Store`].
    pub async fn commit(mut self, store: &mut Store) -> Result<Written, Failure> {
        for _ in 0..ATTEMPTS {
            let changed = self.changed();
            if changed.is_empty() {
                return Ok(Written {
                    revision: None,
                    plan: self,
                });
            }
            match store.write(&changed, &self.read).await? {
                Commit::Done(revision) => {
                    return Ok(Written {
                        revision: Some(revision),
                        plan: self,
                    });
                }
                Commit::Stale(now) => {
                    let ours = conflicts(self.actions.keys(), &self.read, &now);
                    if !ours.is_empty() {
                        return Err(Failure::Conflict(ours));
                    }
                    let documents: Vec<Document> = self.actions.into_values().map(|(document, _)| document).collect();
                    self = Self::new(&documents, now)?;
                }
            }
        }
        // Never our own policies, else it would have been a conflict above; all the same somebody is faster.
        Err(Failure::Conflict(Vec::new()))
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
            values.push(json!({
                "kind": id.kind, "name": id.name, "action": action.label(), "revision": revision,
                "verdict": verdict.map(Verdict::to_json),
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

/// A plan that was carried out.
#[derive(Debug)]
pub struct Written {
    /// etcd's revision of the write; `None` if nothing had to be written.
    pub revision: Option<i64>,
    plan: Plan,
}

impl Written {
    /// The revision of every document, written or unchanged.
    pub fn revisions(&self) -> BTreeMap<PolicyId, i64> {
        let revision = |(id, action): (&PolicyId, Action)| {
            let revision = match action {
                Action::Unchanged => self.plan.read.revision_of(id),
                Action::Created | Action::Configured => self.revision,
            };
            Some((id.clone(), revision?))
        };
        self.plan.actions().filter_map(revision).collect()
    }
}

fn id_of(document: &Document) -> PolicyId {
    PolicyId::new(document.kind().as_str(), document.name())
}

/// Contradictions that were in etcd before are not blamed on the documents at hand.
fn check_together(
    stored: &BTreeMap<PolicyId, Document>,
    actions: &BTreeMap<PolicyId, (Document, Action)>,
) -> Result<(), Failure> {
    let mut merged: BTreeMap<&PolicyId, &Document> = stored.iter().collect();
    merged.extend(actions.iter().map(|(id, (document, _))| (id, document)));
    let Err(violations) = Policy::compile("", merged.into_values()) else {
        return Ok(());
    };
    let before = Policy::compile("", stored.values()).err().unwrap_or_default();
    let new: Vec<Violation> = violations
        .into_iter()
        .filter(|violation| !before.contains(violation))
        .collect();
    if new.is_empty() {
        Ok(())
    } else {
        Err(Failure::Together(new))
    }
}

/// Runs the command.
///
/// # Errors
/// [`Failure`]; a rejection by the control plane is an outcome without success.
pub async fn run(etcd: &EtcdArgs, args: &ApplyArgs) -> Result<Outcome, Failure> {
    let loaded = documents::load(&args.files).map_err(Failure::Documents)?;
    let documents: Vec<Document> = loaded.into_iter().map(|Loaded { document, .. }| document).collect();
    let mut store = Store::connect(etcd).await?;
    let plan = Plan::new(&documents, store.policies().await?)?;
    if args.dry_run {
        let mut outcome = plan.outcome(&BTreeMap::new(), &BTreeMap::new());
        outcome.text.push_str("nothing was written (--dry-run)\n");
        outcome.data["dry_run"] = Value::Bool(true);
        return Ok(outcome);
    }
    let written = plan.commit(&mut store).await?;
    let revisions = written.revisions();
    if args.no_wait {
        return Ok(written.plan.outcome(&revisions, &BTreeMap::new()));
    }
    let verdicts = verdict::wait(&mut store, &revisions, args.wait).await?;
    let mut outcome = written.plan.outcome(&revisions, &verdicts);
    if verdicts.values().any(|verdict| *verdict == Verdict::Pending) {
        outcome.warnings.push(format!(
            "etcd has the documents, but no control plane acknowledged all of them within {:?}; is one running on this \
             etcd and prefix? `kilocard get` shows when it does",
            args.wait
        ));
    }
    Ok(outcome)
}
