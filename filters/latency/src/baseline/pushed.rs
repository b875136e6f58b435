//! Baselines that come from outside: from the control plane, or from where they were kept.

use std::time::Duration;

use super::Baseline;
use crate::sketch::MAX_VALUE;

/// A P99.9 so many times the median is no latency of one kind of request.
const MAX_SPREAD: u32 = 10_000;
/// With so many samples of one's own, a pushed baseline is held to be near them.
const TRUSTED: u64 = 20_000;
/// How near: a factor, either way.
const NEAR: u32 = 8;

/// Why a baseline cannot be.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
pub enum Nonsense {
    /// A quantile of zero, or longer than any sketch knows.
    #[error("{name} is {value:?}; it has to be from 1 µs to {MAX_VALUE:?}")]
    Range {
        /// Which one.
        name: &'static str,
        /// What was said.
        value: Duration,
    },
    /// A higher quantile is shorter.
    #[error("{higher} is shorter than {lower}")]
    Order {
        /// The one that ought to be shorter.
        lower: &'static str,
        /// The one that ought to be longer.
        higher: &'static str,
    },
    /// The tail is too long for requests of one kind.
    #[error("p99.9 is {p999:?}, more than {MAX_SPREAD} times the median of {p50:?}")]
    Spread {
        /// The median.
        p50: Duration,
        /// The P99.9.
        p999: Duration,
    },
}

impl Nonsense {
    /// A stable name.
    pub fn label(self) -> &'static str {
        match self {
            Self::Range { .. } => "range",
            Self::Order { .. } => "order",
            Self::Spread { .. } => "spread",
        }
    }
}

/// A baseline from outside that may be used.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Accepted {
    /// The baseline.
    pub baseline: Baseline,
    /// It was too far from what was measured here, and was brought nearer: worth a warning.
    pub is_clamped: bool,
}

impl Baseline {
    /// Whether it can be one.
    ///
    /// # Errors
    /// The first thing that cannot be.
    pub fn check(&self) -> Result<(), Nonsense> {
        let quantiles = [
            ("p50", self.p50),
            ("p95", self.p95),
            ("p99", self.p99),
            ("p99.9", self.p999),
        ];
        for (name, value) in quantiles {
            if value < Duration::from_micros(1) || value > MAX_VALUE {
                return Err(Nonsense::Range { name, value });
            }
        }
        for ((lower, shorter), (higher, longer)) in quantiles.into_iter().zip(quantiles.into_iter().skip(1)) {
            if longer < shorter {
                return Err(Nonsense::Order { lower, higher });
            }
        }
        if self.p999 > self.p50.saturating_mul(MAX_SPREAD) {
            return Err(Nonsense::Spread {
                p50: self.p50,
                p999: self.p999,
            });
        }
        Ok(())
    }

    /// Takes a baseline from outside: refused if it cannot be, and brought to within a factor of 8 of one's own, if that is
    /// of 20,000 samples and more.
    ///
    /// # Errors
    /// If it cannot be.
    pub fn accept(&self, own: Option<&Self>) -> Result<Accepted, Nonsense> {
        self.check()?;
        let Some(own) = own.filter(|own| own.samples >= TRUSTED) else {
            return Ok(Accepted {
                baseline: *self,
                is_clamped: false,
            });
        };
        let near = |pushed: Duration, own: Duration| {
            let least = (own / NEAR).max(Duration::from_micros(1));
            pushed.clamp(least, own.saturating_mul(NEAR).min(MAX_VALUE).max(least))
        };
        let baseline = Self {
            p50: near(self.p50, own.p50),
            p95: near(self.p95, own.p95),
            p99: near(self.p99, own.p99),
            p999: near(self.p999, own.p999),
            samples: self.samples,
        };
        Ok(Accepted {
            baseline,
            is_clamped: baseline != *self,
        })
    }
}
