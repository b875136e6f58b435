//! From the mesh to Envoy's configuration. Pure and deterministic: one mesh gives the same bytes on every replica and
//! after every restart, in whatever order it came to be (once what has left it no longer lingers, see [`linger`], for weights
//! that have followed the same reports for a while, see `kilocard-weights`, and but for memory that wavers, see
//! [`readiness`]).
//! Resource versions are content hashes, so equal bytes are what keeps a restarted control plane from pushing everything
//! again.
//!
//! One kind of Envoy resource a file. What needs care is protobuf maps: prost keeps them in hash maps, whose order
//! differs from process to process. A message whose map has more than one entry is therefore written by [`wire`].

pub mod cluster;
pub mod editions;
pub mod endpoint;
pub mod filter;
pub mod linger;
pub mod listener;
mod locality;
pub mod placement;
pub mod pool;
pub mod proxyless;
pub mod readiness;
pub mod route;
pub mod runtime;
mod wire;

use crate::model::{Mesh, Policies};
use crate::weights::SharedWeights;
use editions::{Editions, Parts, Spills};
use filter::FilterModule;
use kilocard_policy::config::MeshState;
use kilocard_registry::worker::ServedModel;
use kilocard_weights::Locality;
use kilocard_xds::snapshot::{Resource, ResourceSet, ResourceType, Snapshot};
use linger::Lingering;
use placement::Placement;
use pool::{Known, Pools};
use std::net::SocketAddr;
use std::sync::Arc;
use std::time::{Duration, Instant};

/// Name of the one listener, of its route configuration and of its statistics.
pub const GATEWAY: &str = "gateway";

/// What goes into the configuration besides the mesh: fixed when the process starts.
#[derive(Clone, Debug)]
pub struct BuildOptions {
    /// Where proxies listen for clients.
    pub gateway: SocketAddr,
    /// The wasm module that decides requests.
    pub filter: FilterModule,
    /// Whether proxies log each request to standard output.
    pub access_log: bool,
    /// By which cluster of their bootstrap proxies reach the control plane.
    pub sync_cluster: String,
    /// How long proxies keep their runtime once they have lost the control plane; `None`: for ever.
    pub runtime_ttl: Option<Duration>,
}

/// Builds snapshot after snapshot and keeps what the next one has in common with the last: workers' telemetry changes all
/// the time, policies and model versions seldom, the listener never. The wasm module within the filter's configuration is
/// encoded and hashed only when a policy changes.
#[derive(Debug)]
pub struct Builder {
    options: BuildOptions,
    weights: SharedWeights,
    listener: ResourceSet,
    lingering: Lingering,
    spills: Spills,
    pools: Known,
    by_name: Option<ByName>,
    state: Arc<MeshState>,
    filter: Option<Filter>,
    secrets: ResourceSet,
}

/// The filter's resource, and what it was made from.
#[derive(Debug)]
struct Filter {
    policies: Arc<Policies>,
    state: Arc<MeshState>,
    set: ResourceSet,
}

/// What depends on nothing but the names of model versions and the pools.
#[derive(Clone, Debug)]
struct ByName {
    served: Vec<ServedModel>,
    pools: Arc<Pools>,
    clusters: ResourceSet,
    routes: ResourceSet,
}

impl Builder {
    /// A builder that has built nothing; whoever shares the weights may look at them.
    pub fn new(options: BuildOptions, weights: SharedWeights) -> Self {
        Self {
            weights,
            listener: one(listener::build(&options)),
            options,
            lingering: Lingering::default(),
            spills: Spills::default(),
            pools: Known::default(),
            by_name: None,
            state: Arc::default(),
            filter: None,
            secrets: ResourceSet::default(),
        }
    }

    /// The secrets of snapshots from now on.
    pub fn set_secrets(&mut self, secrets: ResourceSet) {
        self.secrets = secrets;
    }

    /// Everything that proxies are given.
    pub fn build(&mut self, mesh: &Mesh, now: Instant) -> Snapshot {
        let placement = {
            let mut weights = self.weights.lock();
            weights.follow(mesh, now);
            self.spills = editions::spills(&weights);
            placement::place(mesh, &weights)
        };
        let state = readiness::state(mesh, &placement, &self.state);
        if *self.state != state {
            self.state = Arc::new(state);
        }
        let placement = self.lingering.extend(placement, now);
        let by_name = ByName::of(placement, self.pools.of(&mesh.policies), self.by_name.take());
        // For whoever is in no locality that makes a difference.
        let nowhere = Locality::default();
        let endpoints = placement
            .iter()
            .map(|(served, placed)| endpoint::build(served, placed, &nowhere, None));
        let endpoints = ResourceSet::new(endpoints);
        self.by_name = Some(by_name.clone());
        let secrets = self.secrets.clone();
        Snapshot::new([
            (
                ResourceType::Runtime,
                one(runtime::build(&mesh.policies, self.options.runtime_ttl)),
            ),
            (ResourceType::Secret, secrets),
            (ResourceType::Cluster, by_name.clusters),
            (ResourceType::Endpoints, endpoints),
            (ResourceType::Listener, self.listener.clone()),
            (ResourceType::Route, by_name.routes),
            (ResourceType::Extension, self.filter(&mesh.policies)),
        ])
        .at(mesh.revision)
    }

    /// A snapshot of this mesh in every edition. For the one built last.
    pub fn editions(&self, proxies: Snapshot, mesh: &Mesh) -> Editions {
        let parts = Parts {
            placement: Arc::clone(self.lingering.served()),
            policies: Arc::clone(&mesh.policies),
            workers: Arc::clone(&mesh.workers),
            state: Arc::clone(&self.state),
            spills: self.spills.clone(),
        };
        Editions::new(proxies, parts)
    }

    /// The last one, if it was made from the same.
    fn filter(&mut self, policies: &Arc<Policies>) -> ResourceSet {
        let same = |last: &Filter| Arc::ptr_eq(&last.policies, policies) && Arc::ptr_eq(&last.state, &self.state);
        let filter = self.filter.take().filter(same).unwrap_or_else(|| Filter {
            policies: Arc::clone(policies),
            state: Arc::clone(&self.state),
            set: one(filter::build(policies, &self.state, &self.options)),
        });
        self.filter.insert(filter).set.clone()
    }

    /// What the filters of the last snapshot are told of the versions besides the policies.
    pub fn state(&self) -> &Arc<MeshState> {
        &self.state
    }

    /// When to build again even if the mesh does not change.
    pub fn due(&self) -> Option<Instant> {
        let weights = self.weights.lock().due();
        [self.lingering.due(), weights].into_iter().flatten().min()
    }
}

impl ByName {
    /// The last one, if it is for the same names and pools.
    fn of(placement: &Placement, pools: Arc<Pools>, last: Option<Self>) -> Self {
        let same = |last: &Self| Arc::ptr_eq(&last.pools, &pools) && last.served.iter().eq(placement.keys());
        last.filter(same).unwrap_or_else(|| Self {
            served: placement.keys().cloned().collect(),
            clusters: ResourceSet::new(placement.keys().flat_map(|served| cluster::build(served, &pools))),
            routes: one(route::build(placement.keys(), &pools)),
            pools,
        })
    }
}

fn one(resource: Resource) -> ResourceSet {
    ResourceSet::new([resource])
}

#[cfg(test)]
pub(crate) mod tests;
