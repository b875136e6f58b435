//! What a load report takes away from an endpoint's capacity, factor by factor. A reading that is absent takes nothing.

use crate::params::{Constants, MemoryRamp, ThermalRamp};
use kilocard_registry::telemetry::{GpuReading, RdmaReading, Telemetry};

/// NVML's reasons for a slower clock that mean a card in distress. `sw_power_cap` and `gpu_idle` are normal operation.
const DISTRESS: [&str; 4] = [
    "hw_slowdown",
    "hw_thermal_slowdown",
    "sw_thermal_slowdown",
    "hw_power_brake_slowdown",
];
/// The least that a throttled card is taken for: its clock reads 0 in a deep sleep.
const LEAST_CLOCK: f64 = 0.05;

/// The names of all factors, in the order in which they are told.
pub const NAMES: [&str; 7] = ["memory", "queue", "thermal", "errors", "nvlink", "rdma", "suspect"];

/// A factor that is not 1.
#[derive(Clone, Debug, PartialEq)]
pub struct Factor {
    /// One of [`NAMES`].
    pub name: &'static str,
    /// In `[0,1)`.
    pub value: f64,
    /// What was read, in a few words.
    pub reason: String,
}

/// Those of the report's factors that are not 1.
pub fn factors(telemetry: &Telemetry, constants: &Constants) -> Vec<Factor> {
    let found = [
        memory_of(telemetry, &constants.memory),
        queue_of(telemetry, constants.queue_half),
        thermal_of(&telemetry.gpu, &constants.thermal),
        errors_of(telemetry, constants.error_penalty),
        nvlink_of(telemetry, constants.nvlink_lost),
        rdma_of(telemetry.rdma.as_ref(), constants.rdma_fallback),
    ];
    found
        .into_iter()
        .flatten()
        .filter(|factor| factor.value < 1.0)
        .collect()
}

/// 0 at `floor` and less of the memory free, 1 at `ample` and more, the cubic `3x² − 2x³` between.
pub fn memory(free: f64, ramp: &MemoryRamp) -> f64 {
    let x = ((free - ramp.floor) / (ramp.ample - ramp.floor)).clamp(0.0, 1.0);
    x * x * (3.0 - 2.0 * x)
}

/// `1 / (1 + (waiting / half)²)`.
pub fn queue(waiting: f64, half: f64) -> f64 {
    1.0 / (1.0 + (waiting.max(0.0) / half).powi(2))
}

/// `1 / (1 + penalty × rate)`.
pub fn errors(rate: f64, penalty: f64) -> f64 {
    1.0 / (1.0 + penalty * rate.clamp(0.0, 1.0))
}

/// From 1 at `below_c` under the slowdown temperature to `floor` at it, straight; the clock's fraction of its maximum, if that
/// is less and the card is in distress.
pub fn thermal(reading: &GpuReading, ramp: &ThermalRamp) -> f64 {
    let heat = match (reading.temperature_c, reading.slowdown_temperature_c) {
        (Some(now), Some(slowdown)) => {
            let over = (now - (slowdown - ramp.below_c)) / ramp.below_c;
            1.0 - over.clamp(0.0, 1.0) * (1.0 - ramp.floor)
        }
        _ => 1.0,
    };
    clock(reading).map_or(heat, |clock| clock.min(heat))
}

/// The clock's fraction of its maximum, while the card is in distress.
fn clock(reading: &GpuReading) -> Option<f64> {
    distress(reading)?;
    let (now, max) = (reading.sm_clock_mhz?, reading.max_sm_clock_mhz?);
    (max > 0).then(|| (f64::from(now) / f64::from(max)).clamp(LEAST_CLOCK, 1.0))
}

/// The first reason that means a card in distress.
pub(crate) fn distress(reading: &GpuReading) -> Option<&str> {
    let reasons = reading.throttle_reasons.iter().map(String::as_str);
    reasons.into_iter().find(|reason| DISTRESS.contains(reason))
}

fn memory_of(telemetry: &Telemetry, ramp: &MemoryRamp) -> Option<Factor> {
    let free = telemetry.free_memory()?;
    let what = match telemetry.engine.kv_total_blocks {
        Some(_) => "of the KV cache free",
        None => "of the memory free",
    };
    some("memory", memory(free, ramp), || format!("{:.0} % {what}", free * 100.0))
}

fn queue_of(telemetry: &Telemetry, half: f64) -> Option<Factor> {
    let waiting = telemetry.engine.queue?;
    some("queue", queue(waiting, half), || format!("{waiting:.1} waiting"))
}

fn thermal_of(reading: &GpuReading, ramp: &ThermalRamp) -> Option<Factor> {
    some("thermal", thermal(reading, ramp), || {
        let mut seen = Vec::new();
        if let (Some(reason), Some(now), Some(max)) =
            (distress(reading), reading.sm_clock_mhz, reading.max_sm_clock_mhz)
        {
            seen.push(format!("{reason}, clock {now} of {max} MHz"));
        }
        if let (Some(now), Some(slowdown)) = (reading.temperature_c, reading.slowdown_temperature_c) {
            seen.push(format!("{now:.0} °C, slows down at {slowdown:.0} °C"));
        }
        seen.join("; ")
    })
}

fn errors_of(telemetry: &Telemetry, penalty: f64) -> Option<Factor> {
    let rate = telemetry.engine.error_rate?;
    some("errors", errors(rate, penalty), || {
        format!("{:.1} % of the requests fail", rate.clamp(0.0, 1.0) * 100.0)
    })
}

/// Only a model that is spread over several cards sends tensors between them.
fn nvlink_of(telemetry: &Telemetry, lost: f64) -> Option<Factor> {
    let links = telemetry.gpu.nvlink.as_ref()?;
    let spread = telemetry.engine.tensor_parallel.filter(|cards| *cards > 1)?;
    let value = if links.active < links.expected { lost } else { 1.0 };
    some("nvlink", value, || {
        format!("{} of {} NVLinks up, {spread} cards", links.active, links.expected)
    })
}

fn rdma_of(rdma: Option<&RdmaReading>, fallback: f64) -> Option<Factor> {
    let rdma = rdma?;
    let value = if rdma.fallback { fallback } else { 1.0 };
    some("rdma", value, || {
        let down = rdma.ports.iter().find(|port| !port.is_active());
        let port = down.map_or(String::new(), |port| {
            format!("port {} {}, {}; ", port.name, port.state, port.physical_state)
        });
        format!("{port}fallback to {}", rdma.transport)
    })
}

fn some(name: &'static str, value: f64, reason: impl FnOnce() -> String) -> Option<Factor> {
    (value < 1.0).then(|| Factor {
        name,
        value,
        reason: reason(),
    })
}
