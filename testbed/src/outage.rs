//! Judging what clients felt while a part was away.

use crate::harness::Testbed;
use crate::load::{Load, Sample};
use crate::poll::{self, DEADLINE};
use anyhow::{Result, ensure};
use kilocard_registry::report::MeshReport;
use std::fmt;
use std::time::{Duration, Instant};

/// A killed process keeps its sockets until the kernel has taken its memory down; what is sent to it until then counts
/// as in flight.
const DYING: Duration = Duration::from_millis(250);

/// What became of the requests around a worker's death.
#[derive(Clone, Debug)]
pub struct KillVerdict {
    total: usize,
    in_flight: usize,
    /// Failures that the death does not excuse, as the client was told.
    others: Vec<String>,
    lanes: usize,
}

impl KillVerdict {
    /// Judges a closed-loop load of `lanes` lanes. Which requests were in flight on that worker cannot be told from
    /// outside; that they were under way when it died, and are at most one a lane, can.
    pub fn of(samples: &[Sample], killed: Instant, lanes: usize) -> Self {
        let under_way = |sample: &Sample| sample.finished >= killed && sample.started <= killed + DYING;
        let mut verdict = Self {
            total: samples.len(),
            in_flight: 0,
            others: Vec::new(),
            lanes,
        };
        for sample in samples {
            match &sample.outcome {
                Ok(_) => {}
                Err(_) if under_way(sample) => verdict.in_flight += 1,
                Err(told) => verdict.others.push(told.clone()),
            }
        }
        verdict
    }

    /// Whether nothing failed that should not.
    pub fn passed(&self) -> bool {
        self.in_flight <= self.lanes && self.others.is_empty()
    }
}

impl fmt::Display for KillVerdict {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let Self {
            total,
            in_flight,
            others,
            ..
        } = self;
        write!(
            f,
            "of {total}, {in_flight} in flight and {} others failed",
            others.len()
        )?;
        others.first().iter().try_for_each(|told| write!(f, " (first: {told})"))
    }
}

/// Ends a load in which nothing may fail.
///
/// # Errors
/// If a request failed or none was sent.
pub async fn ensure_unharmed(load: Load) -> Result<()> {
    let samples = load.stop().await;
    let failed: Vec<_> = samples.iter().filter(|sample| sample.failed()).collect();
    ensure!(
        failed.is_empty() && !samples.is_empty(),
        "{} of {} failed, first {:?}",
        failed.len(),
        samples.len(),
        failed.first()
    );
    Ok(())
}

/// Waits until this worker has served requests of the load.
///
/// # Errors
/// After the deadline.
pub async fn await_served_by(load: &Load, worker: &str) -> Result<()> {
    poll::until(&format!("{worker} to serve"), DEADLINE, async || {
        let samples = load.samples();
        let served = samples
            .iter()
            .filter(|sample| sample.outcome.as_deref() == Ok(worker))
            .count();
        ensure!(served >= 5, "{served} served by it, last {:?}", samples.last());
        Ok(())
    })
    .await
}

/// Waits until the control plane says that etcd answers it again.
///
/// # Errors
/// After the deadline.
pub async fn await_etcd_connected(testbed: &mut Testbed) -> Result<()> {
    let control_plane = testbed.control_plane();
    poll::until(
        "the control plane to be connected to etcd again",
        DEADLINE,
        async || {
            let report: MeshReport = serde_json::from_str(&control_plane.page("/status").await?)?;
            ensure!(report.control_plane.etcd_connected, "not connected");
            Ok(())
        },
    )
    .await
}

#[cfg(test)]
mod tests {
    use super::*;

    /// Failed requests that were sent and answered at these milliseconds; the worker was killed at 1000.
    fn passed(failed: &[(u64, u64)]) -> bool {
        let began = Instant::now();
        let at = |ms: u64| began + Duration::from_millis(ms);
        let sample = |(started, finished): &(u64, u64)| Sample {
            started: at(*started),
            finished: at(*finished),
            outcome: Err("Unavailable".to_owned()),
        };
        let samples: Vec<Sample> = failed.iter().map(sample).collect();
        KillVerdict::of(&samples, at(1000), 2).passed()
    }

    #[test]
    fn a_death_excuses_one_request_a_lane_and_only_those_under_way() {
        assert!(passed(&[]));
        assert!(passed(&[(990, 1001), (1100, 1110)]));
        assert!(!passed(&[(980, 999)]), "answered before the worker died");
        assert!(!passed(&[(1300, 1310)]), "sent long after");
        assert!(!passed(&[(990, 1001), (990, 1001), (1010, 1020)]), "more than lanes");
    }
}
