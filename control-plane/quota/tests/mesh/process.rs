//! A proxy as the contract has it, with threads that take answers over at different times.

use kilocard_quota::{Grant, Report, Share};
use std::collections::{BTreeMap, HashMap, VecDeque};
use std::sync::Arc;
use std::time::Duration;

pub(crate) const THREADS: usize = 2;

/// An answer as the process received it.
#[derive(Clone, Debug)]
struct Answer {
    grant: Arc<Grant>,
    sent: Duration,
    received: Duration,
}

#[derive(Clone, Debug)]
struct Lease {
    share: u32,
    above_until: Duration,
    binds_until: Duration,
}

#[derive(Debug, Default)]
struct Thread {
    base: u32,
    acknowledged: Option<u64>,
    leases: HashMap<Arc<str>, Lease>,
    inbox: VecDeque<Answer>,
}

impl Thread {
    fn share(&self, key: &str, now: Duration) -> u32 {
        match self.leases.get(key) {
            Some(lease) if now < lease.above_until => lease.share,
            Some(lease) if now < lease.binds_until => lease.share.min(self.base),
            _ => self.base,
        }
    }
}

#[derive(Debug)]
pub(crate) struct Process {
    pub(crate) name: String,
    pub(crate) node: String,
    threads: [Thread; THREADS],
    /// The call whose answer is taken, and the last that was made.
    pub(crate) call: Option<u64>,
    pub(crate) last_call: Option<u64>,
    pub(crate) is_cut_off: bool,
    /// By key, in parts per million of the limit.
    pub(crate) demands: BTreeMap<Arc<str>, u32>,
}

impl Process {
    pub(crate) fn new(name: String, node: String) -> Self {
        Self {
            name,
            node,
            threads: Default::default(),
            call: None,
            last_call: None,
            is_cut_off: false,
            demands: BTreeMap::new(),
        }
    }

    /// The most that any thread may be using.
    pub(crate) fn share(&self, key: &str, now: Duration) -> u32 {
        self.threads
            .iter()
            .map(|thread| thread.share(key, now))
            .max()
            .unwrap_or(0)
    }

    pub(crate) fn report(&self, leaving: bool) -> Report {
        let bases = self.threads.iter().flat_map(|thread| {
            let coming = thread.inbox.iter().map(|answer| answer.grant.base.parts());
            coming.chain([thread.base])
        });
        let demands = self.demands.iter().filter(|(_, parts)| **parts > 0);
        Report {
            proxy: self.name.clone(),
            node: self.node.clone(),
            acknowledged: self
                .threads
                .iter()
                .map(|thread| thread.acknowledged)
                .min()
                .unwrap_or_default(),
            base: Share::from_parts(bases.max().unwrap_or(0)),
            leaving,
            demands: demands
                .map(|(key, parts)| kilocard_quota::Demand {
                    key: Arc::clone(key),
                    parts: *parts,
                })
                .collect(),
        }
    }

    /// Takes the answer to a call; the threads follow by [`apply`](Self::apply), one by one.
    pub(crate) fn receive(&mut self, grant: Grant, sent: Duration, received: Duration) {
        self.call = None;
        let grant = Arc::new(grant);
        for thread in &mut self.threads {
            thread.inbox.push_back(Answer {
                grant: Arc::clone(&grant),
                sent,
                received,
            });
        }
    }

    pub(crate) fn apply(&mut self, thread: usize) {
        let thread = &mut self.threads[thread];
        let Some(Answer { grant, sent, received }) = thread.inbox.pop_front() else {
            return;
        };
        thread.base = grant.base.parts();
        thread.acknowledged = Some(grant.sequence);
        for lease in &grant.leases {
            thread.leases.insert(
                Arc::clone(&lease.key),
                Lease {
                    share: lease.share.parts(),
                    above_until: sent + grant.ttl,
                    binds_until: received + 2 * grant.ttl,
                },
            );
        }
    }
}
