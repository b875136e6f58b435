//! What the filters are told of the versions besides the policies: which can take no request now, and which have no memory
//! to spare for copies. Pure.
//!
//! Only what a filter would act on is told, and only flips change it: each change sends the filter anew. So a version of no
//! policy is left out, as is the saturation of one that is nobody's shadow.

use crate::model::Mesh;
use crate::snapshot::placement::{Placed, Placement, route_key};
use kilocard_policy::config::{MeshState, Spec};
use std::collections::{BTreeMap, BTreeSet};

/// A version is saturated once the memory factor of its best endpoint is below this (11 % of the memory free) …
const SATURATED_BELOW: f64 = 0.25;
/// … and until it has reached this (15 %). Between the two it stays what it was, so that a reading that wavers is no change.
const RELIEVED_FROM: f64 = 0.5;

/// The state now; `before` is the state last told.
pub fn state(mesh: &Mesh, placement: &Placement, before: &MeshState) -> MeshState {
    let without_worker = placement.iter().filter(|(_, placed)| placed.is_empty());
    let targets = shadow_targets(mesh);
    let of_targets = placement.iter().map(|(served, placed)| (route_key(served), placed));
    let saturated = of_targets.filter(|(key, placed)| {
        let limit = if before.saturated.contains(key) {
            RELIEVED_FROM
        } else {
            SATURATED_BELOW
        };
        targets.contains(key) && is_saturated(placed, limit)
    });
    MeshState {
        unready: without_worker.map(|(served, _)| route_key(served)).collect(),
        saturated: saturated.map(|(key, _)| key).collect(),
    }
}

/// One without endpoints is not saturated but unready.
fn is_saturated(placed: &BTreeMap<String, Placed>, limit: f64) -> bool {
    let mut factors = placed.values().map(|placed| placed.weighed.memory);
    !placed.is_empty() && factors.all(|factor| factor < limit)
}

/// Versions to which a policy sends copies.
fn shadow_targets(mesh: &Mesh) -> BTreeSet<String> {
    let specs = mesh.policies.values().map(|policy| policy.document.spec());
    specs
        .filter_map(|spec| match spec {
            Spec::Routing(routing) => {
                let shadow = routing.shadow.as_ref()?;
                Some(format!("{}/{}", routing.model, shadow.version))
            }
            _ => None,
        })
        .collect()
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::snapshot::placement::place;
    use crate::snapshot::tests::{policies, worker};
    use crate::weights::Weights;
    use kilocard_registry::worker::Telemetry;
    use serde_json::json;
    use std::sync::Arc;
    use std::time::Instant;

    /// `v1` with one worker, its shadow `v2` with workers whose cards have so much of a hundred bytes free, `v3` with none.
    fn mesh(free: &[u64]) -> Mesh {
        let document = json!({
            "api_version": "kilocard/v1", "kind": "RoutingPolicy", "metadata": {"name": "m"},
            "spec": {
                "model": "m", "shadow": {"version": "v2", "percent": 5, "max_per_second": 20},
                "versions": [
                    {"version": "v1", "weight": 100}, {"version": "v2", "weight": 0}, {"version": "v3", "weight": 0},
                ],
            },
        });
        let telemetry = |memory_free_bytes| Telemetry {
            memory_total_bytes: 100,
            memory_free_bytes,
            ..Telemetry::default()
        };
        let (id, mut full) = worker("full", 8000, &[("m", "v1"), ("of-no-policy", "v1")], None);
        Arc::make_mut(&mut full).telemetry = Some(telemetry(1));
        let mut workers = BTreeMap::from([(id, full)]);
        for (port, free) in (8001..).zip(free) {
            let (id, mut worker) = worker(&port.to_string(), port, &[("m", "v2")], None);
            Arc::make_mut(&mut worker).telemetry = Some(telemetry(*free));
            workers.insert(id, worker);
        }
        Mesh {
            workers: Arc::new(workers),
            policies: policies(&[document]),
            ..Mesh::default()
        }
    }

    fn after(free: &[u64], before: &MeshState) -> MeshState {
        let (mesh, mut weights) = (mesh(free), Weights::default());
        weights.follow(&mesh, Instant::now());
        state(&mesh, &place(&mesh, &weights), before)
    }

    #[test]
    fn what_a_policy_names_and_nobody_serves_is_unready_and_not_saturated() {
        let state = after(&[], &MeshState::default());
        assert_eq!(state.unready, ["m/v2", "m/v3"]);
        assert!(state.saturated.is_empty());
    }

    #[test]
    fn a_shadow_is_saturated_once_no_worker_of_it_has_memory_to_spare() {
        let none = MeshState::default();
        assert!(after(&[1, 90], &none).saturated.is_empty());
        assert_eq!(
            after(&[1, 5], &none).saturated,
            ["m/v2"],
            "and not the version that is nobody's shadow"
        );
    }

    #[test]
    fn a_reading_that_wavers_changes_nothing() {
        let mut state = MeshState::default();
        for (free, saturated) in [(13, false), (9, true), (13, true), (12, true), (16, false), (13, false)] {
            state = after(&[free], &state);
            assert_eq!(!state.saturated.is_empty(), saturated, "{free} % free");
        }
    }
}
