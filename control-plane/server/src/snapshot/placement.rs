//! Which workers serve which model version, and with what weight: the part of the snapshot that operators see too.

pub mod tags;

use crate::model::{Mesh, Worker};
use crate::weights::cards::Card;
use crate::weights::{Weighed, weigh};
use kilocard_policy::config::Spec;
use kilocard_registry::worker::ServedModel;
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
    /// How much it takes, and why.
    pub weighed: Weighed,
    /// Among what a request may choose, see [`tags`].
    pub tags: Arc<[String]>,
}

/// Places every worker that has not said that it leaves. Of workers with one address only the youngest counts, see [`Worker::created`].
pub fn place(mesh: &Mesh) -> Placement {
    let mut placement: Placement = named_by_policies(mesh)
        .map(|served| (served, BTreeMap::new()))
        .collect();
    let mut youngest: BTreeMap<SocketAddr, &Worker> = BTreeMap::new();
    for worker in mesh.workers.values().filter(|worker| !worker.draining) {
        let place = youngest.entry(worker.address).or_insert(worker);
        if (worker.created, &worker.id) > (place.created, &place.id) {
            *place = worker;
        }
    }
    let classes = tags::classes(mesh);
    for worker in youngest.into_values() {
        let placed = Placed {
            address: worker.address,
            weighed: weighed(mesh, worker),
            tags: tags::tags(mesh, worker, &classes),
        };
        for served in &worker.models {
            placement
                .entry(served.clone())
                .or_default()
                .insert(worker.id.clone(), placed.clone());
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

fn weighed(mesh: &Mesh, worker: &Worker) -> Weighed {
    let telemetry = worker.telemetry.as_ref();
    match &worker.device {
        None => weigh(Card::Cpu, telemetry),
        Some(id) => match mesh.devices.get(id) {
            Some(device) => weigh(Card::Known(device), telemetry),
            None => weigh(Card::Unlisted(&id.to_string()), telemetry),
        },
    }
}
