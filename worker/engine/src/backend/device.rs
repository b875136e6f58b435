//! Which device computes.

use super::DeviceKind;
use candle_core::Device;

/// What the operator asked for.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum DeviceChoice {
    /// A GPU if one can be used, else the processor.
    #[default]
    Auto,
    /// The processor.
    Cpu,
    /// A GPU, or nothing.
    Cuda,
}

/// The GPU that was asked for cannot be used.
#[derive(Debug, thiserror::Error)]
#[error(
    "no GPU can be used: {0}; use --device cpu, or a build with the feature `cuda` on a machine with an NVIDIA driver"
)]
pub struct NoGpu(String);

/// A device that was tried.
#[derive(Clone, Debug)]
pub struct SelectedDevice {
    pub(crate) device: Device,
    kind: DeviceKind,
}

impl SelectedDevice {
    /// What it is.
    pub fn kind(&self) -> DeviceKind {
        self.kind
    }
}

/// Finds the device by trying it: how a binary was compiled says nothing about the machine it runs on.
///
/// # Errors
/// [`NoGpu`] if a GPU was demanded and cannot be used.
pub fn select(choice: DeviceChoice) -> Result<SelectedDevice, NoGpu> {
    let cpu = SelectedDevice {
        device: Device::Cpu,
        kind: DeviceKind::Cpu,
    };
    if choice == DeviceChoice::Cpu {
        return Ok(cpu);
    }
    match Device::new_cuda(0) {
        Ok(device) => Ok(SelectedDevice {
            device,
            kind: DeviceKind::Cuda,
        }),
        Err(error) if choice == DeviceChoice::Cuda => Err(NoGpu(error.to_string())),
        Err(error) => {
            tracing::info!(reason = %error, "no GPU, computing on the CPU");
            Ok(cpu)
        }
    }
}
