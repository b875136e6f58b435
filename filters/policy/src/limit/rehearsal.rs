//! Limits over recorded requests: what they would have refused, told by the limiter itself.
//!
//! A recording may be a sample. Requests are then held to the same part of each limit, rate and burst, as one proxy of many
//! is; so the tables of a rehearsal can be divided, whatever their scope. What is counted for a request is what the filter
//! would have reserved before it had seen any answer, and nothing is settled: no recording knows what was used in the end.

use std::cell::RefCell;
use std::collections::{BTreeMap, HashMap};
use std::convert::Infallible;

use super::charges::Charges;
use super::estimate::{Asked, Known};
use super::key::{Fingerprint, Subject};
use super::limiter::{Charge, Moment, Outcome, Store, admit};
use super::refusal::Limited;
use super::table::{Cost, Table};
use crate::capture::Captured;
use crate::cohort::Key;
use crate::config::Priority;
use crate::decision::{Decision, Verdict};
use crate::headers;
use crate::policy::{Policy, Stages};

/// Of the keys' hashes. A rehearsal gives the same result each time; nobody can send it anything once the seed is known.
const SEED: u64 = 0;

/// The limits of a policy, with memory of their own.
#[derive(Debug)]
pub struct Rehearsal<'p> {
    policy: &'p Policy,
    tables: Vec<Table>,
    /// The tenants that the limits name, by their digest.
    tenants: BTreeMap<u64, String>,
    shelf: Shelf,
}

/// A recorded request, as far as its limits are concerned.
#[derive(Clone, Debug)]
pub struct Recorded {
    charges: Vec<(usize, Fingerprint)>,
    cost: Cost,
    subject: Kept,
}

/// What becomes of it.
#[derive(Clone, Debug, Default)]
pub struct Trial<'r> {
    /// The limit that refuses it.
    pub refused: Option<Limited<'r>>,
    /// The limits that would, and only count.
    pub counted: Vec<Limited<'r>>,
}

impl<'p> Rehearsal<'p> {
    /// With full buckets.
    pub fn of(policy: &'p Policy) -> Self {
        let tables: Vec<_> = policy.rate_limits().iter().cloned().map(Table::divided).collect();
        let named = tables.iter().flat_map(Table::tenants);
        Self {
            policy,
            tenants: named
                .map(|name| (Key::of(name.as_bytes()).digest(), name.clone()))
                .collect(),
            tables,
            shelf: Shelf::default(),
        }
    }

    /// Whether nothing is limited.
    pub fn is_empty(&self) -> bool {
        self.tables.is_empty()
    }

    /// What a captured request asks of the limits, if it comes to them: `decision` is that of this rehearsal's policy.
    pub fn read(&self, captured: &Captured, decision: &Decision<'_>) -> Option<Recorded> {
        if !captured.stages().contains(Stages::LIMITS) || matches!(decision.verdict, Verdict::Refuse(_)) {
            return None;
        }
        let (mut subject, asked) = captured.view(|view| {
            (
                Kept::of(&Subject::of(view, decision, captured.stages())),
                Asked::of(view),
            )
        });
        subject.name(captured, &self.tenants);
        let model = self.policy.cost_model(subject.model.as_deref());
        let cost = model.reserve(asked, Known::default());
        let of = subject.get();
        let tables = self.tables.iter().enumerate();
        let about_it = tables.filter(|(_, table)| table.matches(&of));
        let charges = about_it.map(|(index, table)| (index, Fingerprint::of(&of, table.by(), SEED)));
        Some(Recorded {
            charges: charges.collect(),
            cost,
            subject,
        })
    }

    /// Takes what it asks for. Requests come in the order of their times, and a time before the last one is as the last one.
    /// `sample` is the part of all requests that were recorded then, in parts per million.
    pub fn ask(&self, recorded: &Recorded, now_ns: u64, sample: u32) -> Trial<'_> {
        let at = Moment {
            now_ns,
            base_share: sample,
        };
        let charges = self.charges(recorded);
        let subject = recorded.subject.get();
        let counted = charges.shadow.iter().map(std::slice::from_ref);
        Trial {
            refused: self.take(&charges.enforced, &subject, at),
            counted: counted.filter_map(|charge| self.take(charge, &subject, at)).collect(),
        }
    }

    /// Takes all or none; gives the limit that is in the way.
    fn take<'r>(&'r self, charges: &[Charge<'r>], subject: &Subject<'_>, at: Moment) -> Option<Limited<'r>> {
        let Ok(outcome) = admit(&self.shelf, charges, at);
        match outcome {
            Outcome::Admitted(_) => None,
            Outcome::Refused(obstacle) => Limited::of(&obstacle, subject),
        }
    }

    fn charges(&self, recorded: &Recorded) -> Charges<'_> {
        let mut charges = Charges::default();
        for (index, key) in &recorded.charges {
            let Some(table) = self.tables.get(*index) else { continue };
            let list = if table.is_shadow() {
                &mut charges.shadow
            } else {
                &mut charges.enforced
            };
            list.push(Charge {
                table,
                key: *key,
                cost: recorded.cost,
            });
        }
        charges
    }
}

/// What is kept of a [`Subject`] until its turn comes.
#[derive(Clone, Debug)]
struct Kept {
    tenant: Option<Box<[u8]>>,
    user: Option<Box<[u8]>>,
    model: Option<Box<[u8]>>,
    version: Option<Box<[u8]>>,
    method: Box<[u8]>,
    priority: Priority,
}

impl Kept {
    fn of(subject: &Subject<'_>) -> Self {
        Self {
            tenant: subject.tenant.map(Into::into),
            user: subject.user.map(Into::into),
            model: subject.model.map(Into::into),
            version: subject.version.map(Into::into),
            method: subject.method.into(),
            priority: subject.priority,
        }
    }

    /// Puts digests in the place of values that were not kept, and names in the place of digests of tenants that a limit
    /// names.
    fn name(&mut self, captured: &Captured, tenants: &BTreeMap<u64, String>) {
        for (header, value) in [
            (headers::X_TENANT_ID, &mut self.tenant),
            (headers::X_USER_ID, &mut self.user),
        ] {
            let header = header.as_bytes();
            let hashed = captured.key(header).filter(|_| captured.is_hashed(header));
            if let Some(digest) = hashed.map(Key::digest) {
                let known = tenants
                    .get(&digest)
                    .filter(|_| header == headers::X_TENANT_ID.as_bytes());
                let name = known.cloned().unwrap_or_else(|| format!("#{digest:016x}"));
                *value = Some(name.into_bytes().into());
            }
        }
    }

    fn get(&self) -> Subject<'_> {
        Subject {
            tenant: self.tenant.as_deref(),
            user: self.user.as_deref(),
            model: self.model.as_deref(),
            version: self.version.as_deref(),
            method: &self.method,
            priority: self.priority,
        }
    }
}

/// The limiter's store, of one thread. As many values as the tables have sets.
#[derive(Debug, Default)]
struct Shelf(RefCell<HashMap<String, Vec<u8>>>);

impl Store for Shelf {
    type Error = Infallible;

    fn read(&self, name: &str) -> Result<(Vec<u8>, u32), Infallible> {
        Ok((self.0.borrow().get(name).cloned().unwrap_or_default(), 0))
    }

    fn swap(&self, name: &str, value: &[u8], _read: u32) -> Result<bool, Infallible> {
        self.0.borrow_mut().insert(name.to_owned(), value.to_vec());
        Ok(true)
    }
}

#[cfg(test)]
mod tests;
