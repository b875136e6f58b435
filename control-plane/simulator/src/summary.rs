//! Figures of several runs side by side, and whether the aims are met.

use crate::arm::Arm;
use crate::record::{Record, ShareError};

/// One run in figures.
#[derive(Clone, Debug, PartialEq)]
pub struct Figures {
    /// Seconds.
    pub p50_s: f64,
    /// Seconds.
    pub p99_s: f64,
    /// Seconds.
    pub p999_s: f64,
    /// Share error over all settled stretches: the largest of their means.
    pub share_error: Option<f64>,
    /// The largest relative error of any endpoint in any settled stretch.
    pub worst_endpoint: Option<f64>,
    /// See [`Record::busiest`].
    pub busiest: Option<f64>,
    /// Requests that arrived.
    pub requests: u64,
    /// Those that failed.
    pub failed: u64,
    /// Pushes a minute.
    pub pushes_per_minute: f64,
    /// p99 of the requests that arrived within each second; `None` where there were none.
    pub p99_by_second: Vec<Option<f64>>,
}

impl Figures {
    /// The figures of a record.
    pub fn of(record: Record) -> Self {
        let minutes = record.latencies.len() as f64 / 60.0;
        let largest = |figure: fn(&ShareError) -> f64| record.shares.iter().map(figure).reduce(f64::max);
        let (share_error, worst_endpoint) = (largest(|error| error.mean), largest(|error| error.worst));
        let mut seconds = record.latencies;
        let p99_by_second = seconds.iter_mut().map(|second| percentile(second, 0.99)).collect();
        let mut all = seconds.concat();
        let mut at = |part| percentile(&mut all, part).unwrap_or_default();
        Self {
            p50_s: at(0.5),
            p99_s: at(0.99),
            p999_s: at(0.999),
            share_error,
            worst_endpoint,
            busiest: record.busiest,
            requests: record.arrived,
            failed: record.failed,
            pushes_per_minute: record.pushes as f64 / minutes.max(f64::MIN_POSITIVE),
            p99_by_second,
        }
    }
}

/// The value that so large a part of the values does not exceed (nearest rank); `None` of nothing. Reorders the values.
fn percentile(values: &mut [f32], part: f64) -> Option<f64> {
    let rank = (part * values.len() as f64).ceil().max(1.0) as usize - 1;
    if rank >= values.len() {
        return None;
    }
    let (_, value, _) = values.select_nth_unstable_by(rank, f32::total_cmp);
    Some(f64::from(*value))
}

/// A figure over several seeds.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct Spread {
    /// Of an even number, the mean of the middle two.
    pub median: f64,
    /// Least.
    pub min: f64,
    /// Most.
    pub max: f64,
}

impl Spread {
    /// Of these values; `None` of nothing.
    pub fn of(values: impl IntoIterator<Item = f64>) -> Option<Self> {
        let mut values: Vec<f64> = values.into_iter().collect();
        values.sort_by(f64::total_cmp);
        let (below, above) = (
            values.get(values.len().checked_sub(1)? / 2)?,
            values.get(values.len() / 2)?,
        );
        Some(Self {
            median: (below + above) / 2.0,
            min: *values.first()?,
            max: *values.last()?,
        })
    }
}

/// One arm over all seeds.
#[derive(Clone, Debug, PartialEq)]
pub struct Result {
    /// Which.
    pub arm: Arm,
    /// By seed, in the same order for every arm.
    pub runs: Vec<Figures>,
}

impl Result {
    /// A figure over the seeds.
    pub fn spread(&self, figure: impl Fn(&Figures) -> Option<f64>) -> Option<Spread> {
        Spread::of(self.runs.iter().filter_map(figure))
    }

    /// Its p99 over another's on the same requests, seed by seed.
    pub fn p99_over(&self, other: &Self) -> Option<Spread> {
        let runs = self.runs.iter().zip(&other.runs);
        Spread::of(runs.map(|(own, other)| own.p99_s / other.p99_s))
    }

    /// The median over the seeds of each second's p99.
    pub fn p99_by_second(&self) -> Vec<Option<f64>> {
        let seconds = self.runs.iter().map(|run| run.p99_by_second.len()).max().unwrap_or(0);
        let of = |second: usize| self.spread(|run| run.p99_by_second.get(second).copied().flatten());
        (0..seconds)
            .map(|second| of(second).map(|spread| spread.median))
            .collect()
    }
}

/// Something that Kilocard sets out to reach.
#[derive(Clone, Debug, PartialEq)]
pub struct Aim {
    /// A stable name.
    pub name: &'static str,
    /// In words.
    pub text: &'static str,
    /// Most that it may be.
    pub bound: f64,
    /// What it is; `None` if the runs do not tell.
    pub found: Option<Spread>,
}

impl Aim {
    /// Whether every seed meets it; `None` if the runs do not tell.
    pub fn is_met(&self) -> Option<bool> {
        self.found.map(|found| found.max <= self.bound)
    }
}

/// The aims of Kilocard's balancing, against these results.
pub fn aims(results: &[Result]) -> Vec<Aim> {
    let of = |arm| results.iter().find(|result| result.arm == arm);
    let Some(kilocard) = of(Arm::Kilocard) else {
        return Vec::new();
    };
    let against = |arm| of(arm).and_then(|other| kilocard.p99_over(other));
    vec![
        Aim {
            name: "p99_over_static_weights",
            text: "p99 over that of static weights",
            bound: 0.5,
            found: against(Arm::StaticWeights),
        },
        Aim {
            name: "p99_over_round_robin",
            text: "p99 over that of round robin",
            bound: 0.15,
            found: against(Arm::RoundRobin),
        },
        Aim {
            name: "share_error",
            text: "share error against true capacities, 10 s after any change",
            bound: 0.05,
            found: kilocard.spread(|run| run.share_error),
        },
        Aim {
            name: "busiest_100_ms",
            text: "most that an endpoint gets in any 100 ms, over its weight's share",
            bound: 2.0,
            found: kilocard.spread(|run| run.busiest),
        },
    ]
}

#[cfg(test)]
mod tests {
    use super::*;

    fn result(arm: Arm, p99s: &[f64]) -> Result {
        let record = Record {
            latencies: vec![vec![0.1; 100]],
            ..Record::default()
        };
        let figures = Figures::of(record);
        let run = |p99_s: &f64| Figures {
            p99_s: *p99_s,
            share_error: Some(0.04),
            ..figures.clone()
        };
        Result {
            arm,
            runs: p99s.iter().map(run).collect(),
        }
    }

    #[test]
    fn percentiles_are_by_nearest_rank() {
        let mut values: Vec<f32> = (1..=200).rev().map(|n| n as f32).collect();
        assert_eq!(percentile(&mut values, 0.5), Some(100.0));
        assert_eq!(percentile(&mut values, 0.99), Some(198.0));
        assert_eq!(percentile(&mut values, 0.999), Some(200.0));
        assert_eq!(percentile(&mut [], 0.5), None);
    }

    #[test]
    fn an_aim_is_met_only_if_every_seed_meets_it() {
        let results = [
            result(Arm::Kilocard, &[1.0, 1.0, 1.0]),
            result(Arm::StaticWeights, &[4.0, 3.0, 1.9]),
            result(Arm::RoundRobin, &[100.0, 90.0, 80.0]),
        ];
        let aims = aims(&results);
        let met: Vec<Option<bool>> = aims.iter().map(Aim::is_met).collect();
        assert_eq!(met, [Some(false), Some(true), Some(true), None]);
        let found = aims[0].found.unwrap();
        assert!(
            (found.median - 1.0 / 3.0).abs() < 1e-9 && found.min == 0.25,
            "{found:?}"
        );
    }
}
