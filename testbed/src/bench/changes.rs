//! Whether a request is dropped while the configuration changes: random changes of versions, models, endpoints, weights and
//! policies under steady load on real Envoy. Workers are simulated by upstreams of this process that answer at once.

use super::record;
use crate::changes::{self, Options, Outcome};
use crate::demo::say;
use anyhow::{Result, ensure};
use clap::Args;
use serde_json::json;
use std::time::{Duration, Instant};

/// Flags of `bench changes`.
#[derive(Args, Clone, Debug)]
pub struct Changes {
    /// How many changes
    #[arg(long, default_value_t = 10_000, value_parser = clap::value_parser!(u32).range(1..))]
    changes: u32,
    /// Pause between two changes, in milliseconds
    #[arg(long, default_value_t = 20)]
    pause_ms: u64,
    /// Connections of the load, each with a request every 2 ms at most
    #[arg(long, default_value_t = 4, value_parser = clap::value_parser!(u16).range(1..=64))]
    lanes: u16,
    /// Of the random changes
    #[arg(long, default_value_t = 1)]
    seed: u64,
}

/// How often progress is shown.
const SHOWN: Duration = Duration::from_secs(10);

impl Changes {
    pub(super) async fn run(self) -> Result<()> {
        let options = Options {
            changes: self.changes,
            pause: Duration::from_millis(self.pause_ms),
            lanes: self.lanes.into(),
            seed: self.seed,
        };
        let mut testbed = changes::mesh("bench-changes").await?;
        let (begun, mut shown) = (Instant::now(), Instant::now());
        let progress = |done: u32| {
            if shown.elapsed() >= SHOWN {
                shown = Instant::now();
                say(&format!(
                    "{done} of {} changes in {} s",
                    self.changes,
                    begun.elapsed().as_secs()
                ));
            }
        };
        let outcome = changes::run(&mut testbed, options, progress).await?;
        testbed.finish().await?;
        self.report(&outcome)
    }

    fn report(&self, outcome: &Outcome) -> Result<()> {
        let rate = f64::from(outcome.changes) / outcome.elapsed.as_secs_f64();
        let bound = outcome.upper_bound();
        say(&format!(
            "changes                     {} ({rate:.1} a second)",
            outcome.changes
        ));
        say(&format!("requests                    {}", outcome.requests));
        say(&format!("failed                      {}", outcome.failed));
        say(&format!("failed at most (95 %)       {:.2} of a million", bound * 1e6));
        say(&format!(
            "without a route, a cluster  {}, {}",
            outcome.unrouted.0, outcome.unrouted.1
        ));
        say(&format!(
            "clusters added, removed     {}, {}",
            outcome.clusters.0, outcome.clusters.1
        ));
        say(&format!("NACKs                       {}", outcome.nacks));
        for failure in &outcome.failures {
            say(&format!(
                "  {:>8.3} s  {}: {}",
                failure.at.as_secs_f64(),
                failure.model,
                failure.why
            ));
        }
        record(
            "changes",
            &json!({
                "changes": outcome.changes, "changes_per_second": rate, "requests": outcome.requests,
                "failed": outcome.failed, "failed_upper_95": bound, "nacks": outcome.nacks,
                "clusters_added": outcome.clusters.0, "clusters_removed": outcome.clusters.1, "seed": self.seed,
            }),
        )?;
        ensure!(outcome.failed == 0, "{} requests failed", outcome.failed);
        Ok(())
    }
}
