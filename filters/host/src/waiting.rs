//! Requests that wait a moment for GPU memory: a tick or two. The real queue is the worker's.

use std::cell::RefCell;
use std::collections::HashMap;
use std::rc::Rc;
use std::time::Duration;

use crate::abi;
use crate::holds;
use crate::root::{Active, vm};
use crate::stream::Done;

/// How often those that wait are looked at.
pub(crate) const TICK: Duration = Duration::from_millis(20);
/// Most requests that wait in one thread; others are refused at once.
const MOST: usize = 256;
/// How often to say that what is held is still held.
const TOUCH_NS: u64 = 1_000_000_000;

thread_local! {
    static WAITING: RefCell<Vec<Waiting>> = RefCell::default();
    /// The records of those that waited and went on, for the headers of their responses.
    static RECORDS: RefCell<HashMap<u32, String>> = RefCell::default();
    static TOUCHED: RefCell<u64> = const { RefCell::new(0) };
}

struct Waiting {
    stream: u32,
    active: Rc<Active>,
    since_ns: u64,
}

/// Lets a request wait.
pub(crate) fn add(stream: u32, active: Rc<Active>) {
    let since_ns = abi::monotonic_ns().unwrap_or_default();
    let waiting = Waiting {
        stream,
        active,
        since_ns,
    };
    WAITING.with_borrow_mut(|all| all.push(waiting));
}

/// Whether any request waits, be it under an earlier configuration.
pub(crate) fn has_any() -> bool {
    WAITING.with_borrow(|all| !all.is_empty())
}

/// A request has ended: it waits no more.
pub(crate) fn forget(stream: u32) {
    WAITING.with_borrow_mut(|all| all.retain(|waiting| waiting.stream != stream));
    RECORDS.with_borrow_mut(|records| records.remove(&stream));
}

/// The record of a request that waited.
pub(crate) fn take_record(stream: u32) -> Option<String> {
    RECORDS.with_borrow_mut(|records| records.remove(&stream))
}

/// Decides anew those that wait, the one that came first first.
pub(crate) fn tick() {
    let Ok(now) = abi::monotonic_ns() else { return };
    let last = TOUCHED.with_borrow(|last| *last);
    if now.saturating_sub(last) >= TOUCH_NS {
        TOUCHED.with_borrow_mut(|last| *last = now);
        let _ = holds::touch(vm(), now);
    }
    let all = WAITING.with_borrow_mut(std::mem::take);
    for (place, waiting) in all.into_iter().enumerate() {
        let waited = now.saturating_sub(waiting.since_ns);
        let longest = u64::try_from(waiting.active.longest_wait().as_nanos()).unwrap_or(u64::MAX);
        let may_wait = place < MOST && waited < longest;
        if abi::set_effective_context(waiting.stream).is_err() {
            continue;
        }
        match waiting.active.process(waiting.stream, may_wait) {
            Ok(Done::Waits) => WAITING.with_borrow_mut(|all| all.push(waiting)),
            Ok(Done::Forwarded(record)) => {
                if let Some(record) = record.filter(|_| waiting.active.policy.shows_record()) {
                    RECORDS.with_borrow_mut(|records| records.insert(waiting.stream, record));
                }
                let _ = abi::resume_request();
            }
            Ok(Done::Answered) => {}
            Err(failure) => {
                if waiting.active.fail(&failure) == proxy_wasm::types::Action::Continue {
                    let _ = abi::resume_request();
                }
            }
        }
    }
}
