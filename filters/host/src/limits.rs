//! The limiting stage over Envoy's shared data, which all worker threads of the proxy have in common.

use std::rc::Rc;

use kilocard_policy::config::{KeyPart, LimitScope, LimitUnit};
use kilocard_policy::limit::estimate::{Asked, Seen};
use kilocard_policy::limit::frames::Frames;
use kilocard_policy::limit::gcra::WHOLE;
use kilocard_policy::limit::memory::{Claim, Shortage};
use kilocard_policy::limit::{
    self, Charge, Charges, Cost, CostModel, Fingerprint, Limited, Moment, Obstacle, Outcome, Receipt, Store, Subject,
    Table, refusal,
};
use kilocard_policy::{Decision, Policy, RequestView, Verdict};

use crate::abi::{self, HostError};
use crate::counters::Counters;
use crate::holds::{self, Hold};
use crate::root::{Active, vm};
use crate::{reply, sync};

/// The seed of the keys' hashes, the same in all threads and in no other process.
const SEED: &str = "kilocard.limit-seed";
/// How often to look whether another thread has drawn the seed.
const TRIES: usize = 8;

/// What one thread knows of the limits.
#[derive(Debug)]
pub(crate) struct Limits {
    seed: u64,
    /// Whether there is a channel to the control plane.
    is_synced: bool,
}

impl Limits {
    /// `drawn` becomes the seed, unless another thread was first.
    pub(crate) fn new(drawn: u64, is_synced: bool) -> Result<Self, HostError> {
        for _ in 0..TRIES {
            let (bytes, generation) = abi::shared_data(SEED)?;
            if let Ok(seed) = bytes.as_slice().try_into() {
                let seed = u64::from_le_bytes(seed);
                return Ok(Self { seed, is_synced });
            }
            abi::swap_shared_data(SEED, &drawn.to_le_bytes(), generation)?;
        }
        Ok(Self { seed: drawn, is_synced })
    }

    /// The seed of the keys' hashes.
    pub(crate) fn seed(&self) -> u64 {
        self.seed
    }

    /// With what the store is asked now.
    pub(crate) fn moment(&self, policy: &Policy, now_ns: u64) -> Result<Moment, HostError> {
        let is_shared = |table: &Table| table.scope() == LimitScope::Mesh;
        let is_shared = policy.rate_limits().iter().any(is_shared) || policy.admits_by_memory();
        let base_share = if self.is_synced && is_shared {
            sync::base_share(now_ns)?
        } else {
            WHOLE
        };
        Ok(Moment { now_ns, base_share })
    }
}

/// What became of a request at its limits.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Applied {
    /// It is decided: as before, or refused.
    Decided,
    /// There is no memory for it, and it may be worth waiting for.
    Waits,
}

/// Takes what the request needs from all limits that are about it, and from the memory of its version, or refuses it. What it
/// has taken is kept until the stream ends.
pub(crate) fn apply<'p>(
    active: &'p Rc<Active>,
    request: &RequestView<'_>,
    decision: &mut Decision<'p>,
    (stream, may_wait): (u32, bool),
) -> Result<Applied, HostError> {
    let policy = &active.policy;
    let tables = policy.rate_limits();
    let is_free = tables.is_empty() && !policy.admits_by_memory();
    if is_free || matches!(decision.verdict, Verdict::Refuse(_)) {
        return Ok(Applied::Decided);
    }
    let subject = Subject::of(request, decision, active.stages);
    let model = policy.cost_model(subject.model);
    let (asked, route) = (Asked::of(request), route_of(&subject));
    let cost = if tables.iter().any(is_settled) {
        model.reserve(asked, holds::known(&route, CostModel::USUAL_PERCENT))
    } else {
        // Nobody asks for more than the number of requests: no need to look up what is usual.
        ONE
    };
    let at = active.limits.moment(policy, abi::monotonic_ns()?)?;
    let charges = Charges::of(tables, &subject, cost, active.limits.seed);
    for charge in charges.enforced.iter().chain(&charges.shadow) {
        sync::ask(charge, &subject);
    }
    let claim = model.terms().and_then(|_| {
        let memory = model.memory(asked, holds::known(&route, model.memory_percent()))?;
        Some(claim(active, &subject, memory))
    });
    if let Some(claim) = &claim
        && let Some(shortage) = reserve(&route, &model, claim, at)?
    {
        if may_wait && shortage != Shortage::Never {
            return Ok(Applied::Waits);
        }
        active.counters.count_shortage(shortage);
        let refusal = refusal::of_memory(shortage, claim.bytes.saturating_add(claim.spread), decision.reached());
        decision.verdict = Verdict::Refuse(refusal);
        return Ok(Applied::Decided);
    }
    let taken = take(&charges.enforced, at, &active.counters);
    if let Some(claim) = &claim
        && !matches!(taken, Ok(Ok(_)))
    {
        holds::release(&route, claim, at.now_ns);
    }
    let taken = taken?;
    let mut held: Vec<(&Charge<'_>, Receipt)> = Vec::new();
    for charge in &charges.shadow {
        match take(std::slice::from_ref(charge), at, &active.counters)? {
            Ok(receipts) => held.extend(std::iter::once(charge).zip(receipts)),
            Err(obstacle) => {
                let limited = Limited::of(&obstacle, &subject);
                decision.findings.extend(limited.map(Limited::into_finding));
            }
        }
    }
    let refused = match taken {
        Ok(receipts) => {
            held.extend(charges.enforced.iter().zip(receipts));
            None
        }
        Err(obstacle) => Limited::of(&obstacle, &subject),
    };
    if let Some(limited) = refused {
        decision.verdict = Verdict::Refuse(limited.into_refusal(decision.reached()));
        return Ok(Applied::Decided);
    }

    let settled = held.iter().filter(|(charge, _)| is_settled(charge.table));
    let charges: Vec<_> = settled
        .filter_map(|(charge, receipt)| Some((position(tables, charge.table)?, charge.key, *receipt)))
        .collect();
    if claim.is_some() || !charges.is_empty() {
        let hold = Hold {
            active: Rc::clone(active),
            route,
            model,
            asked,
            charges,
            taken: cost,
            claim,
            began_ns: at.now_ns,
            seen: Seen::default(),
            is_whole: false,
            frames: reply::is_grpc_to_envoy(request).then(Frames::default),
        };
        holds::keep(stream, hold);
    }
    Ok(Applied::Decided)
}

/// What a request costs where only requests are counted.
const ONE: Cost = Cost {
    requests: 1,
    tokens: 0,
    gpu_ms: 0,
};

/// Whether what is taken differs from what is used. What only counts requests is settled as it is taken.
fn is_settled(table: &Table) -> bool {
    table.counts(LimitUnit::Tokens) || table.counts(LimitUnit::GpuSeconds)
}

fn position(tables: &[Table], table: &Table) -> Option<usize> {
    tables.iter().position(|one| std::ptr::eq(one, table))
}

/// `<model>/<version>`, as far as they are known.
fn route_of(subject: &Subject<'_>) -> String {
    let text = |value: Option<&[u8]>| String::from_utf8_lossy(value.unwrap_or_default()).into_owned();
    format!("{}/{}", text(subject.model), text(subject.version))
}

/// The memory that the request needs.
fn claim(active: &Active, subject: &Subject<'_>, (bytes, spread): (u64, u64)) -> Claim {
    Claim {
        holder: vm(),
        bytes,
        spread,
        priority: subject.priority,
        tenant: Fingerprint::of(subject, &[KeyPart::Tenant], active.limits.seed).get(),
    }
}

fn reserve(route: &str, model: &CostModel, claim: &Claim, at: Moment) -> Result<Option<Shortage>, HostError> {
    let Some(terms) = model.terms() else {
        return Ok(None);
    };
    // Clients can name versions that nobody has: of those nothing is kept.
    if !holds::knows(route)? {
        return Ok(Some(Shortage::Stale));
    }
    let done = holds::change_memory(route, |memory| memory.reserve(claim, &terms, at.base_share, at.now_ns))?;
    // Other threads won each time: then there is no telling what is left.
    Ok(done.unwrap_or(Err(Shortage::Full)).err())
}

/// Takes all or none; gives what is in the way.
fn take<'p>(
    charges: &[Charge<'p>],
    at: Moment,
    counters: &Counters,
) -> Result<Result<Vec<Receipt>, Obstacle<'p>>, HostError> {
    if charges.is_empty() {
        return Ok(Ok(Vec::new()));
    }
    match limit::admit(&SharedData, charges, at)? {
        Outcome::Admitted(receipts) => {
            for (charge, receipt) in charges.iter().zip(&receipts) {
                if receipt.is_overflow {
                    counters.count_overflow(charge.table);
                }
            }
            Ok(Ok(receipts))
        }
        Outcome::Refused(obstacle) => {
            counters.count_limit(obstacle.table);
            Ok(Err(obstacle))
        }
    }
}

/// Envoy's shared data as the limiter's store.
pub(crate) struct SharedData;

impl Store for SharedData {
    type Error = HostError;

    fn read(&self, name: &str) -> Result<(Vec<u8>, u32), HostError> {
        abi::shared_data(name)
    }

    fn swap(&self, name: &str, value: &[u8], read: u32) -> Result<bool, HostError> {
        abi::swap_shared_data(name, value, read)
    }
}
