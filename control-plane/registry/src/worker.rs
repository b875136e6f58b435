//! `workers/<id>`: a worker that serves, under its lease.

pub use crate::telemetry::Telemetry;
use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

/// What a worker tells about itself. The key lives as long as the worker's lease.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize, JsonSchema)]
pub struct WorkerRecord {
    /// Same as the key's last part.
    pub id: String,
    /// Where it serves gRPC: `IP:port`. Envoy's endpoints take no host names.
    pub address: String,
    /// Host name.
    pub node: String,
    /// PCI address of the GPU it computes on, a key of `devices/gpu/<node>/`; `None` for a CPU worker.
    #[serde(default)]
    pub device: Option<String>,
    /// The profile of the slice that it computes on, when the card is cut (MIG): `3g.40gb`.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub mig_profile: Option<String>,
    /// The zone that it runs in; when it does not say, that of its card counts.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub zone: Option<String>,
    /// The rack within that zone.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub rack: Option<String>,
    /// What it serves.
    pub models: Vec<ServedModel>,
    /// How it and its card are, as last reported.
    #[serde(default)]
    pub telemetry: Option<Telemetry>,
    /// Said before it leaves: it gets no new requests, and the control plane does not miss it when its record goes.
    #[serde(default, skip_serializing_if = "std::ops::Not::not")]
    pub draining: bool,
}

/// One version of one model.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize, JsonSchema)]
pub struct ServedModel {
    /// Model name.
    pub model: String,
    /// Version name.
    pub version: String,
}
