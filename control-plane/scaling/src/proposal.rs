//! For how many replicas one metric asks.

use crate::sample::Sample;
use kilocard_policy::config::{RequestRate, ScaleTargets};
use std::fmt;

/// What a target is about.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Metric {
    /// Requests per second of the whole pool.
    Qps,
    /// Memory in use, the mean of the replicas, percent. Not that of the fullest: another replica takes over a part of what
    /// all of them share, and what only one has too much of is for the weights to move.
    Memory,
    /// Sequences that wait in the whole pool.
    Queue,
}

impl Metric {
    /// In the order of the policy.
    pub const ALL: [Self; 3] = [Self::Qps, Self::Memory, Self::Queue];

    /// In reports.
    pub fn as_str(self) -> &'static str {
        match self {
            Self::Qps => "qps",
            Self::Memory => "gpu_memory_used_percent",
            Self::Queue => "queue",
        }
    }

    fn target(self, targets: &ScaleTargets) -> Option<f64> {
        match self {
            Self::Qps => targets.qps_per_replica.map(RequestRate::per_second),
            Self::Memory => targets.memory_percent.map(f64::from),
            Self::Queue => targets.queue_per_replica.map(f64::from),
        }
    }

    /// What a replica reported of it.
    pub(crate) fn of(self, sample: &Sample) -> Option<f64> {
        let value = match self {
            Self::Qps => sample.load.qps,
            Self::Memory => sample.load.memory_percent,
            Self::Queue => sample.load.queue,
        };
        value.filter(|value| value.is_finite() && *value >= 0.0)
    }
}

impl fmt::Display for Metric {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.as_str())
    }
}

/// For how many replicas a metric asks.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct Proposal {
    /// Which metric.
    pub metric: Metric,
    /// What it is now: a sum, or for the memory a mean, over the ready replicas whose reports are fresh. `None` when no such
    /// report tells.
    pub value: Option<f64>,
    /// What a replica shall bear of it.
    pub target: f64,
    /// Ready replicas of which nothing fresh is known.
    pub missing: u32,
    /// The replicas asked for; `None` when nothing is known.
    pub replicas: Option<u32>,
}

impl Proposal {
    /// What each metric that has a target asks for, where there shall be `current` replicas now.
    pub(crate) fn all(targets: &ScaleTargets, tolerance: f64, samples: &[Sample], current: u32) -> Vec<Self> {
        let of = |metric: Metric| {
            let target = metric.target(targets)?;
            let tally = Tally::of(metric, target, samples);
            Some(Self {
                metric,
                value: tally.value(metric, target),
                target,
                missing: tally.missing,
                replicas: tally.replicas(metric, tolerance, current),
            })
        };
        Metric::ALL.into_iter().filter_map(of).collect()
    }
}

/// The replicas of a pool by what is known of them. Loads are in targets: 1 is what one replica shall bear.
///
/// As the HorizontalPodAutoscaler does, a replica that is not ready does not count; and one of which nothing is known counts
/// as nothing when there shall be more replicas, and as bearing the target when there shall be fewer. If its old report said
/// more than the target, it counts as that.
#[derive(Clone, Copy, Debug, Default)]
struct Tally {
    known: u32,
    missing: u32,
    /// What is borne at least.
    least: f64,
    /// What may be borne.
    most: f64,
}

impl Tally {
    fn of(metric: Metric, target: f64, samples: &[Sample]) -> Self {
        let mut tally = Self::default();
        let (mut known, mut unknown) = (0.0, 0.0);
        for sample in samples.iter().filter(|sample| sample.is_ready) {
            match metric.of(sample) {
                Some(value) if !sample.is_stale => {
                    tally.known += 1;
                    known += value;
                }
                old => {
                    tally.missing += 1;
                    unknown += old.unwrap_or_default().max(target);
                }
            }
        }
        (tally.least, tally.most) = (known / target, (known + unknown) / target);
        tally
    }

    fn value(&self, metric: Metric, target: f64) -> Option<f64> {
        let of_each = match metric {
            Metric::Qps | Metric::Queue => 1.0,
            Metric::Memory => f64::from(self.known),
        };
        (self.known > 0).then(|| self.least * target / of_each)
    }

    /// `ceil(current × value / target)` of the HorizontalPodAutoscaler, with `value` the mean of the current replicas: the
    /// sum over the target.
    ///
    /// A sum stays the same whoever bears it, so it is compared with what all replicas that there shall be would bear, those
    /// included that are still on their way. A mean is compared with what those bear that have one; when there shall be
    /// more, those on their way count as bearing nothing.
    fn replicas(&self, metric: Metric, tolerance: f64, current: u32) -> Option<u32> {
        if self.known == 0 {
            return None;
        }
        let (all, there) = (f64::from(current), f64::from(self.known + self.missing));
        let (above, below) = match metric {
            Metric::Qps | Metric::Queue => (all, all),
            Metric::Memory => (all.max(there), there),
        };
        if self.least > above * (1.0 + tolerance) {
            Some(ceil(self.least))
        } else if self.most < below * (1.0 - tolerance) {
            Some(ceil(self.most).min(current))
        } else {
            Some(current)
        }
    }
}

/// The least integer that is not below, but for what floating-point sums are off by.
fn ceil(load: f64) -> u32 {
    // Saturates: more than can be asked for anyway.
    (load * (1.0 - 1e-9)).ceil() as u32
}
