//! A RateLimitPolicy, compiled.

use xxhash_rust::xxh3::xxh3_64;

use super::gcra::Gcra;
use super::key::{Fingerprint, Subject};
use super::set::Layout;
use crate::config::{KeyPart, LimitMatch, LimitScope, LimitUnit, RateLimit, RateLimitPolicy};

/// Keys in one value of the store. Keys fall into sets by their hash, so sets fill unevenly: with room for twice as many
/// keys as are declared, one in about 300 sets is full when all declared keys are there (Poisson with mean 8, over 16).
const WAYS: usize = 16;
/// What the names of values begin with.
const PREFIX: &str = "kilocard.limit.";
/// A unit of GPU time, so that a millisecond can be counted.
pub const GPU_CELLS_PER_SECOND: u64 = 1000;

/// The limits of a policy and where they are kept.
#[derive(Clone, Debug)]
pub struct Table {
    name: String,
    match_: LimitMatch,
    by: Vec<KeyPart>,
    scope: LimitScope,
    is_shadow: bool,
    limits: Vec<Quota>,
    layout: Layout,
    sets: u64,
}

/// One limit, compiled.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Quota {
    /// What it says.
    pub limit: RateLimit,
    /// The same as an algorithm; of GPU seconds, in [cells](GPU_CELLS_PER_SECOND).
    pub gcra: Gcra,
}

impl Quota {
    /// Cells of the algorithm in one of the unit.
    pub fn cells(&self) -> u64 {
        cells_of(self.limit.unit)
    }

    fn compile(limit: RateLimit) -> Self {
        let cells = cells_of(limit.unit);
        let period_ns = limit.per.seconds() * 1_000_000_000;
        let gcra = Gcra::new(
            limit.rate.saturating_mul(cells),
            period_ns,
            limit.burst.saturating_mul(cells),
        );
        Self { limit, gcra }
    }
}

fn cells_of(unit: LimitUnit) -> u64 {
    match unit {
        LimitUnit::GpuSeconds => GPU_CELLS_PER_SECOND,
        LimitUnit::Requests | LimitUnit::Tokens => 1,
    }
}

/// What a request asks of each unit, in cells.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Cost {
    /// Requests; one, of a request.
    pub requests: u64,
    /// Tokens of prompt and output.
    pub tokens: u64,
    /// Milliseconds of GPU time.
    pub gpu_ms: u64,
}

impl Cost {
    /// What a limit of this unit is asked for.
    pub fn of(self, unit: LimitUnit) -> u64 {
        match unit {
            LimitUnit::Requests => self.requests,
            LimitUnit::Tokens => self.tokens,
            LimitUnit::GpuSeconds => self.gpu_ms,
        }
    }
}

impl Table {
    pub(crate) fn compile(name: &str, policy: &RateLimitPolicy) -> Self {
        let limits: Vec<_> = policy.limits.iter().copied().map(Quota::compile).collect();
        let numbers = format!("{limits:?}");
        let (ways, sets) = if policy.by.is_empty() {
            (1, 1)
        } else {
            (WAYS, u64::from(policy.max_keys).div_ceil(WAYS as u64 / 2))
        };
        Self {
            name: name.to_owned(),
            match_: policy.match_.clone().unwrap_or_default(),
            by: policy.by.clone(),
            scope: policy.scope,
            is_shadow: policy.shadow,
            layout: Layout {
                ways,
                limits: limits.len(),
                // The lower half.
                generation: xxh3_64(numbers.as_bytes()) as u32,
            },
            sets,
            limits,
        }
    }

    /// `metadata.name` of its document.
    pub fn name(&self) -> &str {
        &self.name
    }

    /// By what keys are told apart.
    pub fn by(&self) -> &[KeyPart] {
        &self.by
    }

    /// Whose limits they are.
    pub fn scope(&self) -> LimitScope {
        self.scope
    }

    /// The same limits, of which only a part may be there to be had.
    pub(crate) fn divided(self) -> Self {
        Self {
            scope: LimitScope::Mesh,
            ..self
        }
    }

    /// The tenants that it names; none, if it is about all.
    pub(crate) fn tenants(&self) -> &[String] {
        &self.match_.tenants
    }

    /// Whether what it would refuse passes.
    pub fn is_shadow(&self) -> bool {
        self.is_shadow
    }

    /// Its limits, as declared.
    pub fn limits(&self) -> &[Quota] {
        &self.limits
    }

    /// Whether a limit of this unit is among them.
    pub fn counts(&self, unit: LimitUnit) -> bool {
        self.limits.iter().any(|quota| quota.limit.unit == unit)
    }

    /// How its entries look.
    pub fn layout(&self) -> Layout {
        self.layout
    }

    /// The name of the value that a key is kept in.
    pub fn set_of(&self, key: Fingerprint) -> String {
        // The hash is as good in its upper half as in its lower.
        let set = (key.get() >> 32) % self.sets;
        format!("{PREFIX}{}/{set:x}", self.name)
    }

    /// The name of the value that all keys share for which there is no room.
    pub fn overflow_set(&self) -> String {
        format!("{PREFIX}{}/overflow", self.name)
    }

    /// Whether a value of the store is this policy's.
    pub fn owns(&self, name: &str) -> bool {
        let rest = name.strip_prefix(PREFIX).and_then(|rest| rest.strip_prefix(&self.name));
        rest.is_some_and(|rest| rest.starts_with('/'))
    }

    /// Whether it is about this request.
    pub fn matches(&self, subject: &Subject<'_>) -> bool {
        let LimitMatch {
            models,
            versions,
            methods,
            tenants,
            priorities,
        } = &self.match_;
        among(models, subject.model)
            && among(versions, subject.version)
            && (priorities.is_empty() || priorities.contains(&subject.priority))
            && (methods.is_empty() || methods.iter().any(|method| method.matches(subject.method)))
            && among(tenants, subject.tenant)
    }
}

fn among(names: &[String], value: Option<&[u8]>) -> bool {
    names.is_empty() || value.is_some_and(|value| names.iter().any(|name| name.as_bytes() == value))
}
