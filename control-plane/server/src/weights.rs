//! The weights of the mesh's endpoints: what meshes say, told to the fleet of `kilocard-weights`, and the fleet's time.

use crate::model::{Mesh, Policies, Worker};
use kilocard_policy::config::Spec;
use kilocard_registry::device::DeviceRecord;
use kilocard_registry::report::WeightFactors;
use kilocard_registry::worker::{ServedModel, Telemetry};
use kilocard_weights::{Card, Fleet, Locality, Params, Site, Split, Standing, Subject, Weighed};
use std::collections::BTreeMap;
use std::net::SocketAddr;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::{Duration, Instant};

/// One fleet for whoever builds snapshots, which moves it on, and for reports, which only look.
#[derive(Clone, Debug, Default)]
pub struct SharedWeights(Arc<Mutex<Weights>>);

impl SharedWeights {
    /// The fleet, for as long as the guard lives.
    pub fn lock(&self) -> MutexGuard<'_, Weights> {
        // Nothing panics while it holds the lock; if it did, the fleet would still be whole.
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

/// The fleet, and of what it has been told.
#[derive(Debug)]
pub struct Weights {
    fleet: Fleet,
    told: BTreeMap<String, Told>,
    policies: Arc<Policies>,
    began: Instant,
}

/// What the fleet knows of a worker.
#[derive(Debug)]
struct Told {
    worker: Arc<Worker>,
    device: Option<Arc<DeviceRecord>>,
}

impl Default for Weights {
    fn default() -> Self {
        Self {
            fleet: Fleet::default(),
            told: BTreeMap::new(),
            policies: Arc::default(),
            began: Instant::now(),
        }
    }
}

impl Weights {
    /// Tells the fleet what has changed in the mesh, and moves it on to `now`.
    pub fn follow(&mut self, mesh: &Mesh, now: Instant) {
        let at = self.at(now);
        self.adopt(&mesh.policies);
        let living = living(mesh);
        let (fleet, told) = (&mut self.fleet, &mut self.told);
        told.retain(|id, _| {
            let stays = living.contains_key(id.as_str());
            if !stays {
                fleet.forget(id);
            }
            stays
        });
        for (id, worker) in living {
            let device = worker.device.as_ref().and_then(|device| mesh.devices.get(device));
            if told.get(id).is_some_and(|told| told.is(worker, device)) {
                continue;
            }
            observe(fleet, worker, device.map(Arc::as_ref), at);
            let now_told = Told {
                worker: Arc::clone(worker),
                device: device.cloned(),
            };
            told.insert(id.to_owned(), now_told);
        }
        self.fleet.tick(at);
    }

    /// Takes the constants of other policies, and then tells the fleet everything again.
    fn adopt(&mut self, policies: &Arc<Policies>) {
        if Arc::ptr_eq(&self.policies, policies) {
            return;
        }
        self.policies = Arc::clone(policies);
        let params = Params::compile(policies.values().filter_map(|policy| match policy.document.spec() {
            Spec::Weights(weights) => Some(weights),
            _ => None,
        }));
        if params != **self.fleet.params() {
            self.fleet.set_params(Arc::new(params));
            self.told.clear();
        }
    }

    /// When to [`follow`](Self::follow) again even if the mesh does not change.
    pub fn due(&self) -> Option<Instant> {
        self.fleet.due().map(|due| self.began + due)
    }

    /// What proxies are told of an endpoint.
    pub fn weighed(&self, served: &ServedModel, worker: &str) -> Option<Weighed> {
        self.fleet.weighed(served, worker)
    }

    /// Why an endpoint weighs what it weighs.
    pub fn explain(&self, served: &ServedModel, worker: &str, now: Instant) -> Option<WeightFactors> {
        self.fleet.explain(served, worker, self.at(now))
    }

    /// Whether the last report of an endpoint is older than it was promised to get.
    pub fn is_stale(&self, served: &ServedModel, worker: &str, now: Instant) -> bool {
        self.fleet.is_stale(served, worker, self.at(now))
    }

    /// Whether endpoints take requests, all of them.
    pub fn standings(&self) -> impl Iterator<Item = Standing> {
        self.fleet.standings()
    }

    /// Where an endpoint is, at the level that counts for its model.
    pub fn locality(&self, served: &ServedModel, worker: &str) -> Option<&Arc<Locality>> {
        self.fleet.locality(served, worker)
    }

    /// The localities whose proxies send requests elsewhere, and how many of them where, of all versions.
    pub fn splits(&self) -> impl Iterator<Item = (&ServedModel, &Locality, &Split)> {
        self.fleet.splits()
    }

    /// What the endpoints of a version can bear and bear, by locality.
    pub fn sites(&self, served: &ServedModel, now: Instant) -> BTreeMap<Arc<Locality>, Site> {
        self.fleet.sites(served, self.at(now))
    }

    fn at(&self, now: Instant) -> Duration {
        now.saturating_duration_since(self.began)
    }
}

impl Told {
    fn is(&self, worker: &Arc<Worker>, device: Option<&Arc<DeviceRecord>>) -> bool {
        let same_device = match (&self.device, device) {
            (Some(told), Some(device)) => Arc::ptr_eq(told, device),
            (None, None) => true,
            _ => false,
        };
        same_device && Arc::ptr_eq(&self.worker, worker)
    }
}

fn observe(fleet: &mut Fleet, worker: &Worker, device: Option<&DeviceRecord>, at: Duration) {
    let unlisted = worker.device.as_ref().map(ToString::to_string);
    let card = match (device, &unlisted) {
        (Some(device), _) => Card::Known {
            device,
            mig: worker.mig_profile.as_deref(),
        },
        (None, Some(id)) => Card::Unlisted(id),
        (None, None) => Card::Cpu,
    };
    let subject = Subject {
        card,
        telemetry: worker.telemetry.as_ref(),
        locality: &locality(worker, device),
        pools: &worker.models,
    };
    fleet.observe(&worker.id, &subject, at);
}

/// Where the worker says that it runs, or else where its card is.
fn locality(worker: &Worker, device: Option<&DeviceRecord>) -> Locality {
    let of_card = || {
        let device = device?;
        Some(Locality {
            zone: device.zone.clone()?,
            rack: device.rack.clone().unwrap_or_default(),
        })
    };
    worker.locality.clone().or_else(of_card).unwrap_or_default()
}

/// The workers that live and have not said that they leave, by id: of those with one address only the youngest, see [`Worker::created`].
pub fn living(mesh: &Mesh) -> BTreeMap<&str, &Arc<Worker>> {
    let mut youngest: BTreeMap<SocketAddr, &Arc<Worker>> = BTreeMap::new();
    for worker in mesh.workers.values().filter(|worker| !worker.draining) {
        let place = youngest.entry(worker.address).or_insert(worker);
        if (worker.created, &worker.id) > (place.created, &place.id) {
            *place = worker;
        }
    }
    youngest
        .into_values()
        .map(|worker| (worker.id.as_str(), worker))
        .collect()
}

/// Telemetry whose memory contradicts itself is treated as having none.
pub(crate) fn is_coherent(telemetry: &Telemetry) -> bool {
    telemetry.memory_total_bytes > 0 && telemetry.memory_free_bytes <= telemetry.memory_total_bytes
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::snapshot::tests::{mesh, policies};
    use kilocard_registry::telemetry::XidEvent;
    use serde_json::json;

    const SECOND: Duration = Duration::from_secs(1);

    fn served() -> ServedModel {
        ServedModel {
            model: "minilm".into(),
            version: "v1".into(),
        }
    }

    fn weight(weights: &Weights, worker: &str) -> u32 {
        weights.weighed(&served(), worker).unwrap().weight
    }

    #[test]
    fn a_policy_that_comes_into_force_changes_the_weights_of_workers_that_did_not_change() {
        let (mut weights, mut mesh, now) = (Weights::default(), mesh(), Instant::now());
        weights.follow(&mesh, now);
        assert_eq!(weight(&weights, "a"), 400);
        let cards = json!({
            "api_version": "kilocard/v1", "kind": "WeightPolicy", "metadata": {"name": "w"},
            "spec": {"cards": [{"product": "H100", "capacity": 300}]},
        });
        mesh.policies = policies(&[cards]);
        let mut then = now;
        for _ in 0..30 {
            then += SECOND;
            weights.follow(&mesh, then);
        }
        assert_eq!(weight(&weights, "a"), 300);
    }

    #[test]
    fn a_worker_that_has_gone_is_forgotten_and_one_with_a_fault_is_counted() {
        let (mut weights, mut mesh, now) = (Weights::default(), mesh(), Instant::now());
        weights.follow(&mesh, now);
        let worker = Arc::make_mut(Arc::make_mut(&mut mesh.workers).get_mut("b").unwrap());
        worker.telemetry.as_mut().unwrap().gpu.xids = vec![XidEvent { code: 79, at_ms: 0 }];
        weights.follow(&mesh, now + SECOND);
        let drained = |standing: &Standing| matches!(standing, Standing::Drained(_));
        assert_eq!(
            weights.standings().filter(drained).count(),
            1,
            "alone in the pool of other/v9 it is held"
        );
        Arc::make_mut(&mut mesh.workers).remove("b");
        weights.follow(&mesh, now + SECOND);
        assert_eq!(weights.weighed(&served(), "b"), None);
    }
}
