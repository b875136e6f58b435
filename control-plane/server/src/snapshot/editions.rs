//! One state of the mesh in as many editions as there are kinds of clients.
//!
//! Every build makes the edition for proxies. The others are made when the first client asks for one: a mesh without such
//! clients does not pay for them. All are pure functions of the same parts, so replicas agree on each edition as well.

use crate::audience::{Audience, Client};
use crate::model::{Policies, Worker};
use crate::snapshot::placement::Placement;
use crate::snapshot::proxyless;
use kilocard_policy::config::MeshState;
use kilocard_xds::snapshot::{Snapshot, Version};
use std::collections::BTreeMap;
use std::sync::{Arc, OnceLock};

/// What editions are made from.
#[derive(Debug, Default)]
pub(super) struct Parts {
    pub(super) placement: Arc<Placement>,
    pub(super) policies: Arc<Policies>,
    pub(super) workers: Arc<BTreeMap<String, Arc<Worker>>>,
    pub(super) state: Arc<MeshState>,
}

/// A snapshot for each kind of client.
#[derive(Debug, Default)]
pub struct Editions {
    proxies: Arc<Snapshot>,
    grpc: OnceLock<Arc<Snapshot>>,
    parts: Parts,
}

impl Editions {
    pub(super) fn new(proxies: Snapshot, parts: Parts) -> Self {
        Self {
            proxies: Arc::new(proxies),
            grpc: OnceLock::new(),
            parts,
        }
    }

    /// What these nodes are served.
    pub fn of(&self, audience: &Audience) -> &Arc<Snapshot> {
        match audience.client {
            Client::Envoy => &self.proxies,
            Client::Grpc => self
                .grpc
                .get_or_init(|| Arc::new(proxyless::build(&self.parts).at(self.proxies.revision()))),
        }
    }

    /// Content hash. That of the edition for proxies, whose filter holds all policies: what changes another edition changes
    /// it too.
    pub fn version(&self) -> Version {
        self.proxies.version()
    }
}

/// The same for proxies, and nothing for others.
impl From<Snapshot> for Editions {
    fn from(proxies: Snapshot) -> Self {
        Self::new(proxies, Parts::default())
    }
}
