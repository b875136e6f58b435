//! Cards by their short names, so that a cluster can be described in a line: `4xH100,2xA100/3g.20gb,8xL4`.

use crate::chance::stream;
use crate::scenario::CardSpec;
use kilocard_registry::device::{DeviceRecord, MigSlice};
use kilocard_weights::{Card, Constants};

/// Requests that a GiB of memory holds at once, beside the model.
const SLOTS_PER_GIB: f64 = 2.0;
/// Prior of the card that does one second of work a second: an A100.
const PRIOR_OF_SPEED_1: f64 = 200.0;

/// Short name, product name, memory in GiB.
const CARDS: [(&str, &str, f64); 10] = [
    ("B200", "NVIDIA B200", 180.0),
    ("H200", "NVIDIA H200", 141.0),
    ("H100", "NVIDIA H100 80GB HBM3", 80.0),
    ("A100", "NVIDIA A100-SXM4-80GB", 80.0),
    ("V100", "Tesla V100-SXM2-16GB", 16.0),
    ("L40S", "NVIDIA L40S", 48.0),
    ("A30", "NVIDIA A30", 24.0),
    ("A10", "NVIDIA A10", 24.0),
    ("L4", "NVIDIA L4", 24.0),
    ("T4", "Tesla T4", 16.0),
];

/// A line that describes no cluster.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum InvalidCards {
    /// Not of the form.
    #[error("{0:?} is not COUNTxCARD or COUNTxCARD/SLICE, as in 4xH100 or 2xA100/3g.20gb")]
    Form(String),
    /// A card that the simulator does not know.
    #[error("there is no card {given:?}; the simulator knows {}", known())]
    Card {
        /// Given.
        given: String,
    },
    /// A slice that no card is cut into.
    #[error("{0:?} is no MIG profile; it must look like 3g.20gb, with 1 to 7 slices of compute")]
    Slice(String),
    /// Too many at once.
    #[error("{0} cards are more than the simulator takes: 10000")]
    TooMany(usize),
}

fn known() -> String {
    CARDS.map(|(name, ..)| name).join(", ")
}

/// The cards of a line, each with the prior that the control plane gives it, and truly as fast as the built-in table says.
///
/// # Errors
/// [`InvalidCards`].
pub fn parse(line: &str, constants: &Constants) -> Result<Vec<CardSpec>, InvalidCards> {
    let mut cards = Vec::new();
    for group in line.split(',') {
        let form = || InvalidCards::Form(group.to_owned());
        let (count, name) = group.trim().split_once(['x', 'X']).ok_or_else(form)?;
        let count: usize = count.parse().map_err(|_| form())?;
        if cards.len().saturating_add(count) > 10_000 {
            return Err(InvalidCards::TooMany(cards.len().saturating_add(count)));
        }
        let (name, slice) = match name.split_once('/') {
            Some((name, slice)) => (name, Some(slice)),
            None => (name, None),
        };
        let card = card(name, slice, constants)?;
        cards.extend(std::iter::repeat_n(card, count));
    }
    Ok(cards)
}

fn card(name: &str, slice: Option<&str>, constants: &Constants) -> Result<CardSpec, InvalidCards> {
    let found = CARDS.iter().find(|(short, ..)| short.eq_ignore_ascii_case(name));
    let (_, model, memory_gib) = found.ok_or_else(|| InvalidCards::Card { given: name.to_owned() })?;
    let mut spec = CardSpec {
        model: (*model).to_owned(),
        slice: slice.map(str::to_owned),
        prior: 1,
        speed: 0.0,
        slots: 1,
        memory_gib: *memory_gib,
    };
    if let Some(profile) = slice {
        spec.memory_gib = memory_of(profile).ok_or_else(|| InvalidCards::Slice(profile.to_owned()))?;
    }
    spec.slots = (spec.memory_gib * SLOTS_PER_GIB).max(1.0) as usize;
    let device = spec.device();
    let mig = spec.slice.as_deref();
    let known = Card::Known { device: &device, mig };
    let prior = known.prior(None, &constants.cards);
    spec.prior = prior.round().clamp(1.0, f64::from(kilocard_weights::MAX_WEIGHT)) as u32;
    // What a policy believes of a card makes it no faster.
    spec.speed = known.prior(None, &[]) / PRIOR_OF_SPEED_1;
    Ok(spec)
}

/// `3g.20gb` has 3 slices of compute and 20 GB.
fn memory_of(profile: &str) -> Option<f64> {
    let (compute, memory) = profile.split_once("g.")?;
    let compute: u8 = compute.parse().ok()?;
    let memory: f64 = memory.strip_suffix("gb")?.parse().ok()?;
    ((1..=7).contains(&compute) && memory > 0.0 && memory <= 400.0).then_some(memory)
}

impl CardSpec {
    /// The card as the inventory would hold it.
    pub fn device(&self) -> DeviceRecord {
        let slice = self.slice.iter().map(|profile| MigSlice {
            profile: profile.clone(),
            memory_gb: self.memory_gib,
            compute_fraction: compute_of(profile),
        });
        DeviceRecord {
            model: self.model.clone(),
            memory_gb: self.memory_gib,
            mig: slice.collect(),
            simulated: true,
            ..DeviceRecord::default()
        }
    }
}

fn compute_of(profile: &str) -> f64 {
    let slices = profile
        .split_once("g.")
        .and_then(|(compute, _)| compute.parse::<f64>().ok());
    slices.unwrap_or(1.0) / 7.0
}

/// Makes each card truly faster or slower than its model's prior, by up to the fraction `spread`: no two cards of a kind are
/// alike, and no table is right.
pub fn scatter(cards: &mut [CardSpec], spread: f64, seed: u64) {
    let mut rng = stream(seed, 5);
    for card in cards {
        card.speed *= 1.0 + spread * (2.0 * rng.f64() - 1.0);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_line_becomes_cards_with_the_priors_of_the_control_plane() {
        let cards = parse("2xH100, 1xa100/3g.40gb,1xV100", &Constants::default()).unwrap();
        let seen: Vec<(u32, f64, usize)> = cards.iter().map(|c| (c.prior, c.memory_gib, c.slots)).collect();
        assert_eq!(
            seen,
            [(400, 80.0, 160), (400, 80.0, 160), (86, 40.0, 80), (100, 16.0, 32)]
        );
        assert!((cards[2].speed - 3.0 / 7.0).abs() < 1e-9);
    }

    #[test]
    fn a_policy_changes_what_is_believed_of_a_card_and_not_the_card() {
        let mut constants = Constants::default();
        constants.cards.push(kilocard_weights::CardPrior {
            product: "L4".to_owned(),
            mig: None,
            capacity: 400.0,
        });
        let card = &parse("1xL4", &constants).unwrap()[0];
        assert_eq!((card.prior, card.speed), (400, 0.3));
    }

    #[test]
    fn a_line_that_is_wrong_is_told_what_would_be_right() {
        let wrong = [
            ("H100", "COUNTxCARD"),
            ("4xH101", "the simulator knows B200, H200, H100"),
            ("4xA100/9g.20gb", "1 to 7 slices"),
            ("9000xL4,2000xL4", "11000 cards are more"),
            ("", "COUNTxCARD"),
        ];
        for (line, expected) in wrong {
            let error = parse(line, &Constants::default()).unwrap_err().to_string();
            assert!(error.contains(expected), "{line}: {error}");
        }
    }

    #[test]
    fn scattering_keeps_within_the_spread_and_depends_on_the_seed() {
        let cards = parse("50xA100", &Constants::default()).unwrap();
        let scattered = |seed| {
            let mut cards = cards.clone();
            scatter(&mut cards, 0.2, seed);
            cards
        };
        assert!(scattered(1).iter().all(|card| (0.8..=1.2).contains(&card.speed)));
        assert_eq!(scattered(1), scattered(1));
        assert_ne!(scattered(1), scattered(2));
    }
}
