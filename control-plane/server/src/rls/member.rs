//! The service as one more proxy of the authority: what it says and what it is given.
//!
//! The duties are those of the filters' channel (`kilocard_host::sync`), without the network: an answer is there when it is
//! asked for, and in force at once, since the same lock guards it and the decisions.

use super::store::{Draft, Memory};
use crate::sync::{join, part};
use kilocard_policy::Policy;
use kilocard_policy::config::LimitScope;
use kilocard_policy::limit::set::Lease;
use kilocard_policy::limit::{Charge, Demands, Subject, grant, key};
use kilocard_quota::{Demand, Grant, Report, Share};
use std::collections::HashMap;
use std::sync::Arc;
use std::time::Duration;

/// When no request has needed a share for so long, others have it. Coming back costs a second or so without any.
const IDLE: Duration = Duration::from_secs(600);
/// After a report that was not answered.
const RETRY: Duration = Duration::from_secs(1);
/// Between two reports, whatever the authority says.
const INTERVALS: std::ops::RangeInclusive<Duration> = Duration::from_millis(50)..=Duration::from_secs(10);
/// One that does not hold.
const OVER: Lease = Lease {
    share: 0,
    until_ns: 0,
    binds_until_ns: 0,
};

/// A place in the division, under one leadership.
#[derive(Debug)]
pub(super) struct Member {
    name: String,
    term: i64,
    base: Share,
    acknowledged: Option<u64>,
    /// Since the last report that was answered.
    demands: Demands,
    since: Duration,
    used: Duration,
    due: Duration,
    /// What was granted and still binds, by the authority's key.
    held: HashMap<Arc<str>, Lease>,
    /// What was granted and found no room. Until it has, or is over, nothing more is acknowledged.
    unwritten: Vec<(Arc<str>, Lease)>,
}

impl Member {
    /// A newcomer, under a name that no other ever has. It has nothing yet, and a report is due.
    pub(super) fn new(term: i64, now: Duration) -> Self {
        Self {
            name: format!("rls-{:016x}", fastrand::u64(..)),
            term,
            base: Share::ZERO,
            acknowledged: None,
            demands: Demands::default(),
            since: now,
            used: now,
            due: now,
            held: HashMap::new(),
            unwritten: Vec::new(),
        }
    }

    /// The leadership that it belongs to.
    pub(super) fn term(&self) -> i64 {
        self.term
    }

    /// What it has of every key without a lease; parts per million.
    pub(super) fn base(&self) -> u32 {
        self.base.parts()
    }

    /// When to report.
    pub(super) fn due(&self) -> Duration {
        self.due
    }

    /// Notes what is asked for.
    pub(super) fn ask(&mut self, charge: &Charge<'_>, subject: &Subject<'_>, now: Duration) {
        if charge.table.scope() == LimitScope::Mesh {
            self.used = now;
            self.demands.ask(charge, subject);
        }
    }

    /// What it has to say.
    pub(super) fn report(&self, now: Duration) -> Report {
        let elapsed = nanos(now.saturating_sub(self.since));
        let demands = self.demands.rates(elapsed).filter_map(|(policy, key, parts)| {
            let key = join(policy, key);
            (parts > self.base() / 2 || self.held.contains_key(&key)).then_some(Demand { key, parts })
        });
        Report {
            proxy: self.name.clone(),
            // It never restarts under another name: its replica's authority begins anew with it.
            node: String::new(),
            acknowledged: self.acknowledged,
            base: self.base,
            leaving: now.saturating_sub(self.used) >= IDLE,
            demands: demands.collect(),
        }
    }

    /// Takes the answer to a report.
    pub(super) fn take(
        &mut self,
        granted: Grant,
        memory: &mut Memory,
        (policy, seed): (&Policy, u64),
        (sent, received): (Duration, Duration),
    ) {
        self.demands = Demands::default();
        self.since = sent;
        let (least, most) = INTERVALS.into_inner();
        self.due = sent + granted.next_report.clamp(least, most);
        self.base = granted.base;
        let mut leases = std::mem::take(&mut self.unwritten);
        leases.extend(granted.leases.into_iter().map(|lease| {
            let term = Lease {
                share: lease.share.parts(),
                until_ns: nanos(sent + granted.ttl),
                binds_until_ns: nanos(received + 2 * granted.ttl),
            };
            (lease.key, term)
        }));
        let draft = memory.draft();
        let now = nanos(received);
        for (key, lease) in leases {
            if write(&draft, (policy, seed), &key, lease, now) {
                self.held.insert(key, lease);
            } else if lease.binds_until_ns > now {
                self.unwritten.push((key, lease));
            }
        }
        let changes = draft.into_changes();
        memory.take(changes);
        self.held.retain(|_, lease| lease.binds_until_ns > now);
        if self.unwritten.is_empty() {
            self.acknowledged = Some(granted.sequence);
        }
    }

    /// There was no answer: all stays as it is.
    pub(super) fn fail(&mut self, now: Duration) {
        self.due = now + RETRY;
    }

    /// Gives up what it has. Whoever joins after it begins with nothing.
    pub(super) fn leave(self, memory: &mut Memory, (policy, seed): (&Policy, u64), now: Duration) {
        let draft = memory.draft();
        for key in self.held.keys() {
            write(&draft, (policy, seed), key, OVER, nanos(now));
        }
        let changes = draft.into_changes();
        memory.take(changes);
    }
}

/// Puts a lease to its key; false if there is no such policy or no room.
fn write(draft: &Draft<'_>, (policy, seed): (&Policy, u64), key: &str, lease: Lease, now_ns: u64) -> bool {
    let Some((name, text)) = part(key) else { return false };
    let table = policy.rate_limits().iter().find(|table| table.name() == name);
    let found = table.and_then(|table| Some((table, key::parse(text, table.by(), seed)?)));
    found.is_some_and(|(table, fingerprint)| {
        let Ok(is_written) = grant(draft, table, fingerprint, lease, now_ns);
        is_written
    })
}

/// Of the limiter's clock.
pub(super) fn nanos(since: Duration) -> u64 {
    u64::try_from(since.as_nanos()).unwrap_or(u64::MAX)
}
