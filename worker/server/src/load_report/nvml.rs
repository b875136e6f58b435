//! A card as NVML tells of it. NVML is loaded when the program runs: without it, or without the card, there is no reading.
//!
//! A failing card can block a call for most of a minute, so it is asked on a thread of its own, off the serving path; what is
//! older than its deadline is told no more, except for XIDs, which stay until the worker starts anew. Every getter may say
//! "not supported", and then that reading is absent.

use kilocard_registry::telemetry::{EccReading, GpuReading, NvLinkReading, PcieReading, XidEvent};
use nvml_wrapper::{
    Device, Nvml,
    bitmasks::{device::ThrottleReasons, event::EventTypes},
    enum_wrappers::device::{Clock, EccCounter, MemoryError, PcieUtilCounter, TemperatureSensor, TemperatureThreshold},
    enums::event::XidError,
    error::NvmlError,
};
use std::{
    sync::{Arc, Mutex, MutexGuard, PoisonError, Weak},
    thread,
    time::{Duration, Instant},
};

/// How often the card is asked.
const INTERVAL: Duration = Duration::from_secs(1);
/// A reading that is older is not told: the card, or its driver, does not answer.
const DEADLINE: Duration = Duration::from_secs(5);
/// How long to wait for an event before looking whether anybody still wants it.
const EVENT_WAIT_MS: u32 = 1000;
/// Events that are kept.
const MAX_XIDS: usize = 16;
/// Links that a card may have.
const MAX_LINKS: u32 = 18;
/// NVML counts PCIe throughput in KB.
const KB: u64 = 1024;

/// What a card said.
#[derive(Clone, Debug, Default)]
pub struct Reading {
    /// Memory, bytes; 0 for unknown.
    pub memory_total_bytes: u64,
    /// Free memory, bytes.
    pub memory_free_bytes: u64,
    /// Everything else.
    pub gpu: GpuReading,
}

/// What a thread does with a card, by its PCI address, until nobody holds the state any more.
type Watch = fn(&str, &Weak<Mutex<State>>) -> Result<(), NvmlError>;

/// A card that is being watched until this is dropped.
#[derive(Debug)]
pub struct NvmlCard {
    state: Arc<Mutex<State>>,
}

#[derive(Debug, Default)]
struct State {
    reading: Option<(Instant, Reading)>,
    xids: Vec<XidEvent>,
}

impl NvmlCard {
    /// Watches the card at this PCI address; `None`, with the reason in the log, if NVML or the card is not there.
    pub fn start(pci: &str) -> Option<Self> {
        let probe = Nvml::init().and_then(|nvml| nvml.device_by_pci_bus_id(pci).map(drop));
        if let Err(error) = probe {
            tracing::warn!(%error, pci, "no readings of the card: NVML does not answer for it");
            return None;
        }
        let state = Arc::new(Mutex::new(State::default()));
        let watches: [(&str, Watch); 2] = [("kilocard-nvml", poll), ("kilocard-xid", listen)];
        for (name, watch) in watches {
            let (address, weak) = (pci.to_owned(), Arc::downgrade(&state));
            let thread = thread::Builder::new().name(name.to_owned()).spawn(move || {
                if let Err(error) = watch(&address, &weak) {
                    tracing::warn!(%error, pci = address, "NVML: the card is watched no more");
                }
            });
            if let Err(error) = thread {
                tracing::warn!(%error, pci, "no thread to watch the card");
            }
        }
        Some(Self { state })
    }

    /// What it said last, if that is not too long ago, and its XIDs.
    pub fn latest(&self) -> Reading {
        let state = lock(&self.state);
        let fresh = state.reading.as_ref().filter(|(at, _)| at.elapsed() <= DEADLINE);
        let mut reading = fresh.map(|(_, reading)| reading.clone()).unwrap_or_default();
        reading.gpu.xids.clone_from(&state.xids);
        reading
    }
}

fn lock(state: &Mutex<State>) -> MutexGuard<'_, State> {
    state.lock().unwrap_or_else(PoisonError::into_inner)
}

/// Asks the card until nobody wants to know any more.
fn poll(pci: &str, state: &Weak<Mutex<State>>) -> Result<(), NvmlError> {
    let nvml = Nvml::init()?;
    let device = nvml.device_by_pci_bus_id(pci)?;
    let expected = active_links(&device);
    loop {
        let reading = read(&device, expected);
        let Some(state) = state.upgrade() else {
            return Ok(());
        };
        lock(&state).reading = Some((Instant::now(), reading));
        drop(state);
        thread::sleep(INTERVAL);
    }
}

/// Waits for XIDs until nobody wants to know any more.
fn listen(pci: &str, state: &Weak<Mutex<State>>) -> Result<(), NvmlError> {
    let nvml = Nvml::init()?;
    let device = nvml.device_by_pci_bus_id(pci)?;
    let set = nvml.create_event_set()?;
    let set = device
        .register_events(EventTypes::CRITICAL_XID_ERROR, set)
        .map_err(|error| error.error)?;
    loop {
        let event = set.wait(EVENT_WAIT_MS);
        let Some(state) = state.upgrade() else {
            return Ok(());
        };
        let code = match event {
            Ok(event) => event.event_data,
            Err(NvmlError::Timeout) => None,
            // The card has fallen off the bus: what XID 79 says, when it can still be said.
            Err(NvmlError::GpuLost) => Some(XidError::Value(79)),
            Err(error) => return Err(error),
        };
        if let Some(XidError::Value(code)) = code {
            let code = u32::try_from(code).unwrap_or(u32::MAX);
            tracing::error!(pci, code, "XID");
            let mut state = lock(&state);
            if state.xids.last().is_none_or(|last| last.code != code) {
                let at_ms = super::unix_ms();
                state.xids.push(XidEvent { code, at_ms });
                let surplus = state.xids.len().saturating_sub(MAX_XIDS);
                state.xids.drain(..surplus);
            }
        }
    }
}

fn active_links(device: &Device<'_>) -> u32 {
    let is_active = |link: &u32| matches!(device.link_wrapper_for(*link).is_active(), Ok(true));
    u32::try_from((0..MAX_LINKS).filter(is_active).count()).unwrap_or(MAX_LINKS)
}

fn read(device: &Device<'_>, expected_links: u32) -> Reading {
    let memory = device.memory_info().ok();
    let ecc = |error| device.total_ecc_errors(error, EccCounter::Volatile).ok();
    let (uncorrectable, corrected) = (ecc(MemoryError::Uncorrected), ecc(MemoryError::Corrected));
    let throughput = |counter| device.pcie_throughput(counter).ok().map(|kb| u64::from(kb) * KB);
    let width = |lanes: u32| u8::try_from(lanes).ok();
    let slowdown = device.temperature_threshold(TemperatureThreshold::Slowdown);
    Reading {
        memory_total_bytes: memory.as_ref().map_or(0, |memory| memory.total),
        memory_free_bytes: memory.as_ref().map_or(0, |memory| memory.free),
        gpu: GpuReading {
            sm_clock_mhz: device.clock_info(Clock::SM).ok(),
            max_sm_clock_mhz: device.max_clock_info(Clock::SM).ok(),
            throttle_reasons: device.current_throttle_reasons().map(words).unwrap_or_default(),
            temperature_c: device.temperature(TemperatureSensor::Gpu).ok().map(f64::from),
            slowdown_temperature_c: slowdown.ok().map(f64::from),
            pcie: Some(PcieReading {
                generation: device.current_pcie_link_gen().ok().and_then(width),
                width: device.current_pcie_link_width().ok().and_then(width),
                rx_bytes_per_s: throughput(PcieUtilCounter::Receive),
                tx_bytes_per_s: throughput(PcieUtilCounter::Send),
            }),
            nvlink: (expected_links > 0).then(|| NvLinkReading {
                active: active_links(device),
                expected: expected_links,
                bytes_per_s: None,
            }),
            // Row remapping has no getter in this wrapper; XID 64 tells of a failure.
            ecc: uncorrectable.or(corrected).map(|_| EccReading {
                uncorrectable_volatile: uncorrectable.unwrap_or(0),
                corrected: corrected.unwrap_or(0),
                ..EccReading::default()
            }),
            xids: Vec::new(),
            utilisation: device
                .utilization_rates()
                .ok()
                .map(|rates| f64::from(rates.gpu) / 100.0),
        },
    }
}

/// NVML's flags as words.
fn words(reasons: ThrottleReasons) -> Vec<String> {
    let names = [
        (ThrottleReasons::GPU_IDLE, "gpu_idle"),
        (ThrottleReasons::SW_POWER_CAP, "sw_power_cap"),
        (ThrottleReasons::HW_SLOWDOWN, "hw_slowdown"),
        (ThrottleReasons::SW_THERMAL_SLOWDOWN, "sw_thermal_slowdown"),
        (ThrottleReasons::HW_THERMAL_SLOWDOWN, "hw_thermal_slowdown"),
        (ThrottleReasons::HW_POWER_BRAKE_SLOWDOWN, "hw_power_brake_slowdown"),
    ];
    let set = names.iter().filter(|(flag, _)| reasons.contains(*flag));
    set.map(|(_, word)| (*word).to_owned()).collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn throttle_reasons_are_told_in_nvmls_words() {
        let reasons = ThrottleReasons::SW_POWER_CAP | ThrottleReasons::HW_THERMAL_SLOWDOWN;
        assert_eq!(words(reasons), ["sw_power_cap", "hw_thermal_slowdown"]);
    }

    #[test]
    fn a_card_that_is_not_there_is_no_reason_not_to_start() {
        assert!(NvmlCard::start("ffff:ff:1f.7").is_none());
    }
}
