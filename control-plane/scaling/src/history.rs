//! What was, over the last seconds.

use std::collections::VecDeque;
use std::time::Duration;

/// The least or the greatest of the values of a time span that ends now. Keeps only those that may still come to be it, so it
/// is as long as the values are uneven and not as the span.
#[derive(Clone, Debug)]
pub(crate) struct Extreme {
    /// Whether a value stands against an older one: the older can no longer be the extreme.
    beats: fn(u32, u32) -> bool,
    values: VecDeque<(Duration, u32)>,
}

impl Extreme {
    pub(crate) fn least() -> Self {
        Self {
            beats: |new, old| new <= old,
            values: VecDeque::new(),
        }
    }

    pub(crate) fn greatest() -> Self {
        Self {
            beats: |new, old| new >= old,
            values: VecDeque::new(),
        }
    }

    /// Takes in a value, and gives the extreme of those that are younger than `span`, this one in any case: without a span
    /// nothing else counts.
    pub(crate) fn push(&mut self, value: u32, at: Duration, span: Duration) -> u32 {
        let beats = self.beats;
        while self.values.back().is_some_and(|(_, old)| beats(value, *old)) {
            self.values.pop_back();
        }
        self.values.push_back((at, value));
        while self.values.len() > 1 && self.values.front().is_some_and(|(then, _)| *then + span <= at) {
            self.values.pop_front();
        }
        self.values.front().map_or(value, |(_, extreme)| *extreme)
    }
}

/// For how many replicas a pool has been asked, change by change.
#[derive(Clone, Debug)]
pub(crate) struct Changes {
    /// Before the first of the changes that are kept.
    before: u32,
    changes: VecDeque<(Duration, u32)>,
}

/// No period is longer (`period_s` of `ScalePolicy`).
const LONGEST_PERIOD: Duration = Duration::from_secs(1800);

impl Changes {
    pub(crate) fn new(replicas: u32) -> Self {
        Self {
            before: replicas,
            changes: VecDeque::new(),
        }
    }

    /// What is asked for now.
    pub(crate) fn current(&self) -> u32 {
        self.changes.back().map_or(self.before, |(_, replicas)| *replicas)
    }

    /// What was asked for when a period began that ends now.
    pub(crate) fn at_start(&self, now: Duration, period: Duration) -> u32 {
        let passed = self.changes.iter().take_while(|(at, _)| *at + period <= now);
        passed.last().map_or(self.before, |(_, replicas)| *replicas)
    }

    /// Something else is asked for from now on.
    pub(crate) fn push(&mut self, replicas: u32, at: Duration) {
        if replicas != self.current() {
            self.changes.push_back((at, replicas));
        }
        while let Some((then, replicas)) = self.changes.front()
            && *then + LONGEST_PERIOD <= at
        {
            self.before = *replicas;
            self.changes.pop_front();
        }
    }
}
