//! Which change comes next, and what it writes into etcd. Pure: the same seed gives the same changes.

use fastrand::Rng;
use kilocard_registry::layout::{Key, PolicyId};
use serde_json::{Value, json};
use std::collections::{BTreeMap, BTreeSet};

/// The models that are asked for all the time.
pub(super) const STABLE: [&str; 2] = ["alpha", "beta"];
/// The version that every model keeps.
const BASE: &str = "base";
const MAX_VERSIONS: usize = 5;
const MAX_MODELS: usize = 8;
const MAX_WORKERS: usize = 4;

/// One write.
#[derive(Clone, Debug, PartialEq)]
pub(super) enum Write {
    Put(Key, Value),
    Delete(Key),
}

/// What there is now.
#[derive(Debug)]
pub(super) struct Plan {
    addresses: Vec<String>,
    models: BTreeMap<String, Model>,
    random: Rng,
    /// Names are not used twice: a version that comes back would meet what lingers of it.
    names: u32,
    strict: bool,
}

#[derive(Debug, Default)]
struct Model {
    /// By version: the workers, each with the index of its address.
    versions: BTreeMap<String, BTreeMap<String, usize>>,
    weights: BTreeMap<String, u32>,
}

/// Policies of the models that stay, before any worker is there.
pub(super) fn initial_policies() -> Vec<Value> {
    STABLE
        .into_iter()
        .map(|name| routing(name, &BTreeMap::from([(BASE.to_owned(), 100)])))
        .collect()
}

fn routing(model: &str, weights: &BTreeMap<String, u32>) -> Value {
    // A version that is not ready gives way to the one that always is.
    let versions: Vec<Value> = weights
        .iter()
        .map(|(version, weight)| match version.as_str() {
            BASE => json!({"version": version, "weight": weight}),
            _ => json!({"version": version, "weight": weight, "fallback": [BASE]}),
        })
        .collect();
    json!({
        "api_version": "kilocard/v1", "kind": "RoutingPolicy", "metadata": {"name": model},
        "spec": {"model": model, "versions": versions},
    })
}

fn policy(kind: &str, name: &str) -> Key {
    Key::Policy(PolicyId::new(kind, name))
}

impl Plan {
    pub(super) fn new(addresses: Vec<String>, seed: u64) -> Self {
        Self {
            addresses,
            models: BTreeMap::new(),
            random: Rng::with_seed(seed),
            names: 0,
            strict: false,
        }
    }

    /// The models that stay, each with two workers.
    pub(super) fn start(&mut self) -> Vec<Write> {
        let mut writes = Vec::new();
        for name in STABLE {
            self.models.insert(name.to_owned(), Model::base());
            writes.extend(
                [self.add_worker(name, BASE), self.add_worker(name, BASE)]
                    .into_iter()
                    .flatten(),
            );
        }
        writes
    }

    /// The versions that there are once all is at rest, as `<model>/<version>`.
    pub(super) fn clusters(&self) -> BTreeSet<String> {
        let models = self.models.iter();
        models
            .flat_map(|(name, model)| model.versions.keys().map(move |version| format!("{name}/{version}")))
            .collect()
    }

    /// The next change.
    pub(super) fn step(&mut self) -> Vec<Write> {
        loop {
            let model = self.any_model();
            let writes = match self.random.u32(0..100) {
                0..20 => self.reweigh(&model),
                20..35 => self.add_version(&model),
                35..50 => self.remove_version(&model),
                50..70 => self.move_worker(&model),
                70..78 => {
                    let version = self.any_version(&model);
                    self.add_worker(&model, &version).into_iter().collect()
                }
                78..86 => self.remove_worker(&model),
                86..91 => self.add_model(),
                91..95 => self.remove_model(&model),
                _ => self.toggle_validation(),
            };
            if !writes.is_empty() {
                return writes;
            }
        }
    }

    fn any_model(&mut self) -> String {
        let names: Vec<&String> = self.models.keys().collect();
        // Half of the changes are to what is asked for.
        if self.random.bool() {
            return STABLE[self.random.usize(0..STABLE.len())].to_owned();
        }
        names[self.random.usize(0..names.len())].clone()
    }

    fn any_version(&mut self, model: &str) -> String {
        let versions: Vec<&String> = self.models[model].versions.keys().collect();
        versions[self.random.usize(0..versions.len())].clone()
    }

    fn fresh(&mut self, prefix: &str) -> String {
        self.names += 1;
        format!("{prefix}{}", self.names)
    }

    /// An address that no worker has: of two workers with one address the control plane believes the younger.
    fn free_address(&mut self) -> Option<usize> {
        let versions = self.models.values().flat_map(|model| model.versions.values());
        let taken: BTreeSet<usize> = versions.flat_map(BTreeMap::values).copied().collect();
        let free: Vec<usize> = (0..self.addresses.len())
            .filter(|index| !taken.contains(index))
            .collect();
        (!free.is_empty()).then(|| free[self.random.usize(0..free.len())])
    }

    fn put_routing(&self, model: &str) -> Write {
        Write::Put(
            policy("RoutingPolicy", model),
            routing(model, &self.models[model].weights),
        )
    }

    /// New weights for the versions, 100 together.
    fn reweigh(&mut self, name: &str) -> Vec<Write> {
        let Some(model) = self.models.get_mut(name) else {
            return Vec::new();
        };
        let mut left = 100;
        let mut weights = BTreeMap::new();
        for version in model.versions.keys().filter(|version| *version != BASE) {
            let weight = self.random.u32(0..=left / 2);
            left -= weight;
            weights.insert(version.clone(), weight);
        }
        weights.insert(BASE.to_owned(), left);
        model.weights = weights;
        vec![self.put_routing(name)]
    }

    /// Workers first or policy first: either may be what an operator does.
    fn add_version(&mut self, name: &str) -> Vec<Write> {
        let version = self.fresh("v");
        let Some(model) = self
            .models
            .get_mut(name)
            .filter(|model| model.versions.len() < MAX_VERSIONS)
        else {
            return Vec::new();
        };
        model.versions.insert(version.clone(), BTreeMap::new());
        let worker = self.add_worker(name, &version);
        let mut writes: Vec<Write> = self.reweigh(name).into_iter().chain(worker).collect();
        if self.random.bool() {
            writes.reverse();
        }
        writes
    }

    /// The policy first: what nobody asks for any more can go.
    fn remove_version(&mut self, name: &str) -> Vec<Write> {
        let version = self.any_version(name);
        if version == BASE {
            return Vec::new();
        }
        let workers = self
            .models
            .get_mut(name)
            .and_then(|model| model.versions.remove(&version));
        let mut writes = self.reweigh(name);
        writes.extend(
            workers
                .into_iter()
                .flatten()
                .map(|(worker, _)| Write::Delete(Key::Worker(worker))),
        );
        writes
    }

    fn add_worker(&mut self, name: &str, version: &str) -> Option<Write> {
        let worker = self.fresh("w");
        let free = self.free_address()?;
        let workers = self.models.get_mut(name)?.versions.get_mut(version)?;
        if workers.len() >= MAX_WORKERS {
            return None;
        }
        workers.insert(worker.clone(), free);
        Some(record(&worker, &self.addresses[free], name, version))
    }

    /// The same worker at another address, as after a restart.
    fn move_worker(&mut self, name: &str) -> Vec<Write> {
        let version = self.any_version(name);
        let moved = (|| {
            let free = self.free_address()?;
            let workers = self.models.get_mut(name)?.versions.get_mut(&version)?;
            let (worker, address) = workers.iter_mut().next()?;
            *address = free;
            Some(record(worker, &self.addresses[free], name, &version))
        })();
        moved.into_iter().collect()
    }

    /// The base version keeps one; another may lose its last.
    fn remove_worker(&mut self, name: &str) -> Vec<Write> {
        let version = self.any_version(name);
        let least = usize::from(version == BASE);
        let removed = (|| {
            let workers = self.models.get_mut(name)?.versions.get_mut(&version)?;
            let worker = workers.keys().next().filter(|_| workers.len() > least)?.clone();
            workers.remove(&worker);
            Some(Write::Delete(Key::Worker(worker)))
        })();
        removed.into_iter().collect()
    }

    fn add_model(&mut self) -> Vec<Write> {
        if self.models.len() >= MAX_MODELS {
            return Vec::new();
        }
        let name = self.fresh("extra-");
        self.models.insert(name.clone(), Model::base());
        let worker = self.add_worker(&name, BASE);
        std::iter::once(self.put_routing(&name)).chain(worker).collect()
    }

    fn remove_model(&mut self, name: &str) -> Vec<Write> {
        if STABLE.contains(&name) {
            return Vec::new();
        }
        let workers = self
            .models
            .remove(name)
            .into_iter()
            .flat_map(|model| model.versions.into_values());
        let workers = workers.flatten().map(|(worker, _)| Write::Delete(Key::Worker(worker)));
        std::iter::once(Write::Delete(policy("RoutingPolicy", name)))
            .chain(workers)
            .collect()
    }

    /// A policy of another kind, which no request of the load offends.
    fn toggle_validation(&mut self) -> Vec<Write> {
        self.strict = !self.strict;
        let key = policy("ValidationPolicy", "limits");
        if !self.strict {
            return vec![Write::Delete(key)];
        }
        let document = json!({
            "api_version": "kilocard/v1", "kind": "ValidationPolicy", "metadata": {"name": "limits"},
            "spec": {"limits": {"max_headers": self.random.u32(100..200)}},
        });
        vec![Write::Put(key, document)]
    }
}

impl Model {
    fn base() -> Self {
        Self {
            versions: BTreeMap::from([(BASE.to_owned(), BTreeMap::new())]),
            weights: BTreeMap::from([(BASE.to_owned(), 100)]),
        }
    }
}

fn record(worker: &str, address: &str, model: &str, version: &str) -> Write {
    let record = json!({
        "id": worker, "address": address, "node": "simulated",
        "models": [{"model": model, "version": version}],
    });
    Write::Put(Key::Worker(worker.to_owned()), record)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn plan(seed: u64) -> Plan {
        Plan::new((0..48).map(|port| format!("127.0.0.1:{}", 9000 + port)).collect(), seed)
    }

    #[test]
    fn every_policy_on_the_way_is_valid_and_what_is_asked_for_always_has_a_worker() {
        let mut plan = plan(7);
        let mut kinds = BTreeSet::new();
        plan.start();
        for _ in 0..3000 {
            for write in plan.step() {
                if let Write::Put(Key::Policy(id), document) = write {
                    let parsed = kilocard_policy::config::parse(&document);
                    assert!(parsed.is_ok(), "{document}: {:?}", parsed.err());
                    kinds.insert(id.kind);
                }
            }
            for name in STABLE {
                let model = &plan.models[name];
                assert!(!model.versions[BASE].is_empty());
                assert_eq!(model.weights.values().sum::<u32>(), 100);
                assert!(model.weights.keys().eq(model.versions.keys()));
            }
        }
        assert_eq!(kinds.len(), 2, "{kinds:?}");
    }

    #[test]
    fn the_same_seed_gives_the_same_changes() {
        let changes = |seed| {
            let mut plan = plan(seed);
            plan.start();
            (0..100).map(|_| plan.step()).collect::<Vec<_>>()
        };
        assert_eq!(changes(1), changes(1));
        assert_ne!(changes(1), changes(2));
    }
}
