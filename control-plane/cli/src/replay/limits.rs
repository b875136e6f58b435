//! Captured requests at their limits, by two policies: whom these limits refuse, now and then.

use kilocard_policy::capture::Captured;
use kilocard_policy::limit::rehearsal::{Recorded, Rehearsal};
use kilocard_policy::{Decision, Policy, Stages};
use std::cmp::Reverse;
use std::collections::BinaryHeap;
use std::time::Duration;

mod report;

pub(super) use report::LimitsReport;

/// Most requests that are held to be brought in order. An access log has them in the order in which they ended, and what
/// waits here takes some hundred bytes.
const HELD: usize = 1 << 17;

/// Both policies' limits, and the requests whose turn has not come.
#[derive(Debug)]
pub(super) struct Limits<'p> {
    old: Rehearsal<'p>,
    new: Rehearsal<'p>,
    held: BinaryHeap<Reverse<Held>>,
    now: Duration,
    report: LimitsReport,
}

/// A request, by its time and then by its place.
#[derive(Debug)]
struct Held {
    order: (Duration, u64),
    sample: u32,
    old: Option<Recorded>,
    new: Option<Recorded>,
}

impl PartialEq for Held {
    fn eq(&self, other: &Self) -> bool {
        self.order == other.order
    }
}

impl Eq for Held {}

impl PartialOrd for Held {
    fn partial_cmp(&self, other: &Self) -> Option<std::cmp::Ordering> {
        Some(self.cmp(other))
    }
}

impl Ord for Held {
    fn cmp(&self, other: &Self) -> std::cmp::Ordering {
        self.order.cmp(&other.order)
    }
}

impl<'p> Limits<'p> {
    /// Of these policies; `None` if neither limits anything.
    pub(super) fn of(old: &'p Policy, new: &'p Policy) -> Option<Self> {
        let (old, new) = (Rehearsal::of(old), Rehearsal::of(new));
        (!old.is_empty() || !new.is_empty()).then(|| Self {
            old,
            new,
            held: BinaryHeap::new(),
            now: Duration::ZERO,
            report: LimitsReport::default(),
        })
    }

    /// Adds a request, with what each policy decided of it before limits were looked at.
    pub(super) fn add(&mut self, captured: &Captured, old: &Decision<'_>, new: &Decision<'_>) {
        if !captured.stages().contains(Stages::LIMITS) {
            self.report.elsewhere += 1;
            return;
        }
        let Some(time) = captured.time() else {
            self.report.untimed += 1;
            return;
        };
        self.report.requests += 1;
        self.held.push(Reverse(Held {
            order: (time, self.report.requests),
            sample: captured.sample(),
            old: self.old.read(captured, old),
            new: self.new.read(captured, new),
        }));
        if self.held.len() > HELD {
            self.ask_first();
        }
    }

    /// Asks for all that is still held.
    pub(super) fn finish(mut self) -> LimitsReport {
        while !self.held.is_empty() {
            self.ask_first();
        }
        self.report
    }

    fn ask_first(&mut self) {
        let Some(Reverse(first)) = self.held.pop() else { return };
        let (time, _) = first.order;
        self.report.late += u64::from(time < self.now);
        self.now = self.now.max(time);
        self.report.at(self.now, first.sample);
        let now_ns = u64::try_from(self.now.as_nanos()).unwrap_or(u64::MAX);
        let ask = |rehearsal: &'_ Rehearsal<'p>, recorded: &Option<Recorded>| {
            let trial = recorded
                .as_ref()
                .map(|recorded| rehearsal.ask(recorded, now_ns, first.sample));
            trial.map(report::Met::of).unwrap_or_default()
        };
        let (old, new) = (ask(&self.old, &first.old), ask(&self.new, &first.new));
        self.report.asked(&old, &new);
    }
}
