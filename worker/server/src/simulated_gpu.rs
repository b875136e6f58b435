//! A GPU that is not there: declared in a file, so that a mesh can be tried on machines without GPUs. Everything made
//! from it says that it is simulated.

use kilocard_registry::{
    device::DeviceRecord,
    telemetry::{EngineLoad, GpuReading, RdmaReading, ServingHealth, Telemetry},
};
use serde::Deserialize;
use std::{
    fs, io,
    path::{Path, PathBuf},
};

const GIB: f64 = (1_u64 << 30) as f64;

/// The file's content.
#[derive(Clone, Debug, PartialEq, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct SimulatedGpu {
    /// PCI address, for example `0000:3b:00.0`.
    pub pci: String,
    /// As the inventory will show it; `simulated` need not be set.
    pub device: DeviceRecord,
    /// Free memory.
    pub memory_free_bytes: u64,
    /// The profile of the slice that is pretended to be used, of a card that is cut (MIG).
    #[serde(default)]
    pub mig_profile: Option<String>,
    /// What the health service is pretended to say in the load report.
    #[serde(default)]
    pub health: Option<ServingHealth>,
    /// What NVML is pretended to say.
    #[serde(default)]
    pub gpu: GpuReading,
    /// What the RDMA ports are pretended to be.
    #[serde(default)]
    pub rdma: Option<RdmaReading>,
    /// What goes before the engine's own numbers; those that are absent are measured.
    #[serde(default)]
    pub engine: EngineLoad,
}

/// Why the file cannot be used.
#[derive(Debug, thiserror::Error)]
pub enum SimulatedGpuError {
    /// It cannot be read.
    #[error("{path}: {source}")]
    Io {
        /// The file.
        path: PathBuf,
        /// What the system said.
        source: io::Error,
    },
    /// It is not the JSON it should be.
    #[error(
        "{path}: {source}; it should look like {{\"pci\": \"0000:3b:00.0\", \"device\": {{\"model\": \"NVIDIA H100 80GB HBM3\", \"memory_gb\": 80}}, \"memory_free_bytes\": 80000000000}}"
    )]
    Json {
        /// The file.
        path: PathBuf,
        /// What is wrong.
        source: serde_json::Error,
    },
    /// A value makes no sense.
    #[error("{path}: {reason}")]
    Value {
        /// The file.
        path: PathBuf,
        /// What is wrong.
        reason: String,
    },
}

impl SimulatedGpu {
    /// Reads and checks the file.
    ///
    /// # Errors
    /// [`SimulatedGpuError`].
    pub fn read(path: &Path) -> Result<Self, SimulatedGpuError> {
        let text = fs::read(path).map_err(|source| SimulatedGpuError::Io {
            path: path.to_owned(),
            source,
        })?;
        let mut gpu: Self = serde_json::from_slice(&text).map_err(|source| SimulatedGpuError::Json {
            path: path.to_owned(),
            source,
        })?;
        gpu.device.simulated = true;
        let refuse = |reason: String| SimulatedGpuError::Value {
            path: path.to_owned(),
            reason,
        };
        if !is_pci_address(&gpu.pci) {
            return Err(refuse(format!(
                "pci {:?} is no PCI address such as \"0000:3b:00.0\"",
                gpu.pci
            )));
        }
        if !(gpu.device.memory_gb.is_finite() && gpu.device.memory_gb > 0.0 && gpu.device.memory_gb < 1e6) {
            return Err(refuse(format!(
                "device.memory_gb {} is no size of a memory",
                gpu.device.memory_gb
            )));
        }
        if gpu.memory_free_bytes > gpu.memory_total_bytes() {
            return Err(refuse(format!(
                "memory_free_bytes {} is more than the card has: {}",
                gpu.memory_free_bytes,
                gpu.memory_total_bytes()
            )));
        }
        Ok(gpu)
    }

    fn memory_total_bytes(&self) -> u64 {
        (self.device.memory_gb * GIB) as u64
    }

    /// A load report with what the card is pretended to say, on top of what the engine really says.
    pub fn report(&self, measured: Telemetry) -> Telemetry {
        let (told, real) = (self.engine.clone(), measured.engine);
        Telemetry {
            simulated: true,
            memory_total_bytes: self.memory_total_bytes(),
            memory_free_bytes: self.memory_free_bytes,
            health: self.health.or(measured.health),
            gpu: self.gpu.clone(),
            rdma: self.rdma.clone(),
            engine: EngineLoad {
                kv_total_blocks: told.kv_total_blocks.or(real.kv_total_blocks),
                kv_free_blocks: told.kv_free_blocks.or(real.kv_free_blocks),
                queue: told.queue.or(real.queue),
                in_flight: told.in_flight.or(real.in_flight),
                requests_per_second: told.requests_per_second.or(real.requests_per_second),
                tokens_per_second: told.tokens_per_second.or(real.tokens_per_second),
                busy_fraction: told.busy_fraction.or(real.busy_fraction),
                error_rate: told.error_rate.or(real.error_rate),
                tensor_parallel: told.tensor_parallel.or(real.tensor_parallel),
            },
            ..measured
        }
    }
}

/// `domain:bus:device.function`, hexadecimal.
pub(crate) fn is_pci_address(text: &str) -> bool {
    let hex = |text: &str, lens: &[usize]| lens.contains(&text.len()) && text.bytes().all(|b| b.is_ascii_hexdigit());
    let parts: Vec<&str> = text.split([':', '.']).collect();
    matches!(parts.as_slice(), [domain, bus, device, function]
        if hex(domain, &[4, 8]) && hex(bus, &[2]) && hex(device, &[2]) && hex(function, &[1]))
        && text.matches('.').count() == 1
}

#[cfg(test)]
mod tests {
    use super::*;

    fn read(json: &str) -> Result<SimulatedGpu, SimulatedGpuError> {
        let file = tempfile::NamedTempFile::new().unwrap();
        fs::write(file.path(), json).unwrap();
        SimulatedGpu::read(file.path())
    }

    #[test]
    fn a_simulated_gpu_is_always_labelled_so() {
        let gpu = read(
            r#"{"pci": "0000:3b:00.0", "device": {"model": "NVIDIA L4", "memory_gb": 24, "simulated": false},
                "memory_free_bytes": 1000, "engine": {"queue": 9}, "gpu": {"xids": [{"code": 79}]}}"#,
        )
        .unwrap();
        assert!(gpu.device.simulated);
        let mut measured = Telemetry::default();
        (measured.engine.queue, measured.engine.in_flight) = (Some(3.0), Some(4.0));
        let report = gpu.report(measured);
        assert!(report.simulated);
        assert_eq!((report.memory_total_bytes, report.memory_free_bytes), (24 << 30, 1000));
        assert_eq!(
            (report.engine.queue, report.engine.in_flight),
            (Some(9.0), Some(4.0)),
            "the engine's own is real"
        );
        assert_eq!(report.gpu.xids[0].code, 79);
    }

    #[test]
    fn values_that_make_no_sense_are_named() {
        for (pci, memory_gb, free, message) in [
            ("3b", "24", "0", "pci \"3b\" is no PCI address"),
            ("../../x", "24", "0", "is no PCI address"),
            ("0000:3b:00.0", "-1", "0", "device.memory_gb -1 is no size"),
            ("0000:3b:00.0", "1", "1073741825", "more than the card has: 1073741824"),
            ("0000:3b:00.0", "1", "-5", "it should look like"),
        ] {
            let json = format!(
                r#"{{"pci": "{pci}", "device": {{"model": "m", "memory_gb": {memory_gb}}}, "memory_free_bytes": {free}}}"#
            );
            let error = read(&json).unwrap_err().to_string();
            assert!(error.contains(message), "{error}");
        }
    }
}
