//! `kind: RateLimitPolicy`: how much of something may be asked for in a time, by each tenant, user, model or whatever else
//! tells requests apart.
//!
//! A request takes from the limits of all documents that match it, or from none.

use std::fmt;

use serde::Serialize;

use super::limits::{MAX_KEYS, MAX_LIMITS};
use super::reader::{Key, Node};
use super::violation::Violations;
use super::word::words;

mod requests;

pub use requests::LimitMatch;

/// Limits for each key of the requests that match.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
#[cfg_attr(test, derive(schemars::JsonSchema))]
#[cfg_attr(test, schemars(deny_unknown_fields))]
#[non_exhaustive]
pub struct RateLimitPolicy {
    /// Which requests; absent, all of them.
    #[serde(rename = "match", skip_serializing_if = "Option::is_none")]
    #[cfg_attr(test, schemars(with = "LimitMatch", default))]
    pub match_: Option<LimitMatch>,
    /// What tells keys apart: each combination of these has the limits for itself. None: one key for all requests. What a
    /// request does not have counts as one value like any other.
    #[cfg_attr(test, schemars(default, length(max = 6)))]
    pub by: Vec<KeyPart>,
    /// Whether each proxy has the limits for itself, or all share them.
    #[cfg_attr(test, schemars(default))]
    pub scope: LimitScope,
    /// How much of each unit. All of them, or none, are taken.
    #[cfg_attr(test, schemars(length(min = 1, max = 3)))]
    pub limits: Vec<RateLimit>,
    /// For so many keys at once there is room. Keys beyond share one more, the overflow key, which has the same limits.
    #[cfg_attr(test, schemars(default, range(min = *MAX_KEYS.start(), max = *MAX_KEYS.end())))]
    pub max_keys: u32,
    /// Counts and logs what would be refused, and lets it pass.
    #[cfg_attr(test, schemars(default))]
    pub shadow: bool,
}

/// How much of one unit.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize)]
#[cfg_attr(test, derive(schemars::JsonSchema))]
#[cfg_attr(test, schemars(deny_unknown_fields))]
#[non_exhaustive]
pub struct RateLimit {
    /// What is counted.
    pub unit: LimitUnit,
    /// So much in each period, steadily.
    #[cfg_attr(test, schemars(range(min = 1, max = 1_000_000_000_000_u64)))]
    pub rate: u64,
    /// The period.
    #[cfg_attr(test, schemars(default))]
    pub per: Period,
    /// So much at once after a quiet time. Absent: what the rate gives in a second, but at least 1. A request that asks for
    /// more can never pass.
    #[cfg_attr(test, schemars(default, range(min = 1, max = 1_000_000_000_000_u64)))]
    pub burst: u64,
}

/// For people: `100 requests a second, at most 200 at once`.
impl fmt::Display for RateLimit {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let Self { unit, rate, per, burst } = self;
        let unit = match unit {
            LimitUnit::Requests => "requests",
            LimitUnit::Tokens => "tokens",
            LimitUnit::GpuSeconds => "GPU seconds",
        };
        write!(f, "{rate} {unit} a {per}, at most {burst} at once")
    }
}

words! {
    /// By what keys are told apart.
    pub enum KeyPart {
        /// `x-tenant-id`.
        Tenant = "tenant",
        /// `x-user-id`.
        User = "user",
        /// The model.
        Model = "model",
        /// The version of the model that serves.
        Version = "version",
        /// The gRPC method, by its path.
        Method = "method",
        /// The priority.
        Priority = "priority",
    }
}

words! {
    /// Whose limits they are.
    #[derive(Default)]
    pub enum LimitScope {
        /// Each proxy's, exactly, over all its threads.
        #[default]
        Proxy = "proxy",
        /// All proxies' together: the control plane divides them by demand, never more than the whole.
        Mesh = "mesh",
    }
}

words! {
    /// What a limit counts.
    pub enum LimitUnit {
        /// Requests; a stream is one.
        Requests = "requests",
        /// Tokens of language models, of prompt and output together.
        Tokens = "tokens",
        /// Seconds of GPU time.
        GpuSeconds = "gpu_seconds",
    }
}

words! {
    /// In how long a rate is given.
    #[derive(Default)]
    pub enum Period {
        /// A second.
        #[default]
        Second = "second",
        /// 60 seconds.
        Minute = "minute",
        /// 3600 seconds.
        Hour = "hour",
        /// 24 hours.
        Day = "day",
    }
}

impl Period {
    /// How many seconds.
    pub fn seconds(self) -> u64 {
        match self {
            Self::Second => 1,
            Self::Minute => 60,
            Self::Hour => 3600,
            Self::Day => 86_400,
        }
    }
}

/// What `rate` and `burst` may be.
const AMOUNT: std::ops::RangeInclusive<u64> = 1..=1_000_000_000_000;
/// Room for keys where none is said.
const DEFAULT_KEYS: u32 = 10_000;

pub(super) fn read(spec: &Node<'_>, out: &mut Violations) -> Option<RateLimitPolicy> {
    let spec = spec.object(&["match", "by", "scope", "limits", "max_keys", "shadow"], out)?;
    let match_ = spec.maybe("match", out, LimitMatch::read);
    let by = spec.or_default("by", out, |node, out| {
        node.set(0..=KeyPart::ALL.len(), out, KeyPart::read)
    });
    let scope = spec.or_default("scope", out, LimitScope::read);
    let key = Key {
        field: ".unit",
        of: |limit: &RateLimit| limit.unit.to_string(),
    };
    let limits = spec.must("limits", out, |node, out| {
        node.distinct(1..=MAX_LIMITS, &key, out, read_limit)
    });
    let max_keys = spec.maybe("max_keys", out, |node, out| node.integer(MAX_KEYS, out));
    let shadow = spec.or_default("shadow", out, Node::boolean);
    Some(RateLimitPolicy {
        match_: match_?,
        by: by?,
        scope: scope?,
        limits: limits?,
        max_keys: max_keys?.unwrap_or(DEFAULT_KEYS),
        shadow: shadow?,
    })
}

fn read_limit(node: &Node<'_>, out: &mut Violations) -> Option<RateLimit> {
    let limit = node.object(&["unit", "rate", "per", "burst"], out)?;
    let unit = limit.must("unit", out, LimitUnit::read);
    let rate = limit.must("rate", out, |node, out| node.whole(AMOUNT, out));
    let per = limit.or_default("per", out, Period::read);
    let burst = limit.maybe("burst", out, |node, out| node.whole(AMOUNT, out));
    let (rate, per) = (rate?, per?);
    Some(RateLimit {
        unit: unit?,
        rate,
        per,
        burst: burst?.unwrap_or_else(|| rate.div_ceil(per.seconds())),
    })
}
