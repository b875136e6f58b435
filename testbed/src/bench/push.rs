//! From the write of a policy in etcd to its effect on a client.
//!
//! One user asks back to back through Envoy (`ServerReady`, so that no model computes in between). Each change sends the
//! user to the other version. The time runs from just before the write is sent to etcd until the first reply from the
//! other version is at the client; it holds etcd's commit, its watch, the control plane's validation and build, the push,
//! Envoy's start of the new filter on its threads, and up to one round trip of the client.

use super::record;
use crate::demo::say;
use crate::effect::Probe;
use crate::harness::Testbed;
use crate::starter;
use anyhow::{Result, ensure};
use clap::Args;
use hdrhistogram::Histogram;
use kilocard_registry::layout::{Key, PolicyId};
use serde_json::json;
use std::time::{Duration, Instant};

/// Flags of `bench push`.
#[derive(Args, Clone, Debug)]
pub struct Push {
    /// How many policy changes
    #[arg(long, default_value_t = 200)]
    changes: u32,
    /// Pause between two changes, in milliseconds
    #[arg(long, default_value_t = 20)]
    pause_ms: u64,
}

/// The aim for the 99th percentile.
const AIM: Duration = Duration::from_millis(100);

/// Microseconds of each change.
struct Measured {
    /// From before the write until the client felt it.
    effects: Histogram<u64>,
    /// From before the write until etcd answered it: mostly its fsync, hence the disk's.
    commits: Histogram<u64>,
    /// The difference: what the mesh itself takes.
    rests: Histogram<u64>,
}

impl Push {
    pub(super) async fn run(self) -> Result<()> {
        let mut testbed = starter::mesh("bench-push", 0).start().await?;
        let Measured {
            effects,
            commits,
            rests,
        } = self.measure(&mut testbed).await?;
        testbed.finish().await?;
        let at = |histogram: &Histogram<u64>, quantile| micros(histogram.value_at_quantile(quantile));
        let row = |name: &str, histogram: &Histogram<u64>| {
            let [p50, p90, p99, max] = [0.5, 0.9, 0.99, 1.0].map(|quantile| at(histogram, quantile));
            say(&format!("{name:<34} {p50:>8.1} {p90:>8.1} {p99:>8.1} {max:>8.1}"));
            json!({"p50_ms": p50, "p90_ms": p90, "p99_ms": p99, "max_ms": max})
        };
        say(&format!(
            "{} policy changes, ms               p50      p90      p99      max",
            effects.len()
        ));
        let commit = row("etcd write until committed", &commits);
        let rest = row("committed until a client feels it", &rests);
        let effect = row("etcd write until a client feels it", &effects);
        let reached = at(&effects, 0.99) < AIM.as_secs_f64() * 1e3;
        say(&format!(
            "aim: p99 under {} ms: {}",
            AIM.as_millis(),
            if reached { "reached" } else { "missed" }
        ));
        record(
            "push",
            &json!({"changes": effects.len(), "commit": commit, "commit_to_effect": rest, "effect": effect}),
        )
    }

    async fn measure(&self, testbed: &mut Testbed) -> Result<Measured> {
        let mut etcd = testbed.etcd().client().await?;
        let key = testbed
            .layout()
            .key(&Key::Policy(PolicyId::new("RoutingPolicy", "minilm")));
        let documents = [
            serde_json::to_vec(&starter::routing_document(100)?)?,
            serde_json::to_vec(&starter::routing_document(0)?)?,
        ];
        let probe = Probe::start(testbed, "ada").await?;
        probe.await_version("v1").await?;
        let (mut effects, mut commits, mut rests) = (Histogram::new(3)?, Histogram::new(3)?, Histogram::new(3)?);
        for (document, version) in documents.iter().zip(["v2", "v1"]).cycle().take(self.changes as usize) {
            let write = Instant::now();
            etcd.put(key.as_str(), document.as_slice(), None).await?;
            let committed = write.elapsed();
            let felt = probe.await_version(version).await?.duration_since(write);
            commits.record(whole_micros(committed))?;
            effects.record(whole_micros(felt))?;
            rests.record(whole_micros(felt.saturating_sub(committed)))?;
            // Changes as operators make them are apart; back to back, one would wait for the one before.
            tokio::time::sleep(Duration::from_millis(self.pause_ms)).await;
        }
        let turns = probe.turns().len();
        ensure!(
            turns == self.changes as usize + 1,
            "{turns} versions in turn for {} changes: one was felt twice",
            self.changes
        );
        Ok(Measured {
            effects,
            commits,
            rests,
        })
    }
}

fn whole_micros(duration: Duration) -> u64 {
    u64::try_from(duration.as_micros()).unwrap_or(u64::MAX)
}

#[expect(clippy::cast_precision_loss, reason = "microseconds of a bench")]
fn micros(value: u64) -> f64 {
    value as f64 / 1e3
}
