//! Whether a failed attempt may be made again, and whether one that is slow may be made twice.
//!
//! Retries are a part of what is asked for anyway, over the last ten seconds (Finagle's `RetryBudget`): when everything
//! fails, the load grows by that part and no more.

use std::time::Duration;

mod budget;

pub use budget::{BUDGET_BYTES, Budget};

/// The constants.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct Settings {
    /// Retries for each first attempt.
    pub ratio: f64,
    /// Retries in ten seconds that are allowed however few first attempts there are.
    pub floor: u32,
    /// Retries in ten seconds that are allowed at most, hedges included.
    pub cap: u32,
    /// Attempts of one request, the first included.
    pub most_attempts: u32,
    /// When a second attempt is made beside the first; never, as it comes.
    pub hedge: Option<Hedge>,
}

impl Default for Settings {
    fn default() -> Self {
        Self {
            ratio: 0.1,
            floor: 3,
            cap: 1000,
            most_attempts: 2,
            hedge: None,
        }
    }
}

/// When hedging is done (Dean & Barroso, "The Tail at Scale", 2013).
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct Hedge {
    /// Not above this saturation of the pool: a hedge doubles the prefill.
    pub below: f64,
}

/// How an attempt failed.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Failure {
    /// No connection, or one that was reset: the request may not even have arrived.
    Connection,
    /// No message came in time.
    FirstMessage,
    /// It was answered with this gRPC status.
    Status(u32),
}

/// A failed attempt.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Attempt {
    /// How it failed.
    pub failure: Failure,
    /// Whether a message of the answer has been passed on.
    pub has_begun: bool,
    /// Attempts so far, this one included.
    pub attempts: u32,
    /// What the client has left; nothing, if it set no deadline.
    pub remaining: Option<Duration>,
    /// The median time to a first message, where it is known: with less time left, another attempt is in vain.
    pub usual: Option<Duration>,
}

/// Whether an attempt is made again.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Decision {
    /// It is; the budget has been charged.
    Retry,
    /// It is not.
    Give(Refusal),
}

/// Why an attempt is not made again.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Refusal {
    /// The client has seen a message.
    HasBegun,
    /// RESOURCE_EXHAUSTED: more of the same would not help.
    ResourceExhausted,
    /// Another attempt would end the same way.
    NotRetryable,
    /// There were enough of them.
    Attempts,
    /// The client's deadline would be over.
    Deadline,
    /// The budget is used up.
    Budget,
}

impl Refusal {
    /// A stable name.
    pub fn label(self) -> &'static str {
        match self {
            Self::HasBegun => "first-message-seen",
            Self::ResourceExhausted => "resource-exhausted",
            Self::NotRetryable => "not-retryable",
            Self::Attempts => "attempts",
            Self::Deadline => "deadline",
            Self::Budget => "budget",
        }
    }
}

/// gRPC's RESOURCE_EXHAUSTED and UNAVAILABLE.
const RESOURCE_EXHAUSTED: u32 = 8;
const UNAVAILABLE: u32 = 14;

impl Settings {
    /// Decides on a failed attempt, and charges the budget for a retry.
    pub fn decide(&self, attempt: &Attempt, budget: &mut Budget, now: Duration) -> Decision {
        let refusal = match attempt.failure {
            _ if attempt.has_begun => Some(Refusal::HasBegun),
            Failure::Status(RESOURCE_EXHAUSTED) => Some(Refusal::ResourceExhausted),
            Failure::Status(status) if status != UNAVAILABLE => Some(Refusal::NotRetryable),
            _ if attempt.attempts >= self.most_attempts => Some(Refusal::Attempts),
            _ if is_too_late(attempt.remaining, attempt.usual) => Some(Refusal::Deadline),
            _ if !budget.take(now, self) => Some(Refusal::Budget),
            _ => None,
        };
        refusal.map_or(Decision::Retry, Decision::Give)
    }

    /// Whether a second attempt is to be made of one that has lasted for `elapsed` without a message, where 95 % have their
    /// first one within `p95`. Only of what may be done twice. The budget is charged.
    pub fn hedges(&self, request: &Hedged, budget: &mut Budget, now: Duration) -> bool {
        self.hedge.is_some_and(|hedge| {
            request.is_idempotent
                && !request.has_begun
                && request.attempts < self.most_attempts
                && request.elapsed >= request.p95
                && request.saturation < hedge.below
                && !is_too_late(request.remaining, Some(request.p95 / 2))
                && budget.take(now, self)
        })
    }
}

/// A request in flight that might be hedged.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct Hedged {
    /// Whether doing it twice does no harm.
    pub is_idempotent: bool,
    /// Whether a message of the answer has come.
    pub has_begun: bool,
    /// Attempts so far.
    pub attempts: u32,
    /// How long the first one has lasted.
    pub elapsed: Duration,
    /// Within which 95 % have their first message.
    pub p95: Duration,
    /// Saturation of the pool, 0 … 1.
    pub saturation: f64,
    /// What the client has left.
    pub remaining: Option<Duration>,
}

fn is_too_late(remaining: Option<Duration>, usual: Option<Duration>) -> bool {
    remaining.is_some_and(|remaining| remaining.is_zero() || usual.is_some_and(|usual| remaining < usual))
}

#[cfg(test)]
mod tests;
