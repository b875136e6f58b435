//! `devices/gpu/<node>/<pci>`: the inventory of GPUs.

use serde::{Deserialize, Serialize};

/// A GPU as the inventory knows it. Unknown fields are kept out of the way, not refused: the inventory may be written by
/// tools that know more than this release.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct DeviceRecord {
    /// Product name as NVML gives it, for example `NVIDIA H100 80GB HBM3`.
    pub model: String,
    /// Memory in GiB.
    pub memory_gb: f64,
    /// Architecture in lower case: `hopper`, `ampere`, `ada`, `volta`, …
    #[serde(default)]
    pub arch: Option<String>,
    /// Whether it has NVLink to its neighbours.
    #[serde(default)]
    pub nvlink: bool,
    /// Failure zone.
    #[serde(default)]
    pub zone: Option<String>,
    /// Rack within the zone.
    #[serde(default)]
    pub rack: Option<String>,
    /// True when no such card exists: declared on a machine without GPUs, and labelled so wherever it shows.
    #[serde(default)]
    pub simulated: bool,
}
