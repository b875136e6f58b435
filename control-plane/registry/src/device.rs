//! `devices/gpu/<node>/<pci>`: the inventory of GPUs.

use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

/// A GPU as the inventory knows it. Unknown fields are kept out of the way, not refused: the inventory may be written by
/// tools that know more than this release.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize, JsonSchema)]
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
    /// The PCIe link that the card and its slot are made for.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub pcie: Option<PcieLink>,
    /// The slices that the card is cut into (MIG); none when it is whole.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub mig: Vec<MigSlice>,
    /// Version of the driver, for example `580.65.06`.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub driver: Option<String>,
    /// The network card beside it, where there is one that does RDMA.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub rdma: Option<RdmaLink>,
    /// True when no such card exists: declared on a machine without GPUs, and labelled so wherever it shows.
    #[serde(default)]
    pub simulated: bool,
}

/// A PCIe link.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
pub struct PcieLink {
    /// Generation, for example 5.
    pub generation: u8,
    /// Lanes, for example 16.
    pub width: u8,
}

/// A slice of a card.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize, JsonSchema)]
pub struct MigSlice {
    /// NVIDIA's name of the profile: `3g.40gb` is three of seven compute slices with 40 GB.
    pub profile: String,
    /// Memory in GiB.
    pub memory_gb: f64,
    /// The part of the card's compute, above 0 and at most 1; 3/7 of `3g.40gb`.
    pub compute_fraction: f64,
}

/// The RDMA network of a card's machine.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize, JsonSchema)]
pub struct RdmaLink {
    /// Over what.
    #[serde(default)]
    pub transport: RdmaTransport,
    /// Rate of one port, Gbit/s.
    #[serde(default)]
    pub rate_gbps: f64,
    /// Names of the ports, as `ibstat` lists them: `mlx5_0/1`.
    #[serde(default)]
    pub ports: Vec<String>,
}

/// Over what RDMA goes.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "lowercase")]
pub enum RdmaTransport {
    /// InfiniBand.
    Infiniband,
    /// RDMA over converged Ethernet.
    Roce,
    /// Anything that this release does not know.
    #[default]
    #[serde(other)]
    Unknown,
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_record_of_the_first_release_is_still_read_and_one_of_a_later_release_too() {
        let old: DeviceRecord = serde_json::from_str(r#"{"model": "NVIDIA L4", "memory_gb": 24}"#).unwrap();
        assert_eq!((old.mig.len(), old.pcie, old.rdma), (0, None, None));
        let json = r#"{"model": "NVIDIA H100", "memory_gb": 80, "pcie": {"generation": 5, "width": 16}, "future": 1,
            "mig": [{"profile": "3g.40gb", "memory_gb": 40, "compute_fraction": 0.43}],
            "rdma": {"transport": "carrier-pigeon", "rate_gbps": 400, "ports": ["mlx5_0/1"]}}"#;
        let new: DeviceRecord = serde_json::from_str(json).unwrap();
        assert_eq!(new.rdma.unwrap().transport, RdmaTransport::Unknown);
        assert_eq!(new.mig[0].profile, "3g.40gb");
    }
}
