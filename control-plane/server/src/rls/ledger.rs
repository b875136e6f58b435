//! What was taken from the limits, and the decision: the filters' own, over the memory of this process.
//!
//! Pure: time comes in, as what has passed since any fixed moment.

use super::ask::Ask;
use super::member::{Member, nanos};
use super::store::{Draft, Memory};
use kilocard_policy::Policy;
use kilocard_policy::config::{LimitScope, RateLimit};
use kilocard_policy::limit::{
    Charges, Left, Limited, Moment, Outcome, Receipt, Settlement, Table, admit, look, settle,
};
use kilocard_quota::{Grant, Report};
use std::sync::Arc;
use std::time::Duration;

/// All that is counted.
#[derive(Debug)]
pub(super) struct Ledger {
    /// `None` before the first policies are known.
    policy: Option<Arc<Policy>>,
    /// Of the keys' hashes.
    seed: u64,
    memory: Memory,
    member: Option<Member>,
}

/// What is decided of one descriptor.
#[derive(Debug)]
pub(super) enum Verdict<'p> {
    /// It met a limit.
    Over(Limited<'p>),
    /// It did not; of the limits that it takes from, the one that is nearest to its end.
    Within(Option<Standing>),
}

/// How a limit stands.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) struct Standing {
    /// `tenants.tokens`: the policy and the unit.
    pub(super) label: String,
    /// What it says.
    pub(super) limit: RateLimit,
    /// How much of the unit could be had now.
    pub(super) remaining: u64,
    /// In how long all of the burst can be had again.
    pub(super) full_in: Duration,
}

/// What is decided of a request.
#[derive(Debug)]
pub(super) struct Ruling<'p> {
    /// By descriptor. If one is over its limit, nothing was taken from any.
    pub(super) verdicts: Vec<Verdict<'p>>,
    /// The policies whose limits were met, those that only count among them.
    pub(super) met: Vec<&'p str>,
}

impl Ruling<'_> {
    /// Whether a descriptor is over its limit.
    pub(super) fn is_over(&self) -> bool {
        self.verdicts.iter().any(|verdict| matches!(verdict, Verdict::Over(_)))
    }
}

/// Whether one of these takes from a limit that all proxies share.
pub(super) fn is_shared(policy: &Policy, asks: &[Ask<'_>]) -> bool {
    let tables = policy.rate_limits().iter();
    let mut shared = tables.filter(|table| table.scope() == LimitScope::Mesh);
    shared.any(|table| asks.iter().any(|ask| table.matches(&ask.subject)))
}

impl Ledger {
    /// An empty one. `seed` as in `Fingerprint::of`.
    pub(super) fn new(seed: u64) -> Self {
        Self {
            policy: None,
            seed,
            memory: Memory::default(),
            member: None,
        }
    }

    /// The policies in force.
    pub(super) fn policy(&self) -> Option<Arc<Policy>> {
        self.policy.clone()
    }

    /// Puts policies in force. What was counted under those that are gone is forgotten.
    pub(super) fn enact(&mut self, policy: Policy) {
        let before = self.policy.replace(Arc::new(policy));
        let tables = self.policy.iter().flat_map(|policy| policy.rate_limits());
        let names: Vec<_> = tables.map(Table::name).collect();
        let before = before.iter().flat_map(|policy| policy.rate_limits());
        let gone: Vec<_> = before.filter(|table| !names.contains(&table.name())).collect();
        if !gone.is_empty() {
            self.memory.retain(|name| !gone.iter().any(|table| table.owns(name)));
        }
    }

    /// Decides about all of these together. A share of the limits of the mesh has to be there already.
    pub(super) fn decide<'p>(&mut self, policy: &'p Policy, asks: &[Ask<'_>], now: Duration) -> Ruling<'p> {
        let at = Moment {
            now_ns: nanos(now),
            base_share: self.member.as_ref().map_or(0, Member::base),
        };
        let charges = |ask: &Ask<'_>| Charges::of(policy.rate_limits(), &ask.subject, ask.cost, self.seed);
        let all: Vec<_> = asks.iter().map(|ask| (ask, charges(ask))).collect();
        self.note(&all, now);
        let mut ruling = Ruling {
            verdicts: Vec::with_capacity(asks.len()),
            met: Vec::new(),
        };
        let draft = self.memory.draft();
        for (ask, charges) in &all {
            let verdict = rule(&draft, ask, charges, at);
            if let Verdict::Over(limited) = &verdict {
                ruling.met.push(limited.policy);
            }
            ruling.verdicts.push(verdict);
        }
        let changes = draft.into_changes();
        if !ruling.is_over() {
            self.memory.take(changes);
        }
        self.shadow(&all, at, &mut ruling.met);
        ruling
    }

    /// Tells the authority, with the next report, what was asked for.
    fn note(&mut self, all: &[(&Ask<'_>, Charges<'_>)], now: Duration) {
        let Some(member) = &mut self.member else { return };
        for (ask, charges) in all.iter().filter(|(ask, _)| !ask.gives_back) {
            for charge in charges.enforced.iter().chain(&charges.shadow) {
                member.ask(charge, &ask.subject, now);
            }
        }
    }

    /// Takes from the policies that only count, whatever was decided.
    fn shadow<'p>(&mut self, all: &[(&Ask<'_>, Charges<'p>)], at: Moment, met: &mut Vec<&'p str>) {
        if all.iter().all(|(_, charges)| charges.shadow.is_empty()) {
            return;
        }
        let draft = self.memory.draft();
        for (ask, charges) in all {
            for charge in &charges.shadow {
                if ask.gives_back {
                    let Ok(()) = settle(
                        &draft,
                        (charge, Receipt::default()),
                        Settlement::refund(charge.cost),
                        at,
                    );
                } else {
                    let Ok(outcome) = admit(&draft, std::slice::from_ref(charge), at);
                    met.extend(matches!(outcome, Outcome::Refused(_)).then(|| charge.table.name()));
                }
            }
        }
        let changes = draft.into_changes();
        self.memory.take(changes);
    }

    /// Takes part in the division under this leadership, if it does not yet.
    pub(super) fn join(&mut self, term: i64, now: Duration) {
        if self.member.as_ref().is_none_or(|member| member.term() != term) {
            self.leave(now);
            self.member = Some(Member::new(term, now));
        }
    }

    /// Gives up its part of the division, if it has one.
    pub(super) fn leave(&mut self, now: Duration) {
        if let (Some(member), Some(policy)) = (self.member.take(), &self.policy) {
            member.leave(&mut self.memory, (policy, self.seed), now);
        }
    }

    /// When a report is due, and under which leadership.
    pub(super) fn due(&self) -> Option<(Duration, i64)> {
        self.member.as_ref().map(|member| (member.due(), member.term()))
    }

    /// What it has to say to the authority.
    pub(super) fn report(&self, now: Duration) -> Option<Report> {
        self.member.as_ref().map(|member| member.report(now))
    }

    /// Takes the answer to a report, or that there is none.
    pub(super) fn answered(&mut self, granted: Option<Grant>, (sent, received): (Duration, Duration)) {
        let (Some(member), Some(policy)) = (&mut self.member, &self.policy) else {
            return;
        };
        match granted {
            Some(granted) => member.take(granted, &mut self.memory, (policy, self.seed), (sent, received)),
            None => member.fail(received),
        }
    }

    /// How many values are kept.
    #[cfg(test)]
    pub(super) fn len(&self) -> usize {
        self.memory.len()
    }
}

/// Takes what a descriptor asks for, or nothing of it.
fn rule<'p>(draft: &Draft<'_>, ask: &Ask<'_>, charges: &Charges<'p>, at: Moment) -> Verdict<'p> {
    if ask.gives_back {
        for charge in &charges.enforced {
            let Ok(()) = settle(draft, (charge, Receipt::default()), Settlement::refund(charge.cost), at);
        }
    } else {
        let Ok(outcome) = admit(draft, &charges.enforced, at);
        if let Outcome::Refused(obstacle) = outcome
            && let Some(limited) = Limited::of(&obstacle, &ask.subject)
        {
            return Verdict::Over(limited);
        }
    }
    let mut nearest: Option<(&str, Left<'_>)> = None;
    for charge in &charges.enforced {
        let Ok(all) = look(draft, charge, at);
        for left in all {
            if nearest.is_none_or(|(_, other)| is_nearer(&left, &other)) {
                nearest = Some((charge.table.name(), left));
            }
        }
    }
    Verdict::Within(nearest.map(|(policy, left)| Standing {
        label: format!("{policy}.{}", left.quota.limit.unit),
        limit: left.quota.limit,
        remaining: left.remaining / left.quota.cells(),
        full_in: Duration::from_nanos(left.full_in_ns),
    }))
}

/// Whether less is left of the one, as a part of its burst.
fn is_nearer(one: &Left<'_>, other: &Left<'_>) -> bool {
    let of = |left: &Left<'_>, whole: &Left<'_>| u128::from(left.remaining) * u128::from(whole.quota.gcra.burst());
    of(one, other) < of(other, one)
}
