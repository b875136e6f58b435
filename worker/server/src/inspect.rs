//! What this machine's cards and RDMA ports say, for a person who brings a node up: the very records and readings that
//! workers here would write, and what each card does not tell. Serves nothing and writes nothing.

mod text;

use crate::{
    nvml::{self, Reading, Record, Refusal, Sensor},
    rdma,
};
use kilocard_registry::{device::DeviceRecord, telemetry::RdmaReading};
use nvml_wrapper::{Device, Nvml, cuda_driver_version_major, cuda_driver_version_minor, error::NvmlError};
use serde::Serialize;
use std::{path::Path, thread, time::Duration};

/// Between the two looks that make a rate of a counter.
const BETWEEN: Duration = Duration::from_secs(1);

/// What was found.
#[derive(Debug, Default, Serialize)]
pub struct Inspection {
    /// Name of this machine.
    pub node: String,
    /// The library and what it drives; absent if it does not answer.
    pub nvml: Option<Library>,
    /// The cards.
    pub cards: Vec<Card>,
    /// The RDMA ports; absent where there are none.
    pub rdma: Option<RdmaReading>,
    /// What is missing, and what helps. Empty if all that was asked for is there.
    pub problems: Vec<String>,
}

/// NVML and what it stands on. A version that is not told is absent.
#[derive(Debug, Serialize)]
pub struct Library {
    /// Its own version.
    pub version: Option<String>,
    /// Of the driver.
    pub driver: Option<String>,
    /// The newest CUDA that the driver runs.
    pub cuda: Option<String>,
}

/// A card.
#[derive(Debug, Serialize)]
pub struct Card {
    /// Its address, as `--gpu-pci` takes it.
    pub pci: String,
    /// Where its record stands, below the prefix in etcd.
    pub key: String,
    /// What a worker writes there, where nobody else has.
    pub device: Option<DeviceRecord>,
    /// Whether it is cut (MIG); absent if it cannot be.
    pub mig_enabled: Option<bool>,
    /// The part of the load report that is the card's.
    pub telemetry: Reading,
    /// What it does not tell.
    pub refused: Vec<Refusal>,
}

impl Inspection {
    /// Asks the cards at these addresses, or all, and the ports. Takes a second, or as long as a failing card takes.
    pub fn make(node: String, addresses: &[String]) -> Self {
        let mut found = Self {
            node,
            ..Self::default()
        };
        match rdma::read(Path::new(rdma::ROOT)) {
            Ok(reading) => found.rdma = reading,
            Err(error) => found.problems.push(format!("{}: {error}", rdma::ROOT)),
        }
        match Nvml::init() {
            Ok(nvml) => found.ask(&nvml, addresses),
            Err(error) => found.problems.push(nvml::missing(&error)),
        }
        found
    }

    fn ask(&mut self, nvml: &Nvml, addresses: &[String]) {
        self.nvml = Some(Library::of(nvml));
        let mut sensors = Vec::new();
        for (name, device) in devices(nvml, addresses) {
            let addressed = device.and_then(|device| Ok((nvml::spelled(&device.pci_info()?.bus_id), device)));
            match addressed {
                Ok((pci, device)) => sensors.push((pci, Sensor::new(device))),
                Err(error) => self.problems.push(format!("{name}: {}", nvml::reason(&error))),
            }
        }
        if sensors.is_empty() && self.problems.is_empty() {
            self.problems.push("NVML answers and knows of no card".to_owned());
        }
        let looked = sensors.iter_mut().map(|(_, sensor)| sensor.read().0);
        if looked.filter(|reading| reading.gpu.nvlink.is_some()).count() > 0 {
            thread::sleep(BETWEEN);
        }
        self.cards = sensors
            .iter_mut()
            .map(|(pci, sensor)| Card::of(&self.node, pci, sensor))
            .collect();
    }

    /// As JSON, for machines.
    ///
    /// # Errors
    /// None that is known: every value has a form in JSON.
    pub fn json(&self) -> serde_json::Result<String> {
        serde_json::to_string_pretty(self)
    }

    /// For people: a line for each field, by its name in the records.
    pub fn text(&self) -> String {
        text::text(self)
    }
}

/// The cards, each with what to call it before its address is known.
fn devices<'nvml>(nvml: &'nvml Nvml, addresses: &[String]) -> Vec<(String, Result<Device<'nvml>, NvmlError>)> {
    if addresses.is_empty() {
        let cards = 0..nvml.device_count().unwrap_or(0);
        return cards
            .map(|index| (format!("card {index}"), nvml.device_by_index(index)))
            .collect();
    }
    let named = addresses.iter();
    named
        .map(|pci| (format!("--gpu-pci {pci}"), nvml.device_by_pci_bus_id(pci.as_str())))
        .collect()
}

impl Library {
    fn of(nvml: &Nvml) -> Self {
        let cuda = |version| {
            let (major, minor) = (cuda_driver_version_major(version), cuda_driver_version_minor(version));
            format!("{major}.{minor}")
        };
        Self {
            version: nvml.sys_nvml_version().ok(),
            driver: nvml.sys_driver_version().ok(),
            cuda: nvml.sys_cuda_driver_version().ok().map(cuda),
        }
    }
}

impl Card {
    fn of(node: &str, pci: &str, sensor: &mut Sensor<'_>) -> Self {
        let Record {
            device,
            mig_enabled,
            mut refused,
        } = nvml::record(sensor.device());
        let (telemetry, of_reading) = sensor.read();
        refused.extend(of_reading);
        Self {
            pci: pci.to_owned(),
            key: format!("devices/gpu/{node}/{pci}"),
            device,
            mig_enabled,
            telemetry,
            refused,
        }
    }
}
