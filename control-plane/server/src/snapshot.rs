//! From the mesh to Envoy's configuration. Pure and deterministic: one mesh gives the same bytes on every replica and
//! after every restart, in whatever order it came to be. Resource versions are content hashes, so equal bytes are what
//! keeps a restarted control plane from pushing everything again.
//!
//! One kind of Envoy resource a file. What needs care is protobuf maps: prost keeps them in hash maps, whose order
//! differs from process to process. A message whose map has more than one entry is therefore written by [`wire`].

pub mod cluster;
pub mod endpoint;
pub mod filter;
pub mod listener;
pub mod placement;
pub mod route;
mod wire;

use crate::model::Mesh;
use filter::FilterModule;
use kilocard_xds::snapshot::{Resource, ResourceSet, ResourceType, Snapshot};
use std::net::SocketAddr;

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
}

/// Everything that proxies are given.
pub fn build(mesh: &Mesh, options: &BuildOptions) -> Snapshot {
    let placement = placement::place(mesh);
    Snapshot::new([
        (
            ResourceType::Cluster,
            ResourceSet::new(placement.keys().map(cluster::build)),
        ),
        (
            ResourceType::Endpoints,
            ResourceSet::new(placement.iter().map(|(served, placed)| endpoint::build(served, placed))),
        ),
        (ResourceType::Listener, one(listener::build(options))),
        (ResourceType::Route, one(route::build(placement.keys()))),
        (ResourceType::Extension, one(filter::build(mesh, &options.filter))),
    ])
}

fn one(resource: Resource) -> ResourceSet {
    ResourceSet::new([resource])
}

#[cfg(test)]
pub(crate) mod tests;
