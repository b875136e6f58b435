//! What requests of a kind usually take: quantiles learnt from the window, as far as its samples bear them.

use std::time::Duration;

use crate::codec::Reader;
use crate::sketch::{MAX_VALUE, micros};
use crate::survival::{Quantile, Survival};

mod family;
mod pushed;

pub use family::Family;
pub use pushed::{Accepted, Nonsense};

/// Samples beyond a quantile without which it is not read: the exact P99.9 of 2,000 lognormal samples is off by a tenth
/// as often as not.
const BEYOND: f64 = 20.0;
/// As many samples as the prior weighs.
const PRIOR_WEIGHT: f64 = 5000.0;
/// What is known to be longer than the longest seen is taken to be so much longer.
const BEYOND_FACTOR: f64 = 1.5;
const FORM: u8 = 1;

/// Quantiles of what requests of a kind take.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Baseline {
    /// The median.
    pub p50: Duration,
    /// 95 %.
    pub p95: Duration,
    /// 99 %.
    pub p99: Duration,
    /// 99.9 %: what timeouts go by.
    pub p999: Duration,
    /// How many samples it was last learnt from; none, of a policy's guess.
    pub samples: u64,
}

/// How far the quantiles of a kind of request lie apart. By it a P99.9 is told where only a lower quantile is known.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct Shape {
    /// P99.9 ÷ median.
    pub from_p50: f64,
    /// P99.9 ÷ P95.
    pub from_p95: f64,
    /// P99.9 ÷ P99.
    pub from_p99: f64,
}

impl Default for Shape {
    /// Of a lognormal distribution with σ = 0.6: exp(σ · (z₉₉.₉ − z)).
    fn default() -> Self {
        Self {
            from_p50: 6.39,
            from_p95: 2.38,
            from_p99: 1.58,
        }
    }
}

impl Shape {
    /// Of requests of many kinds together, once there are enough of them for a P99.9. So a kind with few requests borrows
    /// its family's tail.
    pub fn of(family: &Survival) -> Option<Self> {
        let read = |q| readable(family, q).map(|value| value.as_secs_f64());
        let p999 = read(0.999)?;
        let ratio = |q| Some((p999 / read(q)?.max(1e-6)).clamp(1.0, 1000.0));
        Some(Self {
            from_p50: ratio(0.5)?,
            from_p95: ratio(0.95)?,
            from_p99: ratio(0.99)?,
        })
    }
}

/// What a P99.9 rests on.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Basis {
    /// The prior alone: too few samples, or none.
    Prior,
    /// The P95, times the shape's ratio.
    P95,
    /// The P99, times the shape's ratio.
    P99,
    /// Itself.
    P999,
    /// More than one in a thousand was cut off, so it is only known to be longer than what was seen.
    Beyond,
}

impl Basis {
    /// A stable name.
    pub fn label(self) -> &'static str {
        match self {
            Self::Prior => "prior",
            Self::P95 => "p95",
            Self::P99 => "p99",
            Self::P999 => "p99.9",
            Self::Beyond => "beyond",
        }
    }
}

/// A baseline with what it rests on.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Learned {
    /// The quantiles.
    pub baseline: Baseline,
    /// What its P99.9 rests on.
    pub basis: Basis,
}

impl Baseline {
    /// Bytes of an encoding.
    pub const BYTES: usize = 25;

    /// A guess with the shape's other quantiles.
    pub fn guess(p999: Duration, shape: &Shape) -> Self {
        let p999 = p999.clamp(Duration::from_micros(1), MAX_VALUE);
        let over = |ratio: f64| p999.div_f64(ratio.clamp(1.0, 1e6)).max(Duration::from_micros(1));
        Self {
            p50: over(shape.from_p50),
            p95: over(shape.from_p95),
            p99: over(shape.from_p99),
            p999,
            samples: 0,
        }
    }

    /// Learns from the window, shrunk to the prior: what n samples say weighs n, the prior 5,000. Without a prior it is what
    /// the samples say, or nothing while they say nothing.
    pub fn learn(window: &Survival, prior: Option<&Self>, shape: &Shape) -> Option<Learned> {
        let samples = window.count();
        let Some(own) = Tail::of(window, shape) else {
            let prior = *prior?;
            return Some(Learned {
                baseline: Self { samples, ..prior },
                basis: Basis::Prior,
            });
        };
        let weight = prior.map_or(1.0, |_| samples as f64 / (samples as f64 + PRIOR_WEIGHT));
        let shrunk = |own: Duration, prior: Option<Duration>| {
            let prior = prior.unwrap_or(own);
            own.mul_f64(weight)
                .saturating_add(prior.mul_f64(1.0 - weight))
                .min(MAX_VALUE)
        };
        // That it is longer than what was seen is known, whatever the prior says.
        let p999 = shrunk(own.p999, prior.map(|prior| prior.p999)).max(own.exceeds);
        let guess = Self::guess(own.p999, shape);
        let lower = |q, prior: Option<Duration>, guess: Duration| {
            let value = readable(window, q).unwrap_or_else(|| prior.unwrap_or(guess));
            shrunk(value, prior).min(p999)
        };
        let p99 = lower(0.99, prior.map(|prior| prior.p99), guess.p99);
        let p95 = lower(0.95, prior.map(|prior| prior.p95), guess.p95).min(p99);
        let p50 = lower(0.5, prior.map(|prior| prior.p50), guess.p50).min(p95);
        Some(Learned {
            baseline: Self {
                p50,
                p95,
                p99,
                p999,
                samples,
            },
            basis: own.basis,
        })
    }

    /// For the store, and to be kept: form u8, four quantiles u32 in microseconds, samples u64.
    pub fn to_bytes(&self) -> [u8; Self::BYTES] {
        let mut bytes = [0; Self::BYTES];
        let quantiles = [self.p50, self.p95, self.p99, self.p999].map(|value| micros(value.min(MAX_VALUE)) as u32);
        let numbers = quantiles.into_iter().flat_map(u32::to_le_bytes);
        let all = [FORM].into_iter().chain(numbers).chain(self.samples.to_le_bytes());
        bytes.iter_mut().zip(all).for_each(|(place, byte)| *place = byte);
        bytes
    }

    /// Of such bytes; of others, or of what [cannot be](Nonsense), nothing.
    pub fn from_bytes(bytes: &[u8]) -> Option<Self> {
        let mut reader = Reader::new(bytes);
        let baseline = Self::read(&mut reader)?;
        reader.is_empty().then_some(baseline)
    }

    pub(crate) fn read(reader: &mut Reader<'_>) -> Option<Self> {
        if reader.u8()? != FORM {
            return None;
        }
        let mut quantile = || Some(Duration::from_micros(reader.u32()?.into()));
        let (p50, p95, p99, p999) = (quantile()?, quantile()?, quantile()?, quantile()?);
        let baseline = Self {
            p50,
            p95,
            p99,
            p999,
            samples: reader.u64()?,
        };
        baseline.check().is_ok().then_some(baseline)
    }
}

/// What the window says of the P99.9.
struct Tail {
    p999: Duration,
    /// What it is known to exceed.
    exceeds: Duration,
    basis: Basis,
}

impl Tail {
    /// By the highest quantile that has enough samples beyond it and that was not cut off.
    fn of(window: &Survival, shape: &Shape) -> Option<Self> {
        let levels = [
            (0.999, 1.0, Basis::P999),
            (0.99, shape.from_p99, Basis::P99),
            (0.95, shape.from_p95, Basis::P95),
        ];
        let mut exceeds = Duration::ZERO;
        for (q, ratio, basis) in levels {
            if !is_borne(window.count(), q) {
                continue;
            }
            match window.quantile(q)? {
                Quantile::Within(value) => {
                    let p999 = value.mul_f64(ratio.clamp(1.0, 1e6)).max(exceeds);
                    return Some(Self { p999, exceeds, basis });
                }
                Quantile::Beyond(seen) => exceeds = exceeds.max(seen),
            }
        }
        (!exceeds.is_zero()).then(|| Self {
            p999: exceeds.mul_f64(BEYOND_FACTOR),
            exceeds,
            basis: Basis::Beyond,
        })
    }
}

fn is_borne(samples: u64, q: f64) -> bool {
    samples as f64 * (1.0 - q) >= BEYOND
}

fn readable(window: &Survival, q: f64) -> Option<Duration> {
    let found = is_borne(window.count(), q).then(|| window.quantile(q)).flatten();
    found.map(Quantile::at_least)
}

#[cfg(test)]
mod tests;
