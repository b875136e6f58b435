//! What a client is told that asked for too much.

use std::borrow::Cow;
use std::time::Duration;

use super::gcra::Denied;
use super::key::{self, Subject};
use super::limiter::Obstacle;
use super::memory::Shortage;
use crate::config::RateLimit;
use crate::decision::{Finding, GrpcStatus, Reached, Refusal, RefusalReason};

/// Nobody should wait longer before asking again: other clients leave, and shares move.
const LONGEST_WAIT: Duration = Duration::from_secs(60);

/// The limit that a request met.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Limited<'p> {
    /// `metadata.name` of its policy.
    pub policy: &'p str,
    /// What it says.
    pub limit: RateLimit,
    /// Whose it is: `tenant=acme,model=minilm`; empty if it is everybody's.
    pub key: String,
    /// After how long it is worth trying again; never, if the request asks for more than can ever be had.
    pub retry_after: Option<Duration>,
    /// How much of the unit could still be had.
    pub remaining: u64,
    /// In how long all of the burst can be had again.
    pub full_in: Duration,
}

impl<'p> Limited<'p> {
    /// The obstacle that stands in this request's way.
    pub fn of(obstacle: &Obstacle<'p>, subject: &Subject<'_>) -> Option<Self> {
        let table = obstacle.table;
        let quota = table.limits().get(obstacle.limit)?;
        let retry_after = match obstacle.denied {
            Denied::For(ns) => Some(Duration::from_nanos(ns).min(LONGEST_WAIT)),
            Denied::Never => None,
        };
        Some(Self {
            policy: table.name(),
            limit: quota.limit,
            key: key::text(subject, table.by()),
            retry_after,
            remaining: obstacle.remaining / quota.cells(),
            full_in: Duration::from_nanos(obstacle.full_in_ns),
        })
    }

    /// `tenants.tokens`: the policy and the unit.
    pub fn label(&self) -> String {
        format!("{}.{}", self.policy, self.limit.unit)
    }

    /// What the limit allows, for people.
    fn allowance(&self) -> String {
        let whose = if self.key.is_empty() {
            String::new()
        } else {
            format!(" for {}", self.key)
        };
        format!("{}{whose}", self.limit)
    }

    fn message(&self) -> String {
        let allowance = self.allowance();
        match self.retry_after {
            Some(wait) => format!("{allowance}, are used up; try again in {} ms", millis(wait)),
            None => format!("asks for more than can ever be had: {allowance}; ask for less in one request"),
        }
    }

    /// What would be refused, of a policy that only counts.
    pub fn into_finding(self) -> Finding<'p> {
        Finding::new(self.reason(), &self.label(), self.message())
    }

    /// Refuses the request that had come so far.
    pub fn into_refusal(self, reached: Reached<'p>) -> Refusal<'p> {
        let status = match self.retry_after {
            Some(_) => GrpcStatus::ResourceExhausted,
            None => GrpcStatus::InvalidArgument,
        };
        let mut refusal = Refusal::new(status, self.reason(), &self.label(), self.message());
        refusal.reached = reached;
        refusal.retry_after = self.retry_after;
        refusal.limited = Some(Box::new(self));
        refusal
    }

    fn reason(&self) -> RefusalReason {
        match self.retry_after {
            Some(_) => RefusalReason::RateLimited,
            None => RefusalReason::CostAboveBurst,
        }
    }

    /// The value of `RateLimit-Policy` (draft-ietf-httpapi-ratelimit-headers-10, section 3): the whole quota and its window.
    pub fn policy_header(&self) -> String {
        let RateLimit { rate, per, .. } = self.limit;
        format!("{:?};q={rate};w={}", self.label(), per.seconds())
    }

    /// The value of `RateLimit` (the same, section 4): what is left, and when all will be there again.
    pub fn header(&self) -> String {
        let seconds = self.full_in.as_millis().div_ceil(1000);
        format!("{:?};r={};t={seconds}", self.label(), self.remaining)
    }

    /// What tells this quota's keys apart, as names and values.
    pub fn dimensions(&self) -> impl Iterator<Item = (Cow<'_, str>, Cow<'_, str>)> {
        let parts = self.key.split(',').filter_map(|part| part.split_once('='));
        parts.map(|(name, value)| (name.into(), value.into()))
    }
}

/// The value of `Retry-After` (RFC 9110, section 10.2.3): whole seconds.
pub fn retry_after_header(wait: Duration) -> String {
    wait.as_millis().div_ceil(1000).max(1).to_string()
}

/// The value of `grpc-retry-pushback-ms` (gRPC proposal A6, "Pushback").
pub fn pushback_header(wait: Duration) -> String {
    millis(wait).to_string()
}

/// In about such a time a worker has reported anew, and some of what runs has ended.
const MEMORY_RETURNS: Duration = Duration::from_millis(500);

/// Refuses a request for which there is no GPU memory.
pub fn of_memory<'p>(shortage: Shortage, bytes: u64, reached: Reached<'p>) -> Refusal<'p> {
    let version = format!("{}/{}", reached.model.unwrap_or("?"), reached.version.unwrap_or("?"));
    let needs = format!(
        "{version} needs {} MiB of GPU memory for this request",
        bytes.div_ceil(1 << 20)
    );
    let (status, reason, why) = match shortage {
        Shortage::Never => (
            GrpcStatus::InvalidArgument,
            RefusalReason::CostAboveMemory,
            "and has not so much on all its workers together; ask for less in one request",
        ),
        Shortage::Stale => (
            GrpcStatus::ResourceExhausted,
            RefusalReason::MemoryExhausted,
            "and no worker has said lately how much is free; try again later",
        ),
        Shortage::TooLarge => (
            GrpcStatus::ResourceExhausted,
            RefusalReason::MemoryExhausted,
            "and no single worker has so much free; try again later",
        ),
        Shortage::Full => (
            GrpcStatus::ResourceExhausted,
            RefusalReason::MemoryExhausted,
            "and what is free is less, or kept for more urgent requests; try again later",
        ),
        Shortage::Unfair => (
            GrpcStatus::ResourceExhausted,
            RefusalReason::MemoryExhausted,
            "and little is left, of which this tenant has its part; try again later",
        ),
    };
    let mut refusal = Refusal::new(status, reason, "gpu_memory", format!("{needs}, {why}"));
    refusal.reached = reached;
    refusal.retry_after = (shortage != Shortage::Never).then_some(MEMORY_RETURNS);
    refusal
}

fn millis(wait: Duration) -> u128 {
    wait.as_nanos().div_ceil(1_000_000).max(1)
}
