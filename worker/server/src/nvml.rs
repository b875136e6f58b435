//! NVIDIA's cards as NVML tells of them. NVML is loaded when the program runs: without it, or without the card, there is no
//! reading, and [`missing`] says what to do about it.
//!
//! Every getter may answer "not supported" on one card or another. Then that reading is absent, and a [`Refusal`] names it.

mod raw;
mod record;
mod sensor;
mod watch;

pub use record::{Record, record};
pub use sensor::{Reading, Sensor};
pub use watch::NvmlCard;

use nvml_wrapper::error::NvmlError;
use serde::Serialize;

/// A reading that a card did not give.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
pub struct Refusal {
    /// Its name in the load report or the device record.
    pub field: &'static str,
    /// What NVML said.
    pub reason: String,
}

/// Collects what a card does not tell while it is asked.
#[derive(Debug, Default)]
struct Refusals(Vec<Refusal>);

impl Refusals {
    fn ok<T>(&mut self, field: &'static str, answer: Result<T, NvmlError>) -> Option<T> {
        answer.map_err(|error| self.name(field, reason(&error))).ok()
    }

    fn name(&mut self, field: &'static str, reason: String) {
        self.0.push(Refusal { field, reason });
    }
}

/// Why one question had no answer.
pub fn reason(error: &NvmlError) -> String {
    match error {
        NvmlError::NotSupported => "not supported".to_owned(),
        NvmlError::NotFound => "there is no such card".to_owned(),
        NvmlError::FailedToLoadSymbol(_) | NvmlError::FunctionNotFound => "not in this driver's NVML".to_owned(),
        other => other.to_string(),
    }
}

/// Why NVML does not answer at all, and what helps.
pub fn missing(error: &NvmlError) -> String {
    let help = match error {
        NvmlError::LibloadingError(_) | NvmlError::LibraryNotFound => {
            "libnvidia-ml.so.1 comes with NVIDIA's driver; into a container it is brought by NVIDIA's container toolkit \
             (docker run --gpus all, or a pod that asks for nvidia.com/gpu)"
        }
        NvmlError::DriverNotLoaded => {
            "the library is there, but the kernel's driver is not loaded or its devices (/dev/nvidia*) are not here: \
             modprobe nvidia, or start the container with the GPUs"
        }
        NvmlError::LibRmVersionMismatch => {
            "libnvidia-ml.so.1 and the kernel's driver are of different versions: reboot, or reload the driver"
        }
        NvmlError::NoPermission => "this user may not open /dev/nvidiactl and /dev/nvidia*",
        _ => return format!("NVML: {error}"),
    };
    format!("NVML: {error}; {help}")
}

/// A PCI address as Kilocard spells it, `0000:3b:00.0`: NVML writes capitals and a domain of eight digits.
pub fn spelled(bus_id: &str) -> String {
    let small = bus_id.to_ascii_lowercase();
    match small.split_once(':') {
        Some((domain, rest)) if domain.len() == 8 && domain.starts_with("0000") => format!("{}:{rest}", &domain[4..]),
        _ => small,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_address_is_spelled_as_lspci_and_the_inventory_do() {
        for (nvml, ours) in [
            ("00000000:3B:00.0", "0000:3b:00.0"),
            ("0000:3B:00.0", "0000:3b:00.0"),
            ("00010000:0A:00.0", "00010000:0a:00.0"),
            ("é", "é"),
        ] {
            assert_eq!(spelled(nvml), ours);
        }
    }

    #[test]
    fn what_is_missing_is_told_with_what_helps() {
        assert!(missing(&NvmlError::DriverNotLoaded).contains("modprobe nvidia"));
        assert!(missing(&NvmlError::LibRmVersionMismatch).contains("different versions"));
        assert_eq!(missing(&NvmlError::Timeout), "NVML: the provided timeout was reached");
    }

    #[test]
    fn a_refused_reading_is_absent_and_named() {
        let mut refusals = Refusals::default();
        assert_eq!(refusals.ok("gpu.temperature_c", Ok(40)), Some(40));
        assert_eq!(
            refusals.ok::<u32>("gpu.sm_clock_mhz", Err(NvmlError::NotSupported)),
            None
        );
        let refusal = Refusal {
            field: "gpu.sm_clock_mhz",
            reason: "not supported".to_owned(),
        };
        assert_eq!(refusals.0, [refusal]);
    }
}
