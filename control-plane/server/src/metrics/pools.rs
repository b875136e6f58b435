//! What the pools bear and how many replicas they shall have, for Prometheus: `kilocard_pool_*`.

use crate::scaling::Pools;
use crate::scaling::pool::Pool;
use prometheus_client::metrics::family::Family;
use prometheus_client::metrics::gauge::Gauge;
use prometheus_client::registry::Registry;
use std::sync::atomic::AtomicU64;

/// A model and its version.
type ByPool = [(&'static str, String); 2];
/// A gauge for each pool of which it is known.
type GaugeByPool = Family<ByPool, Gauge<f64, AtomicU64>>;

/// A gauge: its name, its meaning, and its value of a pool; `None` where that is not known.
type Definition = (&'static str, &'static str, fn(&Pool) -> Option<f64>);

const DEFINITIONS: [Definition; 7] = [
    ("qps", "Requests per second of the ready replicas", Pool::qps),
    (
        "gpu_memory_used_percent",
        "Memory in use, the mean of the ready replicas",
        Pool::memory_percent,
    ),
    (
        "gpu_memory_used_max_percent",
        "Memory in use of the fullest ready replica",
        Pool::memory_max_percent,
    ),
    ("queue", "Sequences that wait in the ready replicas", Pool::queue),
    ("ready_replicas", "Replicas that take requests", |pool| {
        Some(pool.ready() as f64)
    }),
    ("desired_replicas", "Replicas that there shall be", |pool| {
        pool.desired().map(f64::from)
    }),
    ("simulated", "1 where the load is simulated", |pool| {
        Some(f64::from(u8::from(pool.is_simulated)))
    }),
];

/// All of it. A series that is not there is not known.
pub(super) fn registry(pools: &Pools) -> Registry {
    let mut registry = Registry::with_prefix("kilocard_pool");
    for (name, help, value) in DEFINITIONS {
        let family = GaugeByPool::default();
        for (served, pool) in pools {
            if let Some(value) = value(pool) {
                let labels = [("model", served.model.clone()), ("version", served.version.clone())];
                family.get_or_create(&labels).set(value);
            }
        }
        registry.register(name, help, family);
    }
    registry
}
