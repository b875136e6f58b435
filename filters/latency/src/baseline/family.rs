//! What a family of kinds has taken in the long run: where its tail is learnt that kinds with few requests borrow.

use super::Shape;
use crate::codec::Reader;
use crate::survival::Survival;
use crate::window::{Epoch, Slot};

/// With so many samples, half the weight of all of them is forgotten. Of those beyond the P99.9 two hundred are left then.
const FORGET_AT: u64 = 400_000;
const FORM: u8 = 1;

/// The long run of one kind, or of all kinds of a model. As bytes some hundred to [at most](Family::MAX_BYTES) 10.5 KiB.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Family {
    sum: Survival,
    last: Epoch,
}

impl Family {
    /// The most bytes of an encoding.
    pub const MAX_BYTES: usize = 9 + Survival::MAX_BYTES;

    /// Adds the slots of an epoch that is over. An epoch that was added already, or that is older, changes nothing, so it does
    /// not matter which thread comes first. Whether it was added.
    pub fn absorb<'s>(&mut self, epoch: Epoch, slots: impl IntoIterator<Item = &'s Slot>, now: Epoch) -> bool {
        // After a step of the clock back, what lies ahead was never.
        let last = if self.last > now { Epoch::default() } else { self.last };
        if epoch <= last || epoch >= now {
            return false;
        }
        self.last = epoch;
        for slot in slots {
            if slot.epoch() == epoch {
                self.sum.merge(slot.survival());
            }
        }
        while self.sum.count() > FORGET_AT {
            self.sum.halve();
        }
        true
    }

    /// How far its quantiles lie apart, once there are 20,000 samples.
    pub fn shape(&self) -> Option<Shape> {
        Shape::of(&self.sum)
    }

    /// For the store: form u8, the last epoch u64, survival.
    pub fn to_bytes(&self) -> Vec<u8> {
        let mut bytes = vec![FORM];
        bytes.extend(self.last.get().to_le_bytes());
        self.sum.encode(&mut bytes);
        bytes
    }

    /// Of such bytes; of others, a family of which nothing is known.
    pub fn from_bytes(bytes: &[u8]) -> Self {
        Self::read(bytes).unwrap_or_default()
    }

    fn read(bytes: &[u8]) -> Option<Self> {
        let mut reader = Reader::of_form(bytes, FORM)?;
        let last = Epoch::new(reader.u64()?);
        let sum = Survival::decode(reader.rest()).ok()?;
        Some(Self { sum, last })
    }
}

#[cfg(test)]
mod tests {
    use std::time::Duration;

    use super::*;

    /// Of Pareto's law with α = 1.5, whose P99.9 is 4.64 times its P99.
    fn slot(epoch: u64, count: u32) -> Slot {
        let mut rng = fastrand::Rng::with_seed(epoch);
        let mut slot = Slot::new(0, Epoch::new(epoch));
        for _ in 0..count {
            let seconds = 0.05 * (1.0 - rng.f64()).powf(-1.0 / 1.5);
            slot.survival_mut().record(Duration::from_secs_f64(seconds));
        }
        slot
    }

    #[test]
    fn a_kind_with_few_requests_has_a_tail_in_the_long_run() {
        let mut family = Family::default();
        for epoch in 1..2000 {
            assert!(family.absorb(Epoch::new(epoch), [&slot(epoch, 360)], Epoch::new(epoch + 1)));
            assert_eq!(family.shape().is_some(), epoch >= 56, "{epoch}");
        }
        let ratio = family.shape().unwrap().from_p99;
        assert!((4.0..5.3).contains(&ratio), "{ratio}");
        assert!(family.sum.count() <= FORGET_AT);
        assert_eq!(Family::from_bytes(&family.to_bytes()), family);
        assert!(family.to_bytes().len() <= Family::MAX_BYTES);
    }

    #[test]
    fn an_epoch_counts_once_and_only_when_it_is_over() {
        let mut family = Family::default();
        let (early, late) = (slot(7, 10), slot(8, 10));
        assert!(!family.absorb(Epoch::new(8), [&late], Epoch::new(8)));
        assert!(family.absorb(Epoch::new(8), [&early, &late, &late], Epoch::new(9)));
        assert!(!family.absorb(Epoch::new(8), [&late], Epoch::new(9)));
        assert!(!family.absorb(Epoch::new(7), [&early], Epoch::new(9)));
        assert_eq!(family.sum.count(), 20, "two threads' slots of the one epoch");
        assert!(family.absorb(Epoch::new(3), [], Epoch::new(4)), "the clock went back");
    }

    #[test]
    fn foreign_bytes_are_a_family_of_which_nothing_is_known() {
        for foreign in [&b""[..], b"something", &[1; 9]] {
            assert_eq!(Family::from_bytes(foreign), Family::default());
        }
    }
}
