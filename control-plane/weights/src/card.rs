//! What a worker computes on, and the capacity expected of it until it is measured: one table.

use kilocard_registry::device::DeviceRecord;

/// What a worker computes on.
#[derive(Clone, Copy, Debug)]
pub enum Card<'a> {
    /// No card: the CPU.
    Cpu,
    /// A card from the inventory, or a slice of it.
    Known {
        /// The card.
        device: &'a DeviceRecord,
        /// The profile of the slice (MIG), as in `3g.40gb`.
        mig: Option<&'a str>,
    },
    /// A card that the worker names and the inventory lacks, by its id.
    Unlisted(&'a str),
}

/// An expected capacity that goes before the built-in table.
#[derive(Clone, Debug, PartialEq)]
pub struct CardPrior {
    /// Words that follow one another in the product name: `h100`, `A100 SXM4 80GB`; `cpu` for no card.
    pub product: String,
    /// The profile of a slice; `None` for whole cards and, times their fraction of the compute, for slices without an entry.
    pub mig: Option<String>,
    /// Against an H100's 400.
    pub capacity: f64,
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
/// The least slice of any card.
const LEAST_SLICE: f64 = 1.0 / 7.0;
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

impl<'a> Card<'a> {
    /// As the report names it: a slice as `NVIDIA A100-SXM4-40GB 3g.20gb`.
    pub fn name(&self) -> String {
        match self {
            Self::Cpu => "cpu".to_owned(),
            Self::Known { device, mig: None } => device.model.clone(),
            Self::Known { device, mig: Some(mig) } => format!("{} {mig}", device.model),
            Self::Unlisted(id) => (*id).to_owned(),
        }
    }

    /// True when the inventory says that no such card exists.
    pub fn is_simulated(&self) -> bool {
        matches!(self, Self::Known { device, .. } if device.simulated)
    }

    /// Relative capacity. `memory_bytes` is what telemetry says of the card, for one that the inventory lacks; `overrides` go
    /// before the table, the first that fits.
    pub fn prior(&self, memory_bytes: Option<u64>, overrides: &[CardPrior]) -> f64 {
        let (product, slice) = match self {
            Self::Cpu => ("cpu", None),
            Self::Known { device, mig } => (device.model.as_str(), *mig),
            Self::Unlisted(_) => {
                return memory_bytes.map_or(UNKNOWN, |bytes| by_memory(bytes as f64 / GIB));
            }
        };
        let mut fitting = overrides.iter().filter(|prior| is_product(product, &prior.product));
        if let Some(exact) = fitting.clone().find(|prior| prior.mig.as_deref() == slice) {
            return exact.capacity;
        }
        let fraction = self.compute_fraction();
        let whole = fitting.find(|prior| prior.mig.is_none()).map(|prior| prior.capacity);
        whole.unwrap_or_else(|| self.built_in()) * fraction
    }

    fn built_in(&self) -> f64 {
        match self {
            Self::Known { device, .. } => by_model(&device.model)
                .or_else(|| by_arch(device.arch.as_deref()?))
                .unwrap_or_else(|| by_memory(device.memory_gb)),
            Self::Cpu | Self::Unlisted(_) => CPU,
        }
    }

    /// The part of the card's compute that the slice has: what the inventory says of it, or else the sevenths in the
    /// profile's name.
    fn compute_fraction(&self) -> f64 {
        let Self::Known {
            device,
            mig: Some(profile),
        } = self
        else {
            return 1.0;
        };
        let listed = device.mig.iter().find(|slice| slice.profile == *profile);
        let fraction = listed.map(|slice| slice.compute_fraction);
        let fraction = fraction.or_else(|| sevenths(profile)).unwrap_or(LEAST_SLICE);
        fraction.clamp(LEAST_SLICE, 1.0)
    }
}

/// `3g.40gb` is three of seven compute slices (NVIDIA, *MIG User Guide*, "Device Names and Profiles").
fn sevenths(profile: &str) -> Option<f64> {
    let (slices, _) = profile.split_once("g.")?;
    let slices: u8 = slices.rsplit('.').next()?.parse().ok()?;
    (1..=7).contains(&slices).then(|| f64::from(slices) / 7.0)
}

/// Whether the words of `name` follow one another in the product name: `h100` is in `NVIDIA H100 80GB HBM3`, `l4` is not in
/// `NVIDIA L40S`.
fn is_product(model: &str, name: &str) -> bool {
    let words = |text: &str| -> Vec<String> {
        let words = text.split(|c: char| !c.is_ascii_alphanumeric());
        words
            .filter(|word| !word.is_empty())
            .map(str::to_ascii_lowercase)
            .collect()
    };
    let (model, name) = (words(model), words(name));
    !name.is_empty() && model.windows(name.len()).any(|window| window == name)
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
    use kilocard_registry::device::MigSlice;

    fn device(model: &str, arch: Option<&str>, memory_gb: f64) -> DeviceRecord {
        DeviceRecord {
            model: model.to_owned(),
            memory_gb,
            arch: arch.map(str::to_owned),
            ..DeviceRecord::default()
        }
    }

    fn prior(model: &str, arch: Option<&str>, memory_gb: f64) -> f64 {
        let device = device(model, arch, memory_gb);
        Card::Known {
            device: &device,
            mig: None,
        }
        .prior(None, &[])
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
        assert_eq!(Card::Unlisted("n/0").prior(Some(40 << 30), &[]), 100.0);
        assert_eq!(Card::Unlisted("n/0").prior(None, &[]), UNKNOWN);
    }

    #[test]
    fn a_slice_has_its_part_of_the_cards_compute() {
        let mut whole = device("NVIDIA A100-SXM4-40GB", None, 40.0);
        let slice = |device: &DeviceRecord, mig| Card::Known { device, mig: Some(mig) }.prior(None, &[]);
        for (profile, sevenths) in [("7g.40gb", 7.0), ("3g.20gb", 3.0), ("1c.2g.10gb", 2.0), ("odd", 1.0)] {
            assert!(
                (slice(&whole, profile) - 200.0 / 7.0 * sevenths).abs() < 1e-9,
                "{profile}"
            );
        }
        whole.mig.push(MigSlice {
            profile: "odd".into(),
            memory_gb: 20.0,
            compute_fraction: 0.5,
        });
        assert_eq!(slice(&whole, "odd"), 100.0);
    }

    #[test]
    fn an_override_goes_before_the_table_and_one_of_a_slice_before_one_of_its_card() {
        let prior = |product: &str, mig: Option<&str>, capacity| CardPrior {
            product: product.into(),
            mig: mig.map(str::to_owned),
            capacity,
        };
        let overrides = [
            prior("h100", Some("1g.10gb"), 70.0),
            prior("H100", None, 350.0),
            prior("cpu", None, 3.0),
        ];
        let device = device("NVIDIA H100 80GB HBM3", None, 80.0);
        let of = |mig| Card::Known { device: &device, mig }.prior(None, &overrides);
        assert_eq!(
            (of(None), of(Some("1g.10gb")), of(Some("7g.80gb"))),
            (350.0, 70.0, 350.0)
        );
        assert_eq!(Card::Cpu.prior(None, &overrides), 3.0);
    }
}
