//! Which workers serve which model version, and with what weight: the part of the snapshot that operators see too.

pub mod tags;

use crate::model::Mesh;
use crate::weights::{Weights, living};
use kilocard_policy::config::Spec;
use kilocard_registry::worker::ServedModel;
use kilocard_weights::{Locality, Weighed};
use std::collections::BTreeMap;
use std::net::SocketAddr;
use std::sync::Arc;

/// Model versions with their workers by id. A version that a policy names and nobody serves has none.
pub type Placement = BTreeMap<ServedModel, BTreeMap<String, Placed>>;

/// A worker as an endpoint.
#[derive(Clone, Debug, PartialEq)]
pub struct Placed {
    /// Where it serves.
    pub address: SocketAddr,
    /// How much it takes, and whether it takes anything.
    pub weighed: Weighed,
    /// Where it is; the default when nobody says, or when that makes no difference.
    pub locality: Arc<Locality>,
    /// Among what a request may choose, see [`tags`].
    pub tags: Arc<[String]>,
}

/// Places every worker that lives and has not said that it leaves, with the weights that followed this mesh.
pub fn place(mesh: &Mesh, weights: &Weights) -> Placement {
    let mut placement: Placement = named_by_policies(mesh)
        .map(|served| (served, BTreeMap::new()))
        .collect();
    let classes = tags::classes(mesh);
    for worker in living(mesh).into_values() {
        let tags = tags::tags(mesh, worker, &classes);
        for served in &worker.models {
            // Absent only if the weights have not followed this mesh yet: they will, and then it is placed.
            let Some(weighed) = weights.weighed(served, &worker.id) else {
                continue;
            };
            let placed = Placed {
                address: worker.address,
                weighed,
                locality: weights.locality(served, &worker.id).cloned().unwrap_or_default(),
                tags: Arc::clone(&tags),
            };
            placement
                .entry(served.clone())
                .or_default()
                .insert(worker.id.clone(), placed);
        }
    }
    placement
}

/// Name of the cluster, and value of `x-kilocard-route`: `<model>/<version>`.
pub fn route_key(served: &ServedModel) -> String {
    format!("{}/{}", served.model, served.version)
}

fn named_by_policies(mesh: &Mesh) -> impl Iterator<Item = ServedModel> {
    mesh.policies.values().flat_map(|policy| match policy.document.spec() {
        Spec::Routing(routing) => routing
            .versions
            .iter()
            .map(|version| ServedModel {
                model: routing.model.clone(),
                version: version.version.clone(),
            })
            .collect(),
        // No other kind names versions.
        _ => Vec::new(),
    })
}
