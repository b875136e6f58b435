//! Which limits a request takes from.

use super::estimate::{self, Asked};
use super::key::{Fingerprint, Subject};
use super::limiter::Charge;
use super::table::{Cost, Table};
use crate::config::Priority;
use crate::decision::{Decision, Reached, Verdict};
use crate::headers;
use crate::policy::Stages;
use crate::request::{RequestView, without_query};

impl<'a> Subject<'a> {
    /// What is decided about a request, and what its headers say where nothing is: a filter that only limits goes by the
    /// route that another has set before it, or by the model that the client names. Where validation is among the stages, nobody
    /// of ours can have set a route before.
    pub fn of(request: &RequestView<'a>, decision: &Decision<'a>, stages: Stages) -> Self {
        let mut subject = Self::default();
        let (mut route, mut model, mut version, mut priority) = (None, None, None, None);
        for (name, value) in request.headers() {
            let slot = match *name {
                b":path" => {
                    subject.method = without_query(value);
                    continue;
                }
                b"x-tenant-id" => &mut subject.tenant,
                b"x-user-id" => &mut subject.user,
                b"x-model" => &mut model,
                b"x-model-version" => &mut version,
                b"x-priority" => &mut priority,
                b"x-kilocard-route" => &mut route,
                _ => continue,
            };
            // Of one that comes twice the first counts, as in all stages.
            slot.get_or_insert(*value);
        }
        if let Verdict::Route(route) = &decision.verdict {
            subject.model = Some(route.model.as_bytes());
            subject.version = Some(route.version.as_bytes());
            subject.priority = route.priority;
            return subject;
        }
        (subject.model, subject.version) = route
            .filter(|_| !stages.contains(Stages::VALIDATION))
            .and_then(split)
            .map_or((model, version), |(model, version)| (Some(model), Some(version)));
        subject.priority = priority.and_then(Priority::from_header).unwrap_or_default();
        subject
    }
}

impl Asked {
    /// What the client says of its size. What is no number counts as not said.
    pub fn of(request: &RequestView<'_>) -> Self {
        let first = |wanted: &str| {
            let mut all = request.headers().iter();
            let found = all.find(|(name, _)| *name == wanted.as_bytes());
            found.and_then(|(_, value)| estimate::number(value))
        };
        Self {
            prompt_tokens: first(headers::X_PROMPT_TOKENS),
            max_tokens: first(headers::X_MAX_TOKENS),
        }
    }
}

fn split(route: &[u8]) -> Option<(&[u8], &[u8])> {
    let at = route.iter().position(|byte| *byte == b'/')?;
    Some((route.get(..at)?, route.get(at + 1..)?))
}

/// What a request takes from.
#[derive(Debug, Default)]
pub struct Charges<'p> {
    /// From all of these, or from none.
    pub enforced: Vec<Charge<'p>>,
    /// From each of these by itself, and whether it can or not makes no difference to the request.
    pub shadow: Vec<Charge<'p>>,
}

impl<'p> Charges<'p> {
    /// Of the policies that are about this request. `seed` as in [`Fingerprint::of`].
    pub fn of(tables: &'p [Table], subject: &Subject<'_>, cost: Cost, seed: u64) -> Self {
        let mut charges = Self::default();
        for table in tables.iter().filter(|table| table.matches(subject)) {
            let list = if table.is_shadow() {
                &mut charges.shadow
            } else {
                &mut charges.enforced
            };
            list.push(Charge {
                table,
                key: Fingerprint::of(subject, table.by(), seed),
                cost,
            });
        }
        charges
    }
}

impl<'p> Decision<'p> {
    /// How far routing has come, for a refusal that comes after it.
    pub fn reached(&self) -> Reached<'p> {
        match &self.verdict {
            Verdict::Route(route) => Reached {
                model: Some(route.model),
                rule: route.rule,
                version: Some(route.version),
                bucket: route.bucket,
            },
            Verdict::Pass => Reached::default(),
            Verdict::Refuse(refusal) => refusal.reached,
        }
    }
}
