//! What a card is: the record of it in the inventory.

use super::{Refusal, Refusals, sensor};
use kilocard_registry::device::{DeviceRecord, MigSlice, PcieLink};
use nvml_wrapper::{Device, enums::device::DeviceArchitecture, error::NvmlError};
use serde::Serialize;

const GIB: f64 = (1_u64 << 30) as f64;
const MIB_IN_GIB: f64 = 1024.0;
/// Compute slices of a card that is cut (NVIDIA, *MIG User Guide*, "GPU Instance").
const SLICES: f64 = 7.0;

/// A card as it goes into the inventory. Where it stands (zone and rack) nobody but the operator knows.
#[derive(Clone, Debug, Serialize)]
pub struct Record {
    /// The record; absent if the card does not tell its name or its memory, without which it is none.
    pub device: Option<DeviceRecord>,
    /// Whether it is cut (MIG); absent if it cannot be.
    pub mig_enabled: Option<bool>,
    /// What it did not tell.
    pub refused: Vec<Refusal>,
}

/// Asks a card what it is.
pub fn record(device: &Device<'_>) -> Record {
    let mut refusals = Refusals::default();
    let model = refusals.ok("device.model", device.name());
    let memory = refusals.ok("device.memory_gb", device.memory_info());
    let arch = refusals.ok("device.arch", device.architecture());
    let link = (
        refusals.ok("device.pcie.generation", device.max_pcie_link_gen()),
        refusals.ok("device.pcie.width", device.max_pcie_link_width()),
    );
    let mig_mode = refusals.ok("device.mig", device.mig_mode());
    let mig_enabled = mig_mode.map(|mode| mode.current == 1);
    let mig = if mig_enabled == Some(true) {
        slices(device, &mut refusals)
    } else {
        Vec::new()
    };
    let record = model.zip(memory).map(|(model, memory)| DeviceRecord {
        model,
        memory_gb: (memory.total as f64 / GIB * 10.0).round() / 10.0,
        arch: arch.as_ref().and_then(arch_word),
        nvlink: sensor::active_links(device, sensor::links(device)).next().is_some(),
        pcie: pcie(link),
        mig,
        driver: refusals.ok("device.driver", device.nvml().sys_driver_version()),
        ..DeviceRecord::default()
    });
    Record {
        device: record.filter(|record| record.memory_gb > 0.0),
        mig_enabled,
        refused: refusals.0,
    }
}

fn arch_word(arch: &DeviceArchitecture) -> Option<String> {
    (*arch != DeviceArchitecture::Unknown).then(|| arch.to_string().to_ascii_lowercase())
}

fn pcie(link: (Option<u32>, Option<u32>)) -> Option<PcieLink> {
    Some(PcieLink {
        generation: u8::try_from(link.0?).ok()?,
        width: u8::try_from(link.1?).ok()?,
    })
}

fn slices(device: &Device<'_>, refusals: &mut Refusals) -> Vec<MigSlice> {
    let most = refusals.ok("device.mig", device.mig_device_count()).unwrap_or(0);
    // Of the places that there could be, those without a slice answer "not found".
    let places = (0..most).filter_map(|index| match device.mig_device_by_index(index) {
        Err(NvmlError::NotFound) => None,
        slice => refusals.ok("device.mig", slice),
    });
    let slices: Vec<_> = places.collect();
    slices
        .iter()
        .filter_map(|slice| {
            let name = refusals.ok("device.mig", slice.name())?;
            let attributes = refusals.ok("device.mig", slice.attributes())?;
            Some(MigSlice {
                profile: profile(&name)?.to_owned(),
                memory_gb: attributes.memory_size_mb as f64 / MIB_IN_GIB,
                compute_fraction: f64::from(attributes.compute_instance_slice_count) / SLICES,
            })
        })
        .collect()
}

/// The profile at the end of a slice's name: `3g.40gb` of `NVIDIA H100 80GB HBM3 MIG 3g.40gb`.
fn profile(name: &str) -> Option<&str> {
    let (_, profile) = name.rsplit_once(" MIG ")?;
    Some(profile.trim()).filter(|profile| !profile.is_empty())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_slices_profile_is_read_from_its_name() {
        assert_eq!(profile("NVIDIA H100 80GB HBM3 MIG 3g.40gb"), Some("3g.40gb"));
        assert_eq!(
            profile("NVIDIA A100-SXM4-40GB MIG 1c.3g.20gb+me"),
            Some("1c.3g.20gb+me")
        );
        assert_eq!(profile("NVIDIA H100 80GB HBM3"), None);
        assert_eq!(profile("NVIDIA MIG "), None);
    }

    #[test]
    fn an_architecture_is_told_in_the_inventorys_words_and_a_new_one_not_guessed() {
        assert_eq!(arch_word(&DeviceArchitecture::Hopper).as_deref(), Some("hopper"));
        assert_eq!(arch_word(&DeviceArchitecture::Unknown), None);
    }

    #[test]
    fn half_a_link_is_none() {
        let link = PcieLink {
            generation: 5,
            width: 16,
        };
        assert_eq!(pcie((Some(5), Some(16))), Some(link));
        assert_eq!(pcie((Some(5), None)), None);
        assert_eq!(pcie((Some(5), Some(1000))), None);
    }
}
