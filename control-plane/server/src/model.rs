//! The mesh as the control plane believes it to be: validated values, no protobuf, no etcd.
//!
//! Owns: what a worker, a card and a policy in force are, and which records are refused and why ([`record`]); how single
//! changes of records become a whole ([`inventory`]). Must not know: where records come from, what Envoy makes of them.

pub mod inventory;
pub mod record;

use kilocard_policy::config::Document;
use kilocard_registry::device::DeviceRecord;
use kilocard_registry::layout::{DeviceId, PolicyId};
use kilocard_registry::policy_status::PolicyStatus;
use kilocard_registry::worker::{ServedModel, Telemetry};
use kilocard_weights::Locality;
use std::collections::{BTreeMap, BTreeSet};
use std::net::SocketAddr;
use std::sync::Arc;

/// Policies in force by kind and name.
pub type Policies = BTreeMap<PolicyId, PolicyInForce>;

/// Everything that configuration for proxies is made from, at one moment. A clone, and a later moment, share every part
/// that did not change.
#[derive(Clone, Debug, Default)]
pub struct Mesh {
    /// Newest revision of the store that was taken in when this was put together.
    pub revision: i64,
    /// Workers by id.
    pub workers: Arc<BTreeMap<String, Arc<Worker>>>,
    /// Cards by node and PCI address.
    pub devices: Arc<BTreeMap<DeviceId, Arc<DeviceRecord>>>,
    /// Policies in force: for a key whose newest document is bad this is the last good one.
    pub policies: Arc<Policies>,
    /// The verdict on the newest document of each policy key.
    pub verdicts: Arc<BTreeMap<PolicyId, PolicyStatus>>,
    /// Records that are ignored: etcd key to reason.
    pub rejected: Arc<BTreeMap<String, String>>,
}

impl Mesh {
    /// Whether both share all their parts, so that neither need be looked at. Costs five comparisons of pointers.
    pub fn is(&self, other: &Self) -> bool {
        Arc::ptr_eq(&self.workers, &other.workers)
            && Arc::ptr_eq(&self.devices, &other.devices)
            && Arc::ptr_eq(&self.policies, &other.policies)
            && Arc::ptr_eq(&self.verdicts, &other.verdicts)
            && Arc::ptr_eq(&self.rejected, &other.rejected)
    }
}

/// What is in it, whatever the revision: most revisions of a store change nothing here.
impl PartialEq for Mesh {
    fn eq(&self, other: &Self) -> bool {
        self.workers == other.workers
            && self.devices == other.devices
            && self.policies == other.policies
            && self.verdicts == other.verdicts
            && self.rejected == other.rejected
    }
}

/// A worker whose record passed validation.
#[derive(Clone, Debug, PartialEq)]
pub struct Worker {
    /// The key's last part.
    pub id: String,
    /// Where it serves gRPC; neither unspecified nor port 0.
    pub address: SocketAddr,
    /// The card it computes on; `None` for a CPU worker. The inventory need not know the card.
    pub device: Option<DeviceId>,
    /// The slice of the card that it computes on, if the card is cut.
    pub mig_profile: Option<String>,
    /// Where it says that it runs; when it does not, its card's place counts.
    pub locality: Option<Locality>,
    /// What it serves; never empty.
    pub models: BTreeSet<ServedModel>,
    /// How it and its card are, as last reported.
    pub telemetry: Option<Telemetry>,
    /// It has said that it leaves: it gets no new requests, and is not missed when its record goes.
    pub draining: bool,
    /// etcd revision at which the record appeared. Of two workers with one address the younger is the living one: a
    /// port is bound by one process, so the other's lease has only not run out yet.
    pub created: i64,
}

/// A policy document that is being served.
#[derive(Clone, Debug, PartialEq)]
pub struct PolicyInForce {
    /// etcd `mod_revision` of the document.
    pub revision: i64,
    /// The document, valid alone and together with all others in force.
    pub document: Arc<Document>,
    /// Most that it takes in the filter's configuration: its JSON, and what may be said there of its versions.
    pub bytes: usize,
}
