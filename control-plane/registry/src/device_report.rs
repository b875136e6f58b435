//! The report that the control plane serves at `GET /devices` and `kilocard devices` shows: every card that the inventory
//! lists or a worker names, with what computes on it.

use crate::device::DeviceRecord;
use crate::report::{DrainReport, FactorReport};
use crate::telemetry::Telemetry;
use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

/// All cards, sorted by node and PCI address.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize, JsonSchema)]
pub struct DevicesReport {
    /// The cards.
    pub devices: Vec<DeviceReport>,
}

/// A card.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize, JsonSchema)]
pub struct DeviceReport {
    /// Host name.
    pub node: String,
    /// PCI address.
    pub pci: String,
    /// What the inventory says; `None` for a card that only a worker names.
    pub inventory: Option<DeviceRecord>,
    /// The worst of its endpoints.
    pub health: DeviceHealth,
    /// Workers that compute on it, sorted by id.
    pub workers: Vec<DeviceWorker>,
    /// True when the card, or what is told of it, is simulated.
    pub simulated: bool,
}

/// How a card is, from worst to best.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "snake_case")]
pub enum DeviceHealth {
    /// An endpoint on it is drained: it gets no new requests.
    Drained,
    /// An endpoint on it ought to be drained, and the others of its pool could not bear it.
    Held,
    /// A factor of an endpoint on it is below 1, or its report is overdue.
    Derated,
    /// Nothing is wrong with it.
    Healthy,
    /// No worker computes on it.
    Idle,
    /// Of a later release.
    #[serde(other)]
    Unknown,
}

/// A worker on a card.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize, JsonSchema)]
pub struct DeviceWorker {
    /// Its id.
    pub worker: String,
    /// `IP:port`.
    pub address: String,
    /// The slice of the card that it computes on (MIG), as in `3g.40gb`.
    pub mig_profile: Option<String>,
    /// Its last load report.
    pub telemetry: Option<Telemetry>,
    /// Age of that report, by the control plane's clock.
    pub telemetry_age_ms: Option<u64>,
    /// What it is an endpoint of, sorted.
    pub endpoints: Vec<DeviceEndpoint>,
}

/// An endpoint on a card.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize, JsonSchema)]
pub struct DeviceEndpoint {
    /// `<model>/<version>`.
    pub cluster: String,
    /// Its weight.
    pub weight: u32,
    /// Factors of the weight that are below 1.
    pub factors: Vec<FactorReport>,
    /// Why it gets no new requests, if it gets none.
    pub drained: Option<DrainReport>,
    /// Why it ought to be drained and is not.
    pub held: Option<DrainReport>,
}
