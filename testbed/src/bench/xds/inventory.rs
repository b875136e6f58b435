//! The records of a mesh that only exists in etcd: policies, cards and workers as operators, agents and workers write them.
//! Nobody serves at the addresses, and every card says that it is simulated.

use kilocard_registry::layout::{DeviceId, Key, Layout, PolicyId};
use serde_json::{Value, json};

/// A key and its value.
pub(super) type Entry = (String, Vec<u8>);

/// The cards, dealt out in turn: name as NVML gives it, architecture, GiB.
const CARDS: [(&str, &str, f64); 4] = [
    ("NVIDIA H100 80GB HBM3", "hopper", 80.0),
    ("NVIDIA A100-SXM4-80GB", "ampere", 80.0),
    ("NVIDIA L40S", "ada", 48.0),
    ("Tesla V100-SXM2-16GB", "volta", 16.0),
];
/// Cards in one node.
const CARDS_A_NODE: usize = 8;
/// Versions of one model; a routing policy names them.
const VERSIONS: usize = 2;
/// Free memory in percent that workers report: between "about to refuse" and "ample", where the weight depends on it.
const FREE_PERCENT: [u64; 8] = [8, 10, 12, 14, 16, 18, 20, 22];

/// The mesh as it stands in etcd.
#[derive(Debug)]
pub(super) struct Inventory {
    layout: Layout,
    clusters: usize,
    /// What each worker reports, as an index into [`FREE_PERCENT`].
    free: Vec<usize>,
}

impl Inventory {
    /// So many workers, dealt out over so many model versions.
    pub(super) fn new(clusters: usize, workers: usize) -> Self {
        Self {
            layout: Layout::default(),
            clusters: clusters.max(1),
            free: (0..workers).map(|worker| worker % FREE_PERCENT.len()).collect(),
        }
    }

    pub(super) fn workers(&self) -> usize {
        self.free.len()
    }

    /// Everything, policies and cards first.
    pub(super) fn entries(&self) -> Vec<Entry> {
        let models = 0..self.clusters.div_ceil(VERSIONS);
        let policies = models.map(|model| self.policy(model));
        let devices = (0..self.workers()).map(|worker| self.device(worker));
        let workers = (0..self.workers()).map(|worker| self.worker(worker));
        policies.chain([self.weights()]).chain(devices).chain(workers).collect()
    }

    /// Every change of a report is a change of a weight, at once and in full: what is measured is the way to the proxies, and
    /// not how slowly weights follow.
    fn weights(&self) -> Entry {
        let document = json!({
            "api_version": "kilocard/v1", "kind": "WeightPolicy", "metadata": {"name": "bench"},
            "spec": {
                "smoothing": {"up_percent": 100, "down_percent": 100, "max_up_percent": 1000, "max_down_percent": 1},
                "publication": {"grid_percent": 1, "interval_ms": 100, "settle_ms": 1000},
                "slow_start": {"over_ms": 0},
            },
        });
        let key = Key::Policy(PolicyId::new("WeightPolicy", "bench"));
        (self.layout.key(&key), document.to_string().into_bytes())
    }

    /// Lets so many workers, picked at random, report another state of their memory. Gives their records.
    pub(super) fn change(&mut self, count: usize, random: &mut fastrand::Rng) -> Vec<Entry> {
        let picked = random.choose_multiple(0..self.workers(), count);
        for worker in &picked {
            // One of the others, so that each record really changes.
            let step = random.usize(1..FREE_PERCENT.len());
            if let Some(free) = self.free.get_mut(*worker) {
                *free = (*free + step) % FREE_PERCENT.len();
            }
        }
        picked.into_iter().map(|worker| self.worker(worker)).collect()
    }

    fn policy(&self, model: usize) -> Entry {
        let name = model_name(model);
        let versions = (0..VERSIONS).filter(|version| model * VERSIONS + version < self.clusters);
        let count = versions.clone().count();
        let versions: Vec<Value> = versions
            .map(|version| {
                let weight = if version == 0 { 100 - 10 * (count - 1) } else { 10 };
                json!({"version": format!("v{}", version + 1), "weight": weight})
            })
            .collect();
        let document = json!({
            "api_version": "kilocard/v1", "kind": "RoutingPolicy", "metadata": {"name": name},
            "spec": {"model": name, "default": model == 0, "salt": name, "versions": versions},
        });
        let key = Key::Policy(PolicyId::new("RoutingPolicy", name));
        (self.layout.key(&key), document.to_string().into_bytes())
    }

    fn device(&self, worker: usize) -> Entry {
        let (model, arch, memory_gb) = card(worker);
        let record = json!({
            "model": model, "memory_gb": memory_gb, "arch": arch, "nvlink": arch != "ada",
            "zone": format!("zone-{}", worker / 1024 % 3), "simulated": true,
        });
        (
            self.layout.key(&Key::Device(device_id(worker))),
            record.to_string().into_bytes(),
        )
    }

    fn worker(&self, worker: usize) -> Entry {
        let cluster = worker % self.clusters;
        let device = device_id(worker);
        let (_, _, memory_gb) = card(worker);
        let total = (memory_gb as u64) << 30;
        let percent = self
            .free
            .get(worker)
            .and_then(|free| FREE_PERCENT.get(*free))
            .copied()
            .unwrap_or_default();
        let id = format!("w-{worker:05}");
        let record = json!({
            "id": id, "address": address(worker), "node": device.node, "device": device.pci,
            "models": [{"model": model_name(cluster / VERSIONS), "version": format!("v{}", cluster % VERSIONS + 1)}],
            "telemetry": {
                "simulated": true, "memory_total_bytes": total, "memory_free_bytes": total / 100 * percent,
            },
        });
        (self.layout.key(&Key::Worker(id)), record.to_string().into_bytes())
    }
}

fn card(worker: usize) -> (&'static str, &'static str, f64) {
    // By node, since the cards of one node are alike.
    CARDS
        .get(worker / CARDS_A_NODE % CARDS.len())
        .copied()
        .unwrap_or(("unknown", "unknown", 1.0))
}

fn model_name(model: usize) -> String {
    format!("model-{model:03}")
}

fn device_id(worker: usize) -> DeviceId {
    DeviceId {
        node: format!("gpu-node-{:04}", worker / CARDS_A_NODE),
        pci: format!("0000:{:02x}:00.0", 0x1b + worker % CARDS_A_NODE),
    }
}

/// One of its own in 10.0.0.0/8.
fn address(worker: usize) -> String {
    format!(
        "10.{}.{}.{}:8001",
        (worker >> 16) & 0xff,
        (worker >> 8) & 0xff,
        worker & 0xff
    )
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::collections::BTreeSet;

    #[test]
    fn every_worker_has_a_key_an_address_and_a_card_of_its_own() {
        let inventory = Inventory::new(50, 1000);
        let entries = inventory.entries();
        let keys: BTreeSet<&String> = entries.iter().map(|(key, _)| key).collect();
        // Besides the policies of 25 models, the one of the weights.
        assert_eq!(keys.len(), 25 + 1 + 1000 + 1000);
        let addresses: BTreeSet<String> = (0..70_000).map(address).collect();
        assert_eq!(addresses.len(), 70_000);
    }

    #[test]
    fn a_change_alters_as_many_records_as_asked() {
        let mut inventory = Inventory::new(3, 100);
        let before = inventory.entries();
        let changed = inventory.change(10, &mut fastrand::Rng::with_seed(7));
        assert_eq!(changed.len(), 10);
        let after = inventory.entries();
        let different = before.iter().zip(&after).filter(|(before, after)| before != after);
        assert_eq!(different.count(), 10);
    }

    #[test]
    fn the_weights_of_a_models_versions_are_a_hundred() {
        for clusters in [1, 2, 3, 50] {
            for (key, value) in Inventory::new(clusters, 0).entries() {
                let document: Value = serde_json::from_slice(&value).unwrap();
                let Some(versions) = document["spec"]["versions"].as_array() else {
                    assert_eq!(document["kind"], "WeightPolicy", "{key}");
                    continue;
                };
                let sum: u64 = versions.iter().filter_map(|version| version["weight"].as_u64()).sum();
                assert_eq!(sum, 100, "{key}");
            }
        }
    }
}
