//! The edition for gRPC's own xDS clients (`xds:///<target>`), which do without a proxy: the same versions, weights and
//! routes, in the resources that they understand. What they do not do is told by [`limits`].
//!
//! Targets are `gateway`, for every model by `x-model`, and each model by its name. Pure.
//!
//! Followed: gRFC A27 (xDS client, LDS to EDS), A28 (routing by headers, weighted clusters), A31 (deadlines are the client's
//! own), A37 (clusters by EDS). See `docs/proxyless.md`.

mod cluster;
mod endpoint;
pub mod limits;
mod listener;
mod pattern;
mod route;
mod rule;

use crate::model::{Policies, Worker};
use crate::snapshot::GATEWAY;
use crate::snapshot::editions::Parts;
use crate::snapshot::placement::{Placed, Placement, route_key};
use kilocard_policy::config::{RoutingPolicy, Spec};
use kilocard_registry::worker::ServedModel;
use kilocard_weights::Locality;
use kilocard_xds::snapshot::{ResourceSet, ResourceType, Snapshot};
use std::collections::{BTreeMap, BTreeSet};
use std::sync::Arc;

/// Everything that gRPC clients in `own` are given.
pub(super) fn build(parts: &Parts, own: &Locality) -> Snapshot {
    let offered = offer(&parts.placement, &parts.workers);
    let ready = ready(&offered, &parts.state.unready);
    let models: Vec<Model<'_>> = routing(&parts.policies)
        .map(|policy| Model { policy, ready: &ready })
        .collect();
    let of_models = models
        .iter()
        .filter(|model| model.policy.model != GATEWAY)
        .map(route::of_model);
    let routes = std::iter::once(route::of_gateway(&models)).chain(of_models);
    let endpoints = offered
        .iter()
        .map(|(served, placed)| endpoint::build(served, placed, own, parts.split(served, own)));
    Snapshot::new([
        (
            ResourceType::Cluster,
            ResourceSet::new(offered.keys().map(|served| cluster::build(served))),
        ),
        (ResourceType::Endpoints, ResourceSet::new(endpoints)),
        (
            ResourceType::Listener,
            ResourceSet::new(targets(&parts.policies).map(listener::build)),
        ),
        (ResourceType::Route, ResourceSet::new(routes)),
    ])
}

/// What clients may dial. A model that is called like the gateway has no target of its own.
pub fn targets(policies: &Policies) -> impl Iterator<Item = &str> {
    let models: BTreeSet<&str> = routing(policies).map(|policy| policy.model.as_str()).collect();
    std::iter::once(GATEWAY).chain(models.into_iter().filter(|model| *model != GATEWAY))
}

fn routing(policies: &Policies) -> impl Iterator<Item = &RoutingPolicy> {
    policies.values().filter_map(|policy| match policy.document.spec() {
        Spec::Routing(routing) => Some(routing),
        _ => None,
    })
}

/// Workers that such clients may be sent to, by version and id.
type Offered<'p> = BTreeMap<&'p ServedModel, BTreeMap<&'p str, &'p Placed>>;

/// A proxy tells a worker for which version a request was decided; these clients cannot add a header. A worker that serves
/// several versions of a model would take the newest of them for whatever request, so of that model it is not offered.
fn offer<'p>(placement: &'p Placement, workers: &BTreeMap<String, Arc<Worker>>) -> Offered<'p> {
    let offered = |served: &ServedModel, id: &str| {
        !workers
            .get(id)
            .is_some_and(|worker| is_ambiguous(worker, &served.model))
    };
    let placed = placement.iter();
    placed
        .map(|(served, placed)| {
            let certain = placed.iter().filter(|(id, _)| offered(served, id));
            (served, certain.map(|(id, placed)| (id.as_str(), placed)).collect())
        })
        .collect()
}

fn is_ambiguous(worker: &Worker, model: &str) -> bool {
    worker.models.iter().filter(|served| served.model == model).count() > 1
}

/// The versions that can take requests, as `<model>/<version>`. Endpoints of one that is unready may linger.
fn ready(offered: &Offered<'_>, unready: &[String]) -> BTreeSet<String> {
    let with_endpoints = offered.iter().filter(|(_, placed)| !placed.is_empty());
    with_endpoints
        .map(|(served, _)| route_key(served))
        .filter(|key| !unready.contains(key))
        .collect()
}

/// A model's policy, with what can serve now.
#[derive(Clone, Copy)]
struct Model<'p> {
    policy: &'p RoutingPolicy,
    ready: &'p BTreeSet<String>,
}

impl Model<'_> {
    fn cluster(&self, version: &str) -> String {
        format!("{}/{version}", self.policy.model)
    }

    /// The cluster that takes the requests for a version: its own, that of the first of its fallbacks that is ready, or its
    /// own in vain, whose requests fail as UNAVAILABLE.
    fn serving(&self, version: &str) -> String {
        let own = self.cluster(version);
        if self.ready.contains(&own) {
            return own;
        }
        let declared = self.policy.versions.iter().find(|declared| declared.version == version);
        let fallbacks = declared.into_iter().flat_map(|declared| &declared.fallback);
        let mut fallbacks = fallbacks.map(|fallback| self.cluster(fallback));
        fallbacks.find(|fallback| self.ready.contains(fallback)).unwrap_or(own)
    }
}

#[cfg(test)]
mod tests;
