//! How many replicas the pools shall have. A pool is a version of a model; its replicas are the workers that serve it.
//!
//! Owns: what of a mesh is told to `kilocard-scaling`, its time, and who is told the answer: `/metrics`, `/status` and KEDA
//! ([`keda`]). Must not know: who starts and ends workers.

pub mod keda;
pub mod pool;

use crate::model::Mesh;
use crate::weights::{SharedWeights, Weights};
use kilocard_policy::config::{RoutingPolicy, ScalePolicy, Spec};
use kilocard_registry::worker::ServedModel;
use kilocard_scaling::Scaler;
use pool::{Plan, Pool};
use std::collections::{BTreeMap, BTreeSet};
use std::sync::Arc;
use std::time::{Duration, Instant};
use tokio::sync::watch;
use tokio::time::{MissedTickBehavior, interval};
use tokio_util::sync::CancellationToken;

/// How often it is decided. Workers report about as often.
const EVERY: Duration = Duration::from_secs(1);

/// The pools of the mesh, as of the last decision.
pub type Pools = BTreeMap<ServedModel, Pool>;

/// Decides until cancelled. `pools` holds `None` until the first mesh.
pub async fn run(
    mesh: watch::Receiver<Option<Arc<Mesh>>>,
    weights: SharedWeights,
    pools: watch::Sender<Option<Arc<Pools>>>,
    cancel: CancellationToken,
) {
    let deciding = async {
        let (mut scaling, mut tick) = (Scaling::default(), interval(EVERY));
        tick.set_missed_tick_behavior(MissedTickBehavior::Delay);
        loop {
            tick.tick().await;
            let Some(newest) = mesh.borrow().clone() else { continue };
            let decided = scaling.decide(&newest, &weights.lock(), Instant::now());
            pools.send_if_modified(|current| {
                let changed = current.as_deref() != Some(&decided);
                if changed {
                    *current = Some(Arc::new(decided));
                }
                changed
            });
        }
    };
    let _ = cancel.run_until_cancelled(deciding).await;
}

/// The pools over time.
#[derive(Debug)]
pub struct Scaling {
    scalers: BTreeMap<ServedModel, Scaler>,
    began: Instant,
}

impl Default for Scaling {
    fn default() -> Self {
        Self {
            scalers: BTreeMap::new(),
            began: Instant::now(),
        }
    }
}

impl Scaling {
    /// Decides for every pool that a ScalePolicy is for; the others are only measured. A pool is known by its workers, by a
    /// RoutingPolicy that names its version, or by a ScalePolicy that does.
    pub fn decide(&mut self, mesh: &Mesh, weights: &Weights, now: Instant) -> Pools {
        let at = now.saturating_duration_since(self.began);
        let policies = Policies::of(mesh);
        let mut pools = pool::measure(mesh, weights, now);
        for served in policies.named() {
            pools.entry(served).or_default();
        }
        self.scalers.retain(|served, _| pools.contains_key(served));
        for (served, pool) in &mut pools {
            let Some((name, policy)) = policies.scale(served) else {
                self.scalers.remove(served);
                continue;
            };
            let scaler = self.scalers.entry(served.clone()).or_insert_with(|| {
                let there = u32::try_from(pool.samples.len()).unwrap_or(u32::MAX);
                Scaler::new(there, at)
            });
            pool.plan = Some(Plan {
                policy: name.to_owned(),
                decision: scaler.decide(policy, &pool.samples, policies.routes(served), at),
            });
        }
        pools
    }
}

/// What the policies in force say of pools.
#[derive(Default)]
struct Policies<'m> {
    /// By model and version; for all versions of a model there is none.
    scales: BTreeMap<(&'m str, Option<&'m str>), (&'m str, &'m ScalePolicy)>,
    /// The versions that routing knows, and whether requests may come to them.
    routed: BTreeMap<(&'m str, &'m str), bool>,
}

impl<'m> Policies<'m> {
    fn of(mesh: &'m Mesh) -> Self {
        let mut policies = Self::default();
        for in_force in mesh.policies.values() {
            let document = &in_force.document;
            match document.spec() {
                Spec::Scale(policy) => {
                    let of = (policy.model.as_str(), policy.version.as_deref());
                    policies.scales.insert(of, (document.name(), policy));
                }
                Spec::Routing(routing) => {
                    let wanted = wanted(routing);
                    let versions = routing.versions.iter().map(|version| version.version.as_str());
                    let routed = versions.map(|version| ((routing.model.as_str(), version), wanted.contains(version)));
                    policies.routed.extend(routed);
                }
                _ => {}
            }
        }
        policies
    }

    fn named(&self) -> impl Iterator<Item = ServedModel> {
        let by_routing = self.routed.keys().copied();
        let by_scaling = self
            .scales
            .keys()
            .filter_map(|(model, version)| Some((*model, (*version)?)));
        by_routing.chain(by_scaling).map(|(model, version)| ServedModel {
            model: model.to_owned(),
            version: version.to_owned(),
        })
    }

    /// The name of the document, and the document: that of the version goes before that of all versions.
    fn scale(&self, served: &ServedModel) -> Option<(&'m str, &'m ScalePolicy)> {
        let of = |version| self.scales.get(&(served.model.as_str(), version)).copied();
        of(Some(&served.version)).or_else(|| of(None))
    }

    fn routes(&self, served: &ServedModel) -> bool {
        let of = (served.model.as_str(), served.version.as_str());
        self.routed.get(&of).copied().unwrap_or(false)
    }
}

/// The versions that requests may come to without naming them: by weight, as a fallback of such a one, or as copies; and the
/// first, which takes what the others leave.
fn wanted(routing: &RoutingPolicy) -> BTreeSet<&str> {
    let split = routing
        .versions
        .iter()
        .filter(|version| version.weight.basis_points() > 0);
    let fallbacks = split.clone().flat_map(|version| &version.fallback);
    let rules = routing.rules.iter().flat_map(|rule| &rule.versions);
    let by_rules = rules.filter(|version| version.weight.basis_points() > 0);
    let first = routing.versions.first().map(|version| &version.version);
    first
        .into_iter()
        .chain(split.map(|version| &version.version))
        .chain(fallbacks)
        .chain(by_rules.map(|version| &version.version))
        .chain(routing.shadow.as_ref().map(|shadow| &shadow.version))
        .map(String::as_str)
        .collect()
}

#[cfg(test)]
mod tests;
