//! What GPU memory is free for requests, version by version, as the workers report it.
//!
//! Pure but for the arrival times that it is told: clocks of machines differ, so the age of a report is counted from when it
//! came here.

use crate::model::Mesh;
use kilocard_policy::config::{MemoryCost, Spec};
use kilocard_proto::kilocard::sync::v1::VersionMemory;
use std::collections::BTreeMap;
use std::time::Duration;

/// 1 TiB, the most that a card is taken to have where no record says which one a worker has. It is over three times the
/// largest card of today (288 GB), and little enough that one worker that claims anything does not hide all others.
const LARGEST_CARD_BYTES: u64 = 1 << 40;

/// When each worker's newest report came.
#[derive(Debug, Default)]
pub(super) struct Arrivals {
    /// By worker: the number of the report, and when it was first seen.
    seen: BTreeMap<String, (u64, Duration)>,
}

impl Arrivals {
    /// Takes down which reports are new. `now` since any fixed moment.
    pub(super) fn note(&mut self, mesh: &Mesh, now: Duration) {
        self.seen.retain(|id, _| mesh.workers.contains_key(id));
        for (id, worker) in mesh.workers.iter() {
            let Some(telemetry) = &worker.telemetry else { continue };
            let newest = self.seen.entry(id.clone()).or_insert((telemetry.sequence, now));
            if newest.0 != telemetry.sequence {
                *newest = (telemetry.sequence, now);
            }
        }
    }

    /// What is free of the models for which memory is a condition. A version without endpoints is one whose workers have no
    /// fresh report: what it has is not known.
    pub(super) fn headroom(&self, mesh: &Mesh, now: Duration) -> Vec<VersionMemory> {
        let conditions: BTreeMap<&str, MemoryCost> = mesh
            .policies
            .values()
            .filter_map(|policy| match policy.document.spec() {
                Spec::Admission(admission) => Some((admission.model.as_str(), admission.memory?)),
                _ => None,
            })
            .collect();
        let mut versions: BTreeMap<String, VersionMemory> = BTreeMap::new();
        for (id, worker) in mesh.workers.iter().filter(|(_, worker)| !worker.draining) {
            for served in &worker.models {
                let Some(condition) = conditions.get(served.model.as_str()) else {
                    continue;
                };
                let route = format!("{}/{}", served.model, served.version);
                let version = versions.entry(route.clone()).or_insert_with(|| VersionMemory {
                    route,
                    ..VersionMemory::default()
                });
                let age = self.seen.get(id).map(|(_, came)| now.saturating_sub(*came));
                let card = worker.device.as_ref().and_then(|device| mesh.devices.get(device));
                let most = card.map_or(LARGEST_CARD_BYTES, |card| gibibytes(card.memory_gb));
                // What a worker claims beyond its card, it does not have.
                if let (Some(telemetry), Some(age)) = (&worker.telemetry, age)
                    && age <= Duration::from_millis(condition.stale_ms.into())
                {
                    // One that cannot tell what its card has says 0.
                    let total = telemetry.memory_total_bytes.min(most);
                    if total == 0 {
                        continue;
                    }
                    add(
                        version,
                        (total, telemetry.memory_free_bytes),
                        condition.watermark_percent,
                    );
                    version.age_ms = version.age_ms.max(u32::try_from(age.as_millis()).unwrap_or(u32::MAX));
                }
            }
        }
        versions.into_values().collect()
    }
}

/// Bytes of a card as its record has them: product names count in powers of two.
fn gibibytes(memory_gb: f64) -> u64 {
    (memory_gb * f64::from(1 << 30)) as u64
}

/// Adds an endpoint.
fn add(version: &mut VersionMemory, (total, free): (u64, u64), watermark_percent: u32) {
    let kept = u128::from(total) * u128::from(watermark_percent.min(100)) / 100;
    let kept = u64::try_from(kept).unwrap_or(u64::MAX);
    let free = free.min(total).saturating_sub(kept);
    version.capacity_bytes = version.capacity_bytes.saturating_add(total.saturating_sub(kept));
    version.free_bytes = version.free_bytes.saturating_add(free);
    version.largest_free_bytes = version.largest_free_bytes.max(free);
    version.endpoints = version.endpoints.saturating_add(1);
}

#[cfg(test)]
mod tests;
