//! What the replicas of each pool bear.

use super::Pools;
use crate::model::{Mesh, Worker};
use crate::weights::{Weights, living};
use kilocard_registry::report::{ScaleMetricReport, ScaleReport};
use kilocard_registry::worker::{ServedModel, Telemetry};
use kilocard_scaling::{Decision, Load, Sample};
use kilocard_weights::Standing;
use std::time::Instant;

/// The replicas of a version, and how many there shall be.
#[derive(Clone, Debug, Default, PartialEq)]
pub struct Pool {
    /// What is known of each replica.
    pub samples: Vec<Sample>,
    /// Whether what any of them reports is made up.
    pub is_simulated: bool,
    /// How many there shall be; `None` without a ScalePolicy.
    pub plan: Option<Plan>,
}

/// How many replicas there shall be, by a policy.
#[derive(Clone, Debug, PartialEq)]
pub struct Plan {
    /// The document's name.
    pub policy: String,
    /// What was decided.
    pub decision: Decision,
}

/// The pools that have workers.
///
/// What a worker reports is of all versions that it serves; so it counts in the pool of each, as each needs all of it.
pub(super) fn measure(mesh: &Mesh, weights: &Weights, now: Instant) -> Pools {
    let mut pools = Pools::new();
    for (id, worker) in living(mesh) {
        for served in &worker.models {
            let pool = pools.entry(served.clone()).or_default();
            pool.samples.push(sample(served, id, worker, weights, now));
            pool.is_simulated |= worker.telemetry.as_ref().is_some_and(|telemetry| telemetry.simulated);
        }
    }
    pools
}

fn sample(served: &ServedModel, id: &str, worker: &Worker, weights: &Weights, now: Instant) -> Sample {
    let weighed = weights.weighed(served, id);
    Sample {
        is_ready: weighed.is_some_and(|weighed| !matches!(weighed.standing, Standing::Drained(_))),
        is_stale: weights.is_stale(served, id, now),
        load: worker.telemetry.as_ref().map(load).unwrap_or_default(),
    }
}

fn load(telemetry: &Telemetry) -> Load {
    Load {
        qps: telemetry.engine.requests_per_second,
        memory_percent: telemetry.free_memory().map(|free| (1.0 - free) * 100.0),
        queue: telemetry.engine.queue,
    }
}

impl Pool {
    /// Replicas that take requests.
    pub fn ready(&self) -> usize {
        self.samples.iter().filter(|sample| sample.is_ready).count()
    }

    /// How many there shall be, if anybody says.
    pub fn desired(&self) -> Option<u32> {
        self.plan.as_ref().map(|plan| plan.decision.replicas)
    }

    /// Requests per second of all ready replicas with a fresh report; `None` when no such report tells.
    pub fn qps(&self) -> Option<f64> {
        self.of(|load| load.qps).reduce(|sum, value| sum + value)
    }

    /// Sequences that wait, likewise.
    pub fn queue(&self) -> Option<f64> {
        self.of(|load| load.queue).reduce(|sum, value| sum + value)
    }

    /// Memory in use, percent, the mean of them.
    pub fn memory_percent(&self) -> Option<f64> {
        let (count, sum) = self
            .of(|load| load.memory_percent)
            .fold((0_u32, 0.0), |(count, sum), value| (count + 1, sum + value));
        (count > 0).then(|| sum / f64::from(count))
    }

    /// That of the fullest.
    pub fn memory_max_percent(&self) -> Option<f64> {
        self.of(|load| load.memory_percent).reduce(f64::max)
    }

    fn of(&self, value: impl Fn(&Load) -> Option<f64>) -> impl Iterator<Item = f64> {
        let fresh = self.samples.iter().filter(|sample| sample.is_ready && !sample.is_stale);
        fresh.filter_map(move |sample| value(&sample.load))
    }

    /// For people and programs.
    pub fn report(&self, served: &ServedModel) -> ScaleReport {
        let decision = self.plan.as_ref().map(|plan| &plan.decision);
        let proposals = decision.into_iter().flat_map(|decision| &decision.proposals);
        let metrics = proposals.map(|proposal| ScaleMetricReport {
            name: proposal.metric.as_str().to_owned(),
            value: proposal.value,
            target: proposal.target,
            missing: proposal.missing,
            replicas: proposal.replicas,
        });
        ScaleReport {
            model: served.model.clone(),
            version: served.version.clone(),
            policy: self.plan.as_ref().map(|plan| plan.policy.clone()),
            desired_replicas: self.desired(),
            reason: decision.map(|decision| decision.reason.to_string()),
            replicas: u32::try_from(self.samples.len()).unwrap_or(u32::MAX),
            ready_replicas: u32::try_from(self.ready()).unwrap_or(u32::MAX),
            qps: self.qps(),
            gpu_memory_used_percent: self.memory_percent(),
            gpu_memory_used_max_percent: self.memory_max_percent(),
            queue: self.queue(),
            metrics: metrics.collect(),
            simulated: self.is_simulated,
        }
    }
}
