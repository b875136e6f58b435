//! The load report inside `workers/<id>`: how a worker and its card are.
//!
//! Every reading is optional. A worker without a card has none of the card's; NVML answers "not supported" for any of them
//! on one card or another; a worker of another engine may know less or more. What is absent is taken for "nothing wrong".
//! Counters and levels are as of the report; rates are means since the report before it.

use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

/// A load report.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize, JsonSchema)]
pub struct Telemetry {
    /// True when the card's numbers come from a file and not from a card.
    #[serde(default)]
    pub simulated: bool,
    /// Memory of the card, bytes; 0 without a card.
    #[serde(default)]
    pub memory_total_bytes: u64,
    /// Memory that is free, bytes.
    #[serde(default)]
    pub memory_free_bytes: u64,
    /// Differs from report to report, so that a record that is only written again is no new report.
    #[serde(default)]
    pub sequence: u64,
    /// When it was made, by the worker's clock, Unix milliseconds. For people: clocks of machines differ.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub sampled_at_ms: Option<u64>,
    /// The worker's promise: the next report comes within this, milliseconds. Without a promise a report never gets stale.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub refresh_ms: Option<u32>,
    /// What the worker's own gRPC health service says of the whole server.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub health: Option<ServingHealth>,
    /// The engine's own numbers.
    #[serde(default, skip_serializing_if = "EngineLoad::is_empty")]
    pub engine: EngineLoad,
    /// The card's.
    #[serde(default, skip_serializing_if = "GpuReading::is_empty")]
    pub gpu: GpuReading,
    /// The RDMA network's, of a worker that uses it.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub rdma: Option<RdmaReading>,
}

impl Telemetry {
    /// The fraction of the memory that limits the worker which is free: of the KV cache where it has one, else of the card.
    /// `None` without either, or when the numbers contradict themselves.
    pub fn free_memory(&self) -> Option<f64> {
        let fraction = |free: u64, total: u64| (total > 0 && free <= total).then(|| free as f64 / total as f64);
        match (self.engine.kv_free_blocks, self.engine.kv_total_blocks) {
            (Some(free), Some(total)) => fraction(free, total),
            _ => fraction(self.memory_free_bytes, self.memory_total_bytes),
        }
    }
}

/// The state of a gRPC health service (`grpc.health.v1`).
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "snake_case")]
pub enum ServingHealth {
    /// It takes requests.
    Serving,
    /// It does not.
    NotServing,
    /// Anything else, which is not held against it.
    #[serde(other)]
    Unknown,
}

/// What the engine knows of itself: real also on a machine without a card.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize, JsonSchema)]
pub struct EngineLoad {
    /// Blocks of the KV cache.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub kv_total_blocks: Option<u64>,
    /// Those that are free.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub kv_free_blocks: Option<u64>,
    /// Sequences that wait to be computed, mean.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub queue: Option<f64>,
    /// Requests in the worker, waiting or computed, mean.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub in_flight: Option<f64>,
    /// Requests that ended per second, however they ended: also those that were refused are demand.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub requests_per_second: Option<f64>,
    /// Tokens computed per second, padding left out.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub tokens_per_second: Option<f64>,
    /// The fraction of the time in which the engine computed, in `[0,1]`: its own count, not NVML's utilisation, which is
    /// near 1 as soon as one small kernel runs.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub busy_fraction: Option<f64>,
    /// The fraction of the requests that failed by the worker's fault, in `[0,1]`.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub error_rate: Option<f64>,
    /// Cards over which one model is spread (tensor parallel); 1 or absent when each is for itself.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub tensor_parallel: Option<u32>,
}

impl EngineLoad {
    /// Whether nothing is known.
    pub fn is_empty(&self) -> bool {
        *self == Self::default()
    }
}

/// What the card says, by NVML's names.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize, JsonSchema)]
pub struct GpuReading {
    /// Clock of the streaming multiprocessors now, MHz.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub sm_clock_mhz: Option<u32>,
    /// The highest it can be, MHz.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub max_sm_clock_mhz: Option<u32>,
    /// Why the clock is not higher: `hw_slowdown`, `hw_thermal_slowdown`, `hw_power_brake_slowdown`, `sw_thermal_slowdown`,
    /// `sw_power_cap`, … (`nvmlClocksEventReasons`).
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub throttle_reasons: Vec<String>,
    /// Temperature of the chip, °C.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub temperature_c: Option<f64>,
    /// Where it slows itself down, °C.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub slowdown_temperature_c: Option<f64>,
    /// The PCIe link as it is now.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub pcie: Option<PcieReading>,
    /// The links to its neighbours.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub nvlink: Option<NvLinkReading>,
    /// Errors of the memory.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub ecc: Option<EccReading>,
    /// XID events since the worker began, the newest last. They go when the worker starts anew.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub xids: Vec<XidEvent>,
    /// NVML's utilisation in `[0,1]`: shown, and no signal of load.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub utilisation: Option<f64>,
}

impl GpuReading {
    /// Whether nothing is known.
    pub fn is_empty(&self) -> bool {
        *self == Self::default()
    }
}

/// A PCIe link at work.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize, JsonSchema)]
pub struct PcieReading {
    /// Generation now; a card at rest may lower it.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub generation: Option<u8>,
    /// Lanes now.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub width: Option<u8>,
    /// Bytes received per second.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub rx_bytes_per_s: Option<u64>,
    /// Bytes sent per second.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub tx_bytes_per_s: Option<u64>,
}

/// NVLink at work.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize, JsonSchema)]
pub struct NvLinkReading {
    /// Links that are up.
    pub active: u32,
    /// Links that were up when the worker began, or that the card has.
    pub expected: u32,
    /// Bytes per second over all of them, both ways.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub bytes_per_s: Option<u64>,
}

/// Memory errors, by NVML's counters.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
pub struct EccReading {
    /// Uncorrectable since the driver was loaded.
    #[serde(default)]
    pub uncorrectable_volatile: u64,
    /// Corrected since the driver was loaded.
    #[serde(default)]
    pub corrected: u64,
    /// Rows wait to be remapped at the next reset.
    #[serde(default)]
    pub remap_pending: bool,
    /// A row could not be remapped: the card has to be replaced.
    #[serde(default)]
    pub remap_failed: bool,
}

/// A critical event that the driver told.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
pub struct XidEvent {
    /// NVIDIA's number.
    pub code: u32,
    /// When, by the worker's clock, Unix milliseconds.
    #[serde(default)]
    pub at_ms: u64,
}

/// The RDMA ports of a worker's machine and what it does with them.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize, JsonSchema)]
pub struct RdmaReading {
    /// The ports.
    #[serde(default)]
    pub ports: Vec<RdmaPort>,
    /// What tensors travel by now: `infiniband`, `roce`, `tcp`.
    #[serde(default)]
    pub transport: String,
    /// Whether that is the second choice, since the first is down.
    #[serde(default)]
    pub fallback: bool,
}

/// A port, in the words of `ibstat`.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize, JsonSchema)]
pub struct RdmaPort {
    /// `mlx5_0/1`.
    pub name: String,
    /// `Active`, `Down`, `Initializing`, `Armed`.
    pub state: String,
    /// `LinkUp`, `Polling`, `Disabled`, …
    #[serde(default)]
    pub physical_state: String,
    /// Gbit/s.
    #[serde(default)]
    pub rate_gbps: f64,
}

impl RdmaPort {
    /// Whether it carries traffic.
    pub fn is_active(&self) -> bool {
        self.state.eq_ignore_ascii_case("active")
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_report_of_the_first_release_is_read_and_an_empty_one_is_short() {
        let old = r#"{"simulated": true, "memory_total_bytes": 100, "memory_free_bytes": 15}"#;
        let old: Telemetry = serde_json::from_str(old).unwrap();
        assert_eq!(old.free_memory(), Some(0.15));
        assert_eq!((old.refresh_ms, old.health), (None, None));
        let json = serde_json::to_string(&Telemetry::default()).unwrap();
        assert!(json.len() < 100, "{json}");
    }

    #[test]
    fn the_kv_cache_counts_where_there_is_one_and_contradictions_do_not() {
        let mut telemetry = Telemetry {
            memory_total_bytes: 100,
            memory_free_bytes: 2,
            ..Telemetry::default()
        };
        (telemetry.engine.kv_total_blocks, telemetry.engine.kv_free_blocks) = (Some(1000), Some(500));
        assert_eq!(telemetry.free_memory(), Some(0.5));
        telemetry.engine.kv_free_blocks = Some(1001);
        assert_eq!(telemetry.free_memory(), None);
    }

    #[test]
    fn a_word_of_a_later_release_does_not_refuse_the_report() {
        let later: Telemetry = serde_json::from_str(r#"{"health": "resting", "news": [1]}"#).unwrap();
        assert_eq!(later.health, Some(ServingHealth::Unknown));
        assert!(
            !RdmaPort {
                state: "Down".into(),
                ..RdmaPort::default()
            }
            .is_active()
        );
    }
}
