//! Random changes of the configuration under steady load: what `bench changes` measures and a test checks in small.
//!
//! Versions and whole models come and go, endpoints move, weights and other policies change, all written straight into etcd.
//! The workers are upstreams of this process that answer at once, so that what fails, fails in the mesh's configuration. The
//! load asks for two models that stay; their versions do not.

mod lanes;
mod plan;

use crate::harness::Testbed;
use crate::harness::upstream::Upstream;
use crate::poll::{self, DEADLINE};
use crate::prometheus;
use anyhow::{Context, Result, ensure};
use etcd_client::Client as EtcdClient;
use kilocard_registry::layout::{Key, Layout};
use lanes::Lanes;
use plan::{Plan, Write};
use serde_json::json;
use std::collections::BTreeSet;
use std::time::{Duration, Instant};

pub use lanes::Failure;

/// How many workers there may be: each has an upstream of its own.
const UPSTREAMS: usize = 48;

/// How much, and how fast.
#[derive(Clone, Copy, Debug)]
pub struct Options {
    /// Changes to make.
    pub changes: u32,
    /// Pause after each.
    pub pause: Duration,
    /// Connections of the load, each with a request every 2 ms at most.
    pub lanes: usize,
    /// Of the random choices.
    pub seed: u64,
}

/// What came of it.
#[derive(Clone, Debug)]
pub struct Outcome {
    /// Changes made.
    pub changes: u32,
    /// From the first write to the last.
    pub elapsed: Duration,
    /// Requests answered.
    pub requests: u64,
    /// Those that failed; the first few of them.
    pub failures: Vec<Failure>,
    /// How many failed.
    pub failed: u64,
    /// Responses that Envoy refused.
    pub nacks: u64,
    /// Clusters that Envoy added and removed.
    pub clusters: (u64, u64),
    /// Requests for which Envoy had no route, and no cluster.
    pub unrouted: (u64, u64),
}

impl Outcome {
    /// The share of requests that fail at most, with 95 % confidence (exact for none, else Wilson's bound).
    #[expect(clippy::cast_precision_loss, reason = "counts of requests")]
    pub fn upper_bound(&self) -> f64 {
        let requests = self.requests.max(1) as f64;
        if self.failed == 0 {
            return 1.0 - 0.05_f64.powf(1.0 / requests);
        }
        let (share, z) = (self.failed as f64 / requests, 1.645_f64);
        let spread = z * (share * (1.0 - share) / requests + z * z / (4.0 * requests * requests)).sqrt();
        (share + z * z / (2.0 * requests) + spread) / (1.0 + z * z / requests)
    }
}

/// A mesh without workers, and with policies for the models that stay.
///
/// # Errors
/// If it does not start.
pub async fn mesh(name: &str) -> Result<Testbed> {
    let builder = Testbed::builder(name);
    let builder = plan::initial_policies().into_iter().fold(builder, |builder, document| {
        // JSON is YAML.
        builder.policy(document.to_string())
    });
    builder.start().await
}

/// Makes the changes; `progress` is told after each how many there have been.
///
/// # Errors
/// If the mesh does not serve before, does not come to rest after, or etcd refuses a write. Failed requests are no error.
pub async fn run(testbed: &mut Testbed, options: Options, mut progress: impl FnMut(u32)) -> Result<Outcome> {
    let mut upstreams = Vec::new();
    for index in 0..UPSTREAMS {
        upstreams.push(Upstream::start_forgetful(&format!("u{index}")).await?);
    }
    let addresses = upstreams
        .iter()
        .map(|upstream| upstream.address().to_string())
        .collect();
    let mut plan = Plan::new(addresses, options.seed);
    let mut store = Store {
        etcd: testbed.etcd().client().await?,
        layout: testbed.layout(),
    };
    store.apply(plan.start()).await?;
    let gateway = testbed.gateway();
    for model in plan::STABLE {
        poll::until(&format!("{model} to be served"), DEADLINE, async || {
            lanes::ask_once(gateway, model).await
        })
        .await?;
    }
    let lanes = Lanes::start(gateway, options.lanes).await?;
    let begun = Instant::now();
    for change in 1..=options.changes {
        store.apply(plan.step()).await?;
        progress(change);
        tokio::time::sleep(options.pause).await;
    }
    let elapsed = begun.elapsed();
    await_rest(testbed, &plan.clusters()).await?;
    let load = lanes.stop().await;
    let metrics = testbed.control_plane().page("/metrics").await?;
    let nacks = prometheus::sum(&metrics, "kilocard_control_plane_xds_nacks_total", &[]);
    #[expect(clippy::cast_possible_truncation, clippy::cast_sign_loss, reason = "a count")]
    let nacks = nacks as u64;
    let envoy = testbed.envoy();
    let outcome = Outcome {
        changes: options.changes,
        elapsed,
        requests: load.requests,
        failed: load.failed,
        failures: load.failures,
        nacks,
        clusters: (
            envoy.stat("cluster_manager.cluster_added").await?,
            envoy.stat("cluster_manager.cluster_removed").await?,
        ),
        unrouted: (
            envoy.stat("http.gateway.no_route").await?,
            envoy.stat("http.gateway.no_cluster").await?,
        ),
    };
    Ok(outcome)
}

/// Everything that goes has gone: Envoy has the versions that there are, and nothing is under way.
async fn await_rest(testbed: &mut Testbed, versions: &BTreeSet<String>) -> Result<()> {
    poll::until("the proxy to be up to date", DEADLINE, async || {
        let status = testbed.status().await?;
        let node = status.nodes.first().context("no proxy")?;
        let behind: Vec<_> = node.types.iter().filter(|report| report.behind_ms.is_some()).collect();
        ensure!(behind.is_empty(), "behind: {behind:?}");
        let clusters = testbed.envoy().clusters().await?;
        // The model and version come first in the name of a cluster.
        let found: BTreeSet<String> = clusters.iter().filter_map(|name| version_of(name)).collect();
        ensure!(found == *versions, "Envoy has {found:?}, not {versions:?}");
        Ok(())
    })
    .await
}

/// `<model>/<version>` of a cluster's name, which begins with it; `None` for the control plane's own cluster.
fn version_of(cluster: &str) -> Option<String> {
    let (model, rest) = cluster.split_once('/')?;
    let version = rest.split(|c: char| !c.is_ascii_alphanumeric()).next()?;
    Some(format!("{model}/{version}"))
}

struct Store {
    etcd: EtcdClient,
    layout: Layout,
}

impl Store {
    async fn apply(&mut self, writes: Vec<Write>) -> Result<()> {
        for write in writes {
            match write {
                Write::Put(key, document) => {
                    let json = serde_json::to_vec(&document)?;
                    self.etcd.put(self.layout.key(&key), json, None).await?;
                }
                Write::Delete(key) => {
                    self.say_goodbye(&key).await?;
                    self.etcd.delete(self.layout.key(&key), None).await?;
                }
            }
        }
        Ok(())
    }

    /// What a worker writes before it leaves: of many that vanish without it, the control plane holds the endpoints.
    async fn say_goodbye(&mut self, key: &Key) -> Result<()> {
        let Key::Worker(id) = key else { return Ok(()) };
        let leaving = json!({
            "id": id, "address": "127.0.0.1:1", "node": "simulated", "draining": true,
            "models": [{"model": "leaving", "version": "v1"}],
        });
        self.etcd
            .put(self.layout.key(key), serde_json::to_vec(&leaving)?, None)
            .await?;
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn outcome(requests: u64, failed: u64) -> Outcome {
        Outcome {
            changes: 1,
            elapsed: Duration::ZERO,
            requests,
            failures: vec![],
            failed,
            nacks: 0,
            clusters: (0, 0),
            unrouted: (0, 0),
        }
    }

    #[test]
    fn no_failure_in_so_many_requests_bounds_their_share_by_the_rule_of_three() {
        let bound = outcome(10_000, 0).upper_bound();
        assert!((bound - 2.995e-4).abs() < 1e-6, "{bound}");
        assert!(outcome(10_000, 1).upper_bound() > bound);
        assert!(outcome(0, 0).upper_bound() >= 0.9);
    }
}
