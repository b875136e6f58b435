//! Relative capacity by card, until it is measured: one table.

use kilocard_registry::device::DeviceRecord;

/// What a worker computes on.
#[derive(Clone, Copy, Debug)]
pub enum Card<'a> {
    /// No card: the CPU.
    Cpu,
    /// A card from the inventory.
    Known(&'a DeviceRecord),
    /// A card that the worker names and the inventory lacks, by its id.
    Unlisted(&'a str),
}

/// A CPU worker, against the cards below.
const CPU: f64 = 10.0;
/// A card of which nothing is known, not even its memory: the least of the common ones.
const UNKNOWN: f64 = 40.0;
/// A card known by its memory alone: data-centre cards have held to about this much per GiB (V100 16 GiB: 6, A100 80 GiB:
/// 2.5, H100 80 GiB: 5), of which the lower end is taken.
const PER_GIB: f64 = 2.5;
/// A card known by its memory alone is not believed to beat an H100.
const UNKNOWN_MAX: f64 = 400.0;
const GIB: f64 = (1u64 << 30) as f64;

/// By word of the product name. Anchors: H100 : A100 : V100 = 4 : 2 : 1 for transformer inference; the others follow
/// published dense FP16 throughput and memory bandwidth against their neighbours. Deliberately round: these only have
/// to be right enough for a start.
const BY_MODEL: &[(&str, f64)] = &[
    ("GB300", 1000.0),
    ("GB200", 900.0),
    ("B300", 900.0),
    ("B200", 800.0),
    ("B100", 650.0),
    ("GH200", 500.0),
    ("H200", 480.0),
    ("H100", 400.0),
    ("H800", 380.0),
    ("H20", 200.0),
    ("A100", 200.0),
    ("A800", 190.0),
    ("L40S", 180.0),
    ("L40", 140.0),
    ("A40", 110.0),
    ("V100S", 105.0),
    ("V100", 100.0),
    ("A30", 100.0),
    ("A10G", 80.0),
    ("A10", 80.0),
    ("P100", 60.0),
    ("L4", 60.0),
    ("T4", 40.0),
];

/// By architecture, for a product name that the table above lacks.
const BY_ARCH: &[(&str, f64)] = &[
    ("blackwell", 600.0),
    ("hopper", 380.0),
    ("ada", 120.0),
    ("ampere", 120.0),
    ("volta", 100.0),
    ("turing", 40.0),
];

impl Card<'_> {
    /// As the report names it.
    pub fn name(&self) -> &str {
        match self {
            Self::Cpu => "cpu",
            Self::Known(device) => &device.model,
            Self::Unlisted(id) => id,
        }
    }

    /// True when the inventory says that no such card exists.
    pub fn is_simulated(&self) -> bool {
        matches!(self, Self::Known(device) if device.simulated)
    }

    /// Relative capacity. `memory_bytes` is what telemetry says of the card, for one that the inventory lacks.
    pub fn prior(&self, memory_bytes: Option<u64>) -> f64 {
        match self {
            Self::Cpu => CPU,
            Self::Known(device) => by_model(&device.model)
                .or_else(|| by_arch(device.arch.as_deref()?))
                .unwrap_or_else(|| by_memory(device.memory_gb)),
            Self::Unlisted(_) => memory_bytes.map_or(UNKNOWN, |bytes| by_memory(bytes as f64 / GIB)),
        }
    }
}

/// Whole words only: `L4` must not be found in `L40S`.
fn by_model(model: &str) -> Option<f64> {
    model.split(|c: char| !c.is_ascii_alphanumeric()).find_map(|word| {
        BY_MODEL
            .iter()
            .find(|(name, _)| name.eq_ignore_ascii_case(word))
            .map(|(_, prior)| *prior)
    })
}

fn by_arch(arch: &str) -> Option<f64> {
    BY_ARCH
        .iter()
        .find(|(name, _)| name.eq_ignore_ascii_case(arch))
        .map(|(_, prior)| *prior)
}

fn by_memory(gib: f64) -> f64 {
    (gib * PER_GIB).clamp(CPU, UNKNOWN_MAX)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn prior(model: &str, arch: Option<&str>, memory_gb: f64) -> f64 {
        let device = DeviceRecord {
            model: model.to_owned(),
            memory_gb,
            arch: arch.map(str::to_owned),
            nvlink: false,
            zone: None,
            rack: None,
            simulated: false,
        };
        Card::Known(&device).prior(None)
    }

    #[test]
    fn product_names_are_found_by_whole_words() {
        assert_eq!(prior("NVIDIA L4", None, 24.0), 60.0);
        assert_eq!(prior("NVIDIA L40S", None, 48.0), 180.0);
        assert_eq!(prior("NVIDIA H100 PCIe", None, 80.0), 400.0);
        assert_eq!(prior("nvidia a100-sxm4-40gb", None, 40.0), 200.0);
        assert_eq!(prior("NVIDIA GH200 480GB", None, 96.0), 500.0);
    }

    #[test]
    fn an_unlisted_name_falls_back_to_its_architecture_and_then_to_its_memory() {
        assert_eq!(prior("NVIDIA X9000", Some("Hopper"), 80.0), 380.0);
        assert_eq!(prior("NVIDIA X9000", Some("rubin"), 40.0), 100.0);
        assert_eq!(prior("NVIDIA X9000", None, 1e9), UNKNOWN_MAX);
    }

    #[test]
    fn a_card_that_the_inventory_lacks_is_judged_by_its_telemetry() {
        assert_eq!(Card::Unlisted("n/0").prior(Some(40 << 30)), 100.0);
        assert_eq!(Card::Unlisted("n/0").prior(None), UNKNOWN);
    }
}
