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
    failed: usize,
    failed_later: usize,
    lanes: usize,
    first: Option<String>,
}

impl KillVerdict {
    /// Judges a closed-loop load of `lanes` lanes. Which requests were in flight on that worker cannot be told from
    /// outside; that they are at most one a lane, and none sent after its death, can.
    pub fn of(samples: &[Sample], killed: Instant, lanes: usize) -> Self {
        let failed: Vec<&Sample> = samples.iter().filter(|sample| sample.failed()).collect();
        let later = failed.iter().filter(|sample| sample.started > killed + DYING).count();
        let first = failed.first().and_then(|sample| sample.outcome.clone().err());
        Self {
            total: samples.len(),
            failed: failed.len(),
            failed_later: later,
            lanes,
            first,
        }
    }

    /// Whether nothing failed that should not.
    pub fn passed(&self) -> bool {
        self.failed <= self.lanes && self.failed_later == 0
    }
}

impl fmt::Display for KillVerdict {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let Self {
            total,
            failed,
            failed_later,
            first,
            ..
        } = self;
        write!(f, "{failed} failed of {total}, {failed_later} of them sent later")?;
        first.iter().try_for_each(|told| write!(f, " (first: {told})"))
    }
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
