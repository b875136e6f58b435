//! How much traffic a worker is expected to take, from its card and the card's free memory. Pure.
//!
//! `weight = round(card_prior × memory_factor)`, within `1..=1000`. The prior is relative capacity by card ([`cards`]);
//! the factor falls smoothly from 1 at a quarter of the memory free to 0 at a twentieth, where a card is about to refuse
//! work. Never zero: missing or bad telemetry is not missing capacity, and a worker that is really gone leaves etcd.

pub mod cards;

use cards::Card;
use kilocard_registry::report::WeightFactors;
use kilocard_registry::worker::Telemetry;

/// Heaviest endpoint. Envoy sums weights of a locality in 32 bits, so this leaves room for millions of endpoints.
pub const MAX_WEIGHT: u32 = 1000;

/// Free fraction at and below which the factor is 0.
const MEMORY_FLOOR: f64 = 0.05;
/// Free fraction at and above which the factor is 1.
const MEMORY_AMPLE: f64 = 0.25;
/// The factor moves in steps of `1/MEMORY_STEPS`: each change of a weight makes Envoy rebuild its schedule, so noise in
/// the telemetry must not become pushes.
const MEMORY_STEPS: f64 = 20.0;

/// A weight and where it comes from.
#[derive(Clone, Debug, PartialEq)]
pub struct Weighed {
    /// In `1..=MAX_WEIGHT`.
    pub weight: u32,
    /// The parts, for the report.
    pub factors: WeightFactors,
}

/// The weight of a worker on `card`, whose state was last reported as `telemetry`.
pub fn weigh(card: Card<'_>, telemetry: Option<&Telemetry>) -> Weighed {
    let usable = telemetry.filter(|telemetry| is_coherent(telemetry));
    let card_prior = card.prior(usable.map(|telemetry| telemetry.memory_total_bytes));
    let memory_factor = usable.map_or(1.0, memory_factor);
    let simulated = card.is_simulated() || telemetry.is_some_and(|telemetry| telemetry.simulated);
    Weighed {
        weight: to_weight(card_prior * memory_factor),
        factors: WeightFactors {
            card: card.name().to_owned(),
            card_prior,
            memory_factor,
            simulated,
        },
    }
}

/// Telemetry that contradicts itself is treated as none.
pub(crate) fn is_coherent(telemetry: &Telemetry) -> bool {
    telemetry.memory_total_bytes > 0 && telemetry.memory_free_bytes <= telemetry.memory_total_bytes
}

fn memory_factor(telemetry: &Telemetry) -> f64 {
    // Exact enough: both are below 2^53 for any memory there is.
    let free = telemetry.memory_free_bytes as f64 / telemetry.memory_total_bytes as f64;
    (smoothstep(free, MEMORY_FLOOR, MEMORY_AMPLE) * MEMORY_STEPS).round() / MEMORY_STEPS
}

/// 0 up to `low`, 1 from `high`, the cubic `3x² − 2x³` in between.
fn smoothstep(value: f64, low: f64, high: f64) -> f64 {
    let x = ((value - low) / (high - low)).clamp(0.0, 1.0);
    x * x * (3.0 - 2.0 * x)
}

fn to_weight(capacity: f64) -> u32 {
    // Within 1..=1000 after the clamp, so the cast cannot truncate.
    capacity.round().clamp(1.0, f64::from(MAX_WEIGHT)) as u32
}

#[cfg(test)]
mod tests {
    use super::*;
    use kilocard_registry::device::DeviceRecord;
    use proptest::prelude::*;

    fn device(model: &str, memory_gb: f64) -> DeviceRecord {
        DeviceRecord {
            model: model.to_owned(),
            memory_gb,
            arch: None,
            nvlink: false,
            zone: None,
            rack: None,
            simulated: false,
        }
    }

    fn telemetry(total: u64, free: u64) -> Telemetry {
        Telemetry {
            simulated: false,
            memory_total_bytes: total,
            memory_free_bytes: free,
        }
    }

    fn weight(model: &str, telemetry: Option<&Telemetry>) -> u32 {
        weigh(Card::Known(&device(model, 80.0)), telemetry).weight
    }

    #[test]
    fn hopper_ampere_and_volta_weigh_four_to_two_to_one() {
        let weights =
            ["NVIDIA H100 80GB HBM3", "NVIDIA A100-SXM4-80GB", "Tesla V100-SXM2-16GB"].map(|m| weight(m, None));
        assert_eq!(weights, [400, 200, 100]);
    }

    #[test]
    fn memory_counts_only_below_a_quarter_free() {
        assert_eq!(weight("H100", Some(&telemetry(100, 25))), 400);
        assert_eq!(weight("H100", Some(&telemetry(100, 15))), 200);
        assert_eq!(weight("H100", Some(&telemetry(100, 5))), 1);
    }

    #[test]
    fn telemetry_that_contradicts_itself_is_ignored() {
        assert_eq!(weight("H100", Some(&telemetry(0, 0))), 400);
        assert_eq!(weight("H100", Some(&telemetry(10, 11))), 400);
    }

    #[test]
    fn simulated_cards_and_simulated_telemetry_are_labelled() {
        let mut simulated = device("H100", 80.0);
        simulated.simulated = true;
        assert!(weigh(Card::Known(&simulated), None).factors.simulated);
        let reading = Telemetry {
            simulated: true,
            ..telemetry(2, 1)
        };
        assert!(weigh(Card::Cpu, Some(&reading)).factors.simulated);
        assert!(!weigh(Card::Cpu, None).factors.simulated);
    }

    proptest! {
        #[test]
        fn a_weight_is_bounded_never_zero_and_explained_by_its_factors(
            model in "[A-Za-z0-9 -]{1,20}", memory in 0.1f64..1e6, total in any::<u64>(), free in any::<u64>(),
        ) {
            let device = device(&model, memory);
            for card in [Card::Known(&device), Card::Unlisted("n/0"), Card::Cpu] {
                let Weighed { weight, factors } = weigh(card, Some(&telemetry(total, free)));
                prop_assert!((1..=MAX_WEIGHT).contains(&weight));
                prop_assert!((0.0..=1.0).contains(&factors.memory_factor));
                prop_assert_eq!(weight, to_weight(factors.card_prior * factors.memory_factor));
            }
        }

        #[test]
        fn more_free_memory_never_weighs_less(total in 1u64..1 << 40, a in 0.0f64..=1.0, b in 0.0f64..=1.0) {
            let weight = |fraction: f64| weight("A100", Some(&telemetry(total, (fraction * total as f64) as u64)));
            prop_assert!(weight(a.min(b)) <= weight(a.max(b)));
        }
    }
}
