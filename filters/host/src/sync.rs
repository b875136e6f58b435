//! The channel to the control plane: what is asked of the limits that all proxies share goes up, shares of them come down.
//!
//! Every thread notes what its requests ask for and adds it, with each tick, to a value that all threads share. One of
//! them, elected in shared data, reports for the process; when it is gone, another takes over. Leases go into the entries of
//! their keys, where each request finds them; the base share, which holds for all other keys, into a value of its own.

use std::cell::RefCell;
use std::collections::{HashMap, VecDeque};
use std::time::Duration;

use kilocard_policy::Policy;
use kilocard_policy::limit::memory::{Headroom, Memory};
use kilocard_policy::limit::set::Lease;
use kilocard_policy::limit::{Charge, Demands, Subject, gcra, grant, key};
use kilocard_proto::kilocard::sync::v1::{self as wire, ExchangeRequest, ExchangeResponse};
use prost::Message;
use proxy_wasm::hostcalls;

use crate::abi::{self, HostError, Level};
use crate::holds;
use crate::limits::SharedData;
use crate::shared::swap;

/// How often a thread adds its part and looks whether a report is due.
const TICK_NS: u64 = 95_000_000;
/// Where the demand of all threads is.
const DEMAND: &str = "kilocard.sync.demand";
/// Who reports, and since when not.
const REPORTER: &str = "kilocard.sync.reporter";
/// The base share of the process; not there before the first answer.
const BASE: &str = "kilocard.sync.base";
/// A reporter that has not been seen for so long is gone. Ticks of a busy thread were seen to be late by 0.6 s.
const REPORTER_GONE_NS: u64 = 2_000_000_000;
/// For so long a thread goes by the base share that it has read.
const BASE_FRESH_NS: u64 = 250_000_000;
/// So long after a base share was written, all threads go by it. What is acknowledged has to be true.
const IN_FORCE_NS: u64 = BASE_FRESH_NS + 50_000_000;
/// How long an answer may take.
const TIMEOUT: Duration = Duration::from_secs(1);
/// After the first failure a report is tried again after so long, then after twice that, and so on up to the last.
const BACKOFF_NS: std::ops::RangeInclusive<u64> = 100_000_000..=5_000_000_000;
/// gRPC's status of a report that is not understood.
const INVALID_ARGUMENT: u32 = 3;
/// Between two reports where the control plane says nothing.
const INTERVAL_NS: u64 = 500_000_000;

thread_local! {
    /// Of the thread, not of a root context: each new configuration makes a new one of those in the same VM.
    static CHANNEL: RefCell<Channel> = RefCell::default();
}

/// What one thread keeps.
#[derive(Default)]
struct Channel {
    /// Random, of this VM; 0 before the first tick.
    id: u64,
    /// When the next tick counts.
    ticks_ns: u64,
    /// Since the last tick.
    demands: Demands,
    /// The base share and when it was read.
    base: Option<(u32, u64)>,
    /// Whether Envoy knows no cluster of that name.
    is_unconnected: bool,
    reporter: Reporter,
}

/// What the thread keeps that reports.
#[derive(Default)]
struct Reporter {
    /// Taken from all threads, and not yet reported.
    demands: Demands,
    /// Since when.
    since_ns: u64,
    /// The call under way, and when it was made.
    call: Option<(u32, u64)>,
    due_ns: u64,
    backoff_ns: u64,
    /// Answers that are written and not yet in force everywhere: their number, and when they will be.
    pending: VecDeque<(u64, u64)>,
    acknowledged: Option<u64>,
    /// The versions whose memory the control plane has told of.
    versions: Vec<String>,
    /// What was granted and still binds, by policy and key.
    held: HashMap<(String, String), Lease>,
    /// What was granted and could not be written. Until it is, nothing more is acknowledged.
    unwritten: Vec<(wire::Lease, Lease)>,
}

/// Notes what a request asks for.
pub(crate) fn ask(charge: &Charge<'_>, subject: &Subject<'_>) {
    CHANNEL.with_borrow_mut(|channel| channel.demands.ask(charge, subject));
}

/// This proxy's part of the limits of the whole mesh, for keys without a lease. All, where there is no channel; none, before
/// the control plane has answered for the first time.
pub(crate) fn base_share(now_ns: u64) -> Result<u32, HostError> {
    CHANNEL.with_borrow_mut(|channel| {
        if channel.is_unconnected {
            return Ok(gcra::WHOLE);
        }
        match channel.base {
            Some((share, read_ns)) if now_ns.saturating_sub(read_ns) < BASE_FRESH_NS => Ok(share),
            _ => {
                let (bytes, _) = abi::shared_data(BASE)?;
                let share = bytes.as_slice().try_into().map_or(0, u32::from_le_bytes);
                channel.base = Some((share, now_ns));
                Ok(share)
            }
        }
    })
}

/// What is due now: adds this thread's demand to all threads', and reports if it is this one's turn.
pub(crate) fn tick(cluster: &str, seed: u64, id: u64) {
    let done = CHANNEL.with_borrow_mut(|channel| {
        if channel.id == 0 {
            channel.id = id.max(1);
        }
        channel.tick(cluster, seed)
    });
    if let Err(failure) = done {
        abi::log(Level::Warn, &format!("the channel to the control plane: {failure}"));
    }
}

/// An answer to a report, or that there is none.
pub(crate) fn answered(call: u32, status: u32, size: usize, (policy, seed): (&Policy, u64)) {
    let body = if status == 0 {
        abi::grpc_message(size).ok()
    } else {
        None
    };
    let done = CHANNEL.with_borrow_mut(|channel| channel.answered((call, status), body.as_deref(), (policy, seed)));
    if let Err(failure) = done {
        abi::log(Level::Warn, &format!("the channel to the control plane: {failure}"));
    }
}

impl Channel {
    fn tick(&mut self, cluster: &str, seed: u64) -> Result<(), HostError> {
        let now = abi::monotonic_ns()?;
        if now < self.ticks_ns {
            return Ok(());
        }
        self.ticks_ns = now + TICK_NS;
        if !self.demands.is_empty() {
            let mine = std::mem::take(&mut self.demands);
            swap(DEMAND, |bytes| {
                let mut all = Demands::from_bytes(&bytes);
                all.merge(mine.clone());
                Some(all.to_bytes())
            })?;
        }
        if !self.is_unconnected && self.reports(now)? {
            self.report(cluster, seed, now)?;
        }
        Ok(())
    }

    /// Whether this thread is the one that reports.
    fn reports(&self, now: u64) -> Result<bool, HostError> {
        let mine = [self.id.to_le_bytes(), now.to_le_bytes()].concat();
        swap(REPORTER, |bytes| {
            let mut numbers = bytes.chunks_exact(8).filter_map(|bytes| bytes.try_into().ok());
            let (id, seen) = (
                numbers.next().map(u64::from_le_bytes),
                numbers.next().map(u64::from_le_bytes),
            );
            let is_mine = id == Some(self.id);
            let is_gone = seen.is_none_or(|seen| now.saturating_sub(seen) > REPORTER_GONE_NS);
            (is_mine || is_gone).then(|| mine.clone())
        })
    }

    fn report(&mut self, cluster: &str, seed: u64, now: u64) -> Result<(), HostError> {
        let reporter = &mut self.reporter;
        if reporter
            .call
            .is_some_and(|(_, sent)| now.saturating_sub(sent) < 2 * TIMEOUT.as_nanos() as u64)
            || now < reporter.due_ns
        {
            return Ok(());
        }
        let mut taken = Vec::new();
        swap(DEMAND, |bytes| {
            taken = bytes;
            (!taken.is_empty()).then(Vec::new)
        })?;
        reporter.demands.merge(Demands::from_bytes(&taken));
        let (base, _) = abi::shared_data(BASE)?;
        let base = base.as_slice().try_into().map_or(0, u32::from_le_bytes);
        let request = reporter.request(base, seed, now);
        let sent = hostcalls::dispatch_grpc_call(
            cluster,
            "kilocard.sync.v1.MeshSync",
            "Exchange",
            Vec::new(),
            Some(&request.encode_to_vec()),
            TIMEOUT,
        );
        match sent {
            Ok(call) => reporter.call = Some((call, now)),
            Err(_) => {
                // Nothing but another configuration of Envoy helps.
                self.is_unconnected = true;
                swap(BASE, |_| Some(gcra::WHOLE.to_le_bytes().to_vec()))?;
                let line = format!(
                    "Envoy has no cluster {cluster} to reach the control plane by: each proxy has the limits of the whole \
                     mesh for itself"
                );
                abi::log(Level::Error, &line);
            }
        }
        Ok(())
    }

    fn answered(
        &mut self,
        (call, status): (u32, u32),
        body: Option<&[u8]>,
        (policy, seed): (&Policy, u64),
    ) -> Result<(), HostError> {
        let now = abi::monotonic_ns()?;
        let reporter = &mut self.reporter;
        let Some((_, sent)) = reporter.call.filter(|(pending, _)| *pending == call) else {
            return Ok(());
        };
        reporter.call = None;
        let response = body.and_then(|body| ExchangeResponse::decode(body).ok());
        let Some(response) = response else {
            reporter.fail(now, status);
            return Ok(());
        };
        reporter.backoff_ns = 0;
        reporter.demands = Demands::default();
        reporter.since_ns = sent;
        reporter.due_ns = sent + u64::from(response.next_report_ms.clamp(50, 10_000)) * 1_000_000;
        let share = response.base_share.min(gcra::WHOLE);
        let mut is_whole = swap(BASE, |_| Some(share.to_le_bytes().to_vec()))?;
        let ttl_ns = u64::from(response.ttl_ms) * 1_000_000;
        let mut leases = std::mem::take(&mut reporter.unwritten);
        leases.extend(response.leases.into_iter().map(|lease| {
            let term = Lease {
                share: lease.share.min(gcra::WHOLE),
                until_ns: sent.saturating_add(ttl_ns),
                binds_until_ns: now.saturating_add(2 * ttl_ns),
            };
            (lease, term)
        }));
        for (lease, term) in leases {
            is_whole &= if lease.policy.is_empty() {
                holds::change_memory(&lease.key, |memory| memory.set_lease(term))?.is_some()
            } else {
                reporter.hold(lease, term, (policy, seed), now)?
            };
        }
        reporter.versions = response.memory.iter().map(|version| version.route.clone()).collect();
        for version in response.memory {
            learn_memory(&version, sent)?;
        }
        reporter.held.retain(|_, lease| lease.binds_until_ns > now);
        if is_whole {
            reporter.pending.push_back((response.sequence, now + IN_FORCE_NS));
        }
        Ok(())
    }
}

impl Reporter {
    fn request(&mut self, base_share: u32, seed: u64, now: u64) -> ExchangeRequest {
        while let Some((sequence, in_force)) = self.pending.front().copied()
            && in_force <= now
        {
            self.acknowledged = self.acknowledged.max(Some(sequence));
            self.pending.pop_front();
        }
        let elapsed = if self.since_ns == 0 {
            INTERVAL_NS
        } else {
            now - self.since_ns.min(now)
        };
        let is_held = |policy: &str, key: &str| self.held.contains_key(&(policy.to_owned(), key.to_owned()));
        let demands = self.demands.rates(elapsed.max(1));
        let demands = demands.filter(|(policy, key, parts)| *parts > base_share / 2 || is_held(policy, key));
        let demands = demands.map(|(policy, key, parts)| wire::Demand {
            policy: policy.to_owned(),
            key: key.to_owned(),
            parts_per_million: parts,
        });
        let mut demands: Vec<_> = demands.collect();
        for route in &self.versions {
            // What cannot be read is not reported, and so not raised.
            if let Ok(Some(parts)) = holds::change_memory(route, Memory::take_demand) {
                demands.push(wire::Demand {
                    policy: String::new(),
                    key: route.clone(),
                    parts_per_million: parts,
                });
            }
        }
        ExchangeRequest {
            proxy: format!("{seed:016x}"),
            node: node(),
            acknowledged: self.acknowledged,
            base_share,
            demands,
        }
    }

    /// Writes a lease to its key; false if it is not in force then.
    fn hold(
        &mut self,
        lease: wire::Lease,
        term: Lease,
        (policy, seed): (&Policy, u64),
        now: u64,
    ) -> Result<bool, HostError> {
        // A policy that this thread does not know may be known to another one already, or soon.
        let table = policy.rate_limits().iter().find(|table| table.name() == lease.policy);
        let key = table.and_then(|table| Some((table, key::parse(&lease.key, table.by(), seed)?)));
        let is_written = match key {
            Some((table, key)) => grant(&SharedData, table, key, term, now)?,
            None => false,
        };
        if is_written {
            self.held.insert((lease.policy, lease.key), term);
        } else if term.binds_until_ns > now {
            self.unwritten.push((lease, term));
        }
        Ok(is_written)
    }

    fn fail(&mut self, now: u64, status: u32) {
        if status == INVALID_ARGUMENT {
            // What was reported will be no better the next time.
            self.demands = Demands::default();
        }
        let (least, most) = BACKOFF_NS.into_inner();
        if self.backoff_ns == 0 {
            abi::log(
                Level::Warn,
                &format!("the control plane did not take a report: gRPC status {status}"),
            );
        }
        self.backoff_ns = (self.backoff_ns * 2).clamp(least, most);
        // Proxies that lost the control plane at the same moment shall not come back at the same moment.
        let jitter = now % (self.backoff_ns / 4).max(1);
        self.due_ns = now + self.backoff_ns + jitter;
    }
}

/// What the control plane says of the memory of a version.
fn learn_memory(version: &wire::VersionMemory, sent_ns: u64) -> Result<(), HostError> {
    let headroom = Headroom {
        capacity: version.capacity_bytes,
        free: version.free_bytes,
        largest_free: version.largest_free_bytes,
        endpoints: version.endpoints.into(),
        // No later than it was: what was reserved since counts in full.
        measured_ns: sent_ns.saturating_sub(u64::from(version.age_ms) * 1_000_000),
    };
    holds::change_memory(&version.route, |memory| memory.set_headroom(headroom)).map(drop)
}

/// The proxy's node id.
fn node() -> String {
    let id = abi::property("xds\0node\0id").ok().flatten();
    id.and_then(|bytes| String::from_utf8(bytes).ok()).unwrap_or_default()
}
