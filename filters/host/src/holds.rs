//! What requests under way have taken, and how it is settled with what they turn out to use.
//!
//! Kept by thread and stream, not in the stream's own context: a request that waits for memory is decided in a tick.

use std::cell::RefCell;
use std::collections::HashMap;
use std::rc::Rc;

use kilocard_policy::limit::estimate::{Asked, Known, Seen, Usage};
use kilocard_policy::limit::frames::Frames;
use kilocard_policy::limit::learned::Learned;
use kilocard_policy::limit::memory::{Claim, Memory};
use kilocard_policy::limit::{Charge, Cost, CostModel, Fingerprint, Moment, Receipt, Settlement, settle};

use crate::abi::{self, HostError};
use crate::limits::SharedData;
use crate::root::Active;

/// So many tokens more than reserved, and the overrun is taken at once.
const STEP_TOKENS: u64 = 64;
/// Versions of which a thread learns.
const MAX_VERSIONS: usize = 512;
/// How often to try to change a value that other threads change too.
const TRIES: usize = 16;

thread_local! {
    static HOLDS: RefCell<HashMap<u32, Hold>> = RefCell::default();
    /// Claims that could not be given back yet.
    static UNRELEASED: RefCell<Vec<(String, Claim)>> = RefCell::default();
    static LEARNED: RefCell<HashMap<String, Version>> = RefCell::default();
}

/// What the requests of a version turned out to need.
#[derive(Default)]
struct Version {
    prompt: Learned,
    output: Learned,
    gpu_ms: Learned,
}

/// What one request has taken.
pub(crate) struct Hold {
    pub(crate) active: Rc<Active>,
    /// `<model>/<version>`.
    pub(crate) route: String,
    pub(crate) model: CostModel,
    pub(crate) asked: Asked,
    /// By the position of the policy; where from.
    pub(crate) charges: Vec<(usize, Fingerprint, Receipt)>,
    pub(crate) taken: Cost,
    pub(crate) claim: Option<Claim>,
    pub(crate) began_ns: u64,
    pub(crate) seen: Seen,
    /// Of a gRPC answer, where in its messages it is.
    pub(crate) frames: Option<Frames>,
    /// Whether the worker has ended it: what a client cuts short tells nothing of what requests take.
    pub(crate) is_whole: bool,
}

/// What is known of the requests of a version; of output, what so many of 100 did not exceed.
pub(crate) fn known(route: &str, output_percent: u32) -> Known {
    LEARNED.with_borrow(|all| {
        let version = all.get(route);
        let of =
            |learned: fn(&Version) -> &Learned, percent| version.and_then(|version| learned(version).quantile(percent));
        Known {
            prompt_tokens: of(|version| &version.prompt, 50),
            output_tokens: of(|version| &version.output, output_percent),
            mean_output_tokens: version.and_then(|version| version.output.mean()),
            gpu_ms: of(|version| &version.gpu_ms, 95),
        }
    })
}

/// Keeps what a request has taken until it ends.
pub(crate) fn keep(stream: u32, hold: Hold) {
    HOLDS.with_borrow_mut(|holds| holds.insert(stream, hold));
}

/// Bytes of the request have passed.
pub(crate) fn sent(stream: u32, bytes: usize) {
    HOLDS.with_borrow_mut(|holds| {
        if let Some(hold) = holds.get_mut(&stream) {
            hold.seen.request_bytes = hold.seen.request_bytes.saturating_add(bytes as u64);
            hold.step();
        }
    });
}

/// Bytes of the answer have passed. Of gRPC the messages in them count; what other protocols call a message is not known, so
/// there each piece is one.
pub(crate) fn received(stream: u32, size: usize) {
    HOLDS.with_borrow_mut(|holds| {
        if let Some(hold) = holds.get_mut(&stream) {
            let read = |at, wanted| abi::response_body(at, wanted).unwrap_or_default();
            let messages = hold.frames.as_mut().map_or(1, |frames| frames.pass(size, read));
            hold.seen.messages = hold.seen.messages.saturating_add(messages);
            hold.step();
        }
    });
}

/// The worker says what the request has used.
pub(crate) fn used(stream: u32, usage: Usage) {
    HOLDS.with_borrow_mut(|holds| {
        if let Some(hold) = holds.get_mut(&stream) {
            hold.seen.usage = Some(usage);
        }
    });
}

/// The worker has ended its answer.
pub(crate) fn completed(stream: u32) {
    HOLDS.with_borrow_mut(|holds| {
        if let Some(hold) = holds.get_mut(&stream) {
            hold.is_whole = true;
        }
    });
}

/// Whether anything is kept of a request.
pub(crate) fn has(stream: u32) -> bool {
    HOLDS.with_borrow(|holds| holds.contains_key(&stream))
}

/// The request has ended, in whatever way.
pub(crate) fn end(stream: u32) {
    let hold = HOLDS.with_borrow_mut(|holds| holds.remove(&stream));
    if let Some(mut hold) = hold {
        hold.end();
    }
}

/// Says of the memory that this thread's requests hold that they still live, and takes the GPU time that they have had.
pub(crate) fn touch(holder: u64, now_ns: u64) -> Result<(), HostError> {
    HOLDS.with_borrow_mut(|holds| holds.values_mut().for_each(|hold| hold.take_time(now_ns)));
    let routes: std::collections::HashSet<String> = HOLDS.with_borrow(|holds| {
        let held = holds.values().filter(|hold| hold.claim.is_some());
        held.map(|hold| hold.route.clone()).collect()
    });
    for route in routes {
        change_memory(&route, |memory| memory.touch(holder, now_ns))?;
    }
    for (route, claim) in UNRELEASED.take() {
        release(&route, &claim, now_ns);
    }
    Ok(())
}

/// Gives back what a request had reserved. What other threads do not let be changed now is given back with a later tick.
pub(crate) fn release(route: &str, claim: &Claim, now_ns: u64) {
    let done = change_memory(route, |memory| memory.release(claim, now_ns));
    if !matches!(done, Ok(Some(()))) {
        UNRELEASED.with_borrow_mut(|all| all.push((route.to_owned(), *claim)));
    }
}

/// Whether the control plane has told of the memory of a version, or anything is held of it.
pub(crate) fn knows(route: &str) -> Result<bool, HostError> {
    Ok(!abi::shared_data(&memory_of(route))?.0.is_empty())
}

fn memory_of(route: &str) -> String {
    format!("kilocard.memory.{route}")
}

/// Changes what is known of the memory of a version; `change` may be asked more than once.
pub(crate) fn change_memory<T>(route: &str, mut change: impl FnMut(&mut Memory) -> T) -> Result<Option<T>, HostError> {
    let name = memory_of(route);
    for _ in 0..TRIES {
        let (bytes, generation) = abi::shared_data(&name)?;
        let mut memory = Memory::from_bytes(&bytes);
        let done = change(&mut memory);
        if abi::swap_shared_data(&name, &memory.to_bytes(), generation)? {
            return Ok(Some(done));
        }
    }
    Ok(None)
}

impl Hold {
    /// Takes an overrun as soon as it is large enough.
    fn step(&mut self) {
        let used = self.model.used(self.asked, &self.seen);
        if used.tokens >= self.taken.tokens.saturating_add(STEP_TOKENS) {
            let now = Cost {
                tokens: used.tokens,
                ..self.taken
            };
            self.settle(now);
        }
        self.grow(used.tokens);
    }

    /// Holds the memory that the request turns out to need, as soon as that is enough more than what it holds.
    fn grow(&mut self, tokens: u64) {
        let Some(claim) = &mut self.claim else { return };
        let of = |tokens| self.model.bytes(tokens).unwrap_or_default();
        let (needed, step) = (of(tokens), of(STEP_TOKENS).saturating_sub(of(0)));
        if needed <= claim.bytes || needed - claim.bytes < step {
            return;
        }
        let Ok(now_ns) = abi::monotonic_ns() else { return };
        let mut grown = *claim;
        let done = change_memory(&self.route, |memory| {
            grown = *claim;
            memory.grow(&mut grown, needed, now_ns);
        });
        // What others were quicker to change is tried again with the next step.
        if let Ok(Some(())) = done {
            *claim = grown;
        }
    }

    /// Takes the time that has passed beyond what was reserved.
    fn take_time(&mut self, now_ns: u64) {
        self.seen.elapsed_ms = now_ns.saturating_sub(self.began_ns) / 1_000_000;
        let used = self.model.used(self.asked, &self.seen);
        if used.gpu_ms > self.taken.gpu_ms {
            let now = Cost {
                gpu_ms: used.gpu_ms,
                ..self.taken
            };
            self.settle(now);
        }
    }

    fn settle(&mut self, used: Cost) {
        let settlement = Settlement::between(self.taken, used);
        self.taken = used;
        if settlement.is_even() || self.charges.is_empty() {
            return;
        }
        let Ok(now_ns) = abi::monotonic_ns() else { return };
        let Ok(at) = self.active.limits.moment(&self.active.policy, now_ns) else {
            return;
        };
        self.each_charge(settlement, at);
    }

    fn each_charge(&self, settlement: Settlement, at: Moment) {
        let tables = self.active.policy.rate_limits();
        for (position, key, receipt) in &self.charges {
            if let Some(table) = tables.get(*position) {
                let charge = Charge {
                    table,
                    key: *key,
                    cost: self.taken,
                };
                // What a host call loses here stays as it was taken, and is full again with time.
                let _ = settle(&SharedData, (&charge, *receipt), settlement, at);
            }
        }
    }

    fn end(&mut self) {
        let now_ns = abi::monotonic_ns().unwrap_or(self.began_ns);
        self.seen.elapsed_ms = now_ns.saturating_sub(self.began_ns) / 1_000_000;
        let used = self.model.used(self.asked, &self.seen);
        self.settle(used);
        if let Some(claim) = &self.claim {
            release(&self.route, claim, now_ns);
        }
        self.learn(used);
    }

    fn learn(&self, used: Cost) {
        // Of one that came to nothing, or not to its end, nothing can be learnt.
        if !self.is_whole || self.seen.messages == 0 && self.seen.usage.is_none() {
            return;
        }
        let output = self.model.output(&self.seen);
        LEARNED.with_borrow_mut(|all| {
            if all.len() >= MAX_VERSIONS && !all.contains_key(&self.route) {
                return;
            }
            let version = all.entry(self.route.clone()).or_default();
            version.prompt.note(used.tokens.saturating_sub(output));
            version.output.note(output);
            version.gpu_ms.note(used.gpu_ms);
        });
    }
}
