//! A card that is watched while a worker runs.
//!
//! A failing card can block a call for most of a minute, so it is asked on a thread of its own, off the serving path; what is
//! older than its deadline is told no more, except for XIDs, which stay until the worker starts anew. What the card is, it is
//! asked once: links that fail later are a fault, and no other card.

use super::{Reading, Refusal, Sensor, missing, record};
use crate::load_report::unix_ms;
use kilocard_registry::{device::DeviceRecord, telemetry::XidEvent};
use nvml_wrapper::{Nvml, bitmasks::event::EventTypes, enums::event::XidError, error::NvmlError};
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

/// What a thread does with a card, by its PCI address, until nobody holds the state any more.
type Watch = fn(&str, &Weak<Mutex<State>>) -> Result<(), NvmlError>;

/// A card that is being watched until this is dropped.
#[derive(Debug)]
pub struct NvmlCard {
    device: Option<DeviceRecord>,
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
        let probe = Nvml::init().map_err(|error| missing(&error)).and_then(|nvml| {
            let device = nvml.device_by_pci_bus_id(pci).map_err(|error| super::reason(&error))?;
            Ok(record(&device).device)
        });
        let device = match probe {
            Ok(device) => device,
            Err(error) => {
                tracing::warn!(error, pci, "no readings of the card");
                return None;
            }
        };
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
        Some(Self { device, state })
    }

    /// What it is, for the inventory.
    pub fn device(&self) -> Option<&DeviceRecord> {
        self.device.as_ref()
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
    let mut sensor = Sensor::new(device);
    let mut told = false;
    loop {
        let (reading, refused) = sensor.read();
        let Some(state) = state.upgrade() else {
            return Ok(());
        };
        lock(&state).reading = Some((Instant::now(), reading));
        drop(state);
        if !std::mem::replace(&mut told, true) && !refused.is_empty() {
            tracing::info!(pci, refused = words(&refused), "readings that this card does not give");
        }
        thread::sleep(INTERVAL);
    }
}

fn words(refused: &[Refusal]) -> String {
    let each = refused
        .iter()
        .map(|refusal| format!("{}: {}", refusal.field, refusal.reason));
    each.collect::<Vec<_>>().join("; ")
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
        match event {
            Ok(event) => {
                if let Some(XidError::Value(code)) = event.event_data {
                    note(&state, pci, u32::try_from(code).unwrap_or(u32::MAX));
                }
            }
            Err(NvmlError::Timeout) => {}
            Err(error) => {
                // What XID 79 says of a card that has fallen off the bus, when it can still be said.
                if matches!(error, NvmlError::GpuLost) {
                    note(&state, pci, 79);
                }
                return Err(error);
            }
        }
    }
}

fn note(state: &Mutex<State>, pci: &str, code: u32) {
    tracing::error!(pci, code, "XID");
    let mut state = lock(state);
    if state.xids.last().is_none_or(|last| last.code != code) {
        let at_ms = unix_ms();
        state.xids.push(XidEvent { code, at_ms });
        let surplus = state.xids.len().saturating_sub(MAX_XIDS);
        state.xids.drain(..surplus);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_card_that_is_not_there_is_no_reason_not_to_start() {
        assert!(NvmlCard::start("ffff:ff:1f.7").is_none());
    }
}
