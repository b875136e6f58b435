//! The last five minutes, in ten slots of thirty seconds.
//!
//! A slot belongs to an epoch, the number of whole half-minutes on a monotonic clock that all threads of a proxy share. So
//! threads agree without speaking to each other on which slot is meant, and a slot of an old epoch needs no sweeping: it is
//! written over, or read as nothing. Each slot is one value of the store, so that a flush touches some hundred bytes.

use std::time::Duration;

use crate::codec::Reader;
use crate::survival::Survival;

/// What a slot covers.
pub const SLOT: Duration = Duration::from_secs(30);
/// Slots in the window.
pub const SLOTS: u64 = 10;
const FORM: u8 = 1;
const HEAD: usize = 13;

/// A number of whole slots on the monotonic clock.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, PartialOrd, Ord)]
pub struct Epoch(u64);

impl Epoch {
    /// The epoch of a moment, counted since the clock's beginning.
    pub fn at(now: Duration) -> Self {
        Self(now.as_secs() / SLOT.as_secs())
    }

    /// The place of its slot in the window, below [`SLOTS`].
    pub fn place(self) -> u64 {
        self.0 % SLOTS
    }

    /// Whether it is in the window that ends with the epoch `now`. One ahead is too: another thread may have begun it.
    pub fn is_within(self, now: Self) -> bool {
        self.0.saturating_add(SLOTS) > now.0 && self.0 <= now.0.saturating_add(1)
    }

    /// The one before.
    pub fn before(self) -> Self {
        Self(self.0.saturating_sub(1))
    }

    /// How many epochs have begun since an older one.
    pub fn since(self, older: Self) -> u64 {
        self.0.saturating_sub(older.0)
    }

    /// For a record.
    pub fn get(self) -> u64 {
        self.0
    }

    /// Of a record.
    pub fn new(number: u64) -> Self {
        Self(number)
    }
}

/// What was counted in one epoch for the holder of a place in the [directory](crate::key::Directory): a thread's part of it
/// since it last flushed, or the sum over all threads.
///
/// As bytes: form u8, tenure u32, epoch u64, survival; some hundred bytes usually, [at most](Slot::MAX_BYTES) 10.6 KiB.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Slot {
    tenure: u32,
    epoch: Epoch,
    survival: Survival,
}

impl Slot {
    /// The most bytes of an encoding.
    pub const MAX_BYTES: usize = HEAD + Survival::MAX_BYTES;

    /// An empty slot.
    pub fn new(tenure: u32, epoch: Epoch) -> Self {
        Self {
            tenure,
            epoch,
            survival: Survival::default(),
        }
    }

    /// Its epoch.
    pub fn epoch(&self) -> Epoch {
        self.epoch
    }

    /// What was counted.
    pub fn survival(&self) -> &Survival {
        &self.survival
    }

    /// To count into.
    pub fn survival_mut(&mut self) -> &mut Survival {
        &mut self.survival
    }

    /// Adds a part of the same epoch. Of two epochs or two tenures the newer one stays, whole, so the order in which parts
    /// come does not matter. Whether the part is in the slot now.
    pub fn absorb(&mut self, part: &Self) -> bool {
        let (own, other) = ((self.tenure, self.epoch), (part.tenure, part.epoch));
        if other > own {
            self.clone_from(part);
        } else if other == own {
            self.survival.merge(&part.survival);
        }
        other >= own
    }

    /// What a store holds with a thread's part added. What it holds of another tenure, another form or an epoch outside the
    /// window is written over.
    pub fn flush(shared: &[u8], part: &Self, now: Duration) -> Vec<u8> {
        let mut slot = Self::from_bytes(shared, part.tenure, now).unwrap_or_else(|| Self::new(part.tenure, part.epoch));
        slot.absorb(part);
        slot.to_bytes()
    }

    /// For the store.
    pub fn to_bytes(&self) -> Vec<u8> {
        let mut bytes = vec![FORM];
        bytes.extend(self.tenure.to_le_bytes());
        bytes.extend(self.epoch.0.to_le_bytes());
        self.survival.encode(&mut bytes);
        bytes
    }

    /// What a store holds of the tenure within the window; bytes of anything else are nothing.
    pub fn from_bytes(bytes: &[u8], tenure: u32, now: Duration) -> Option<Self> {
        let mut reader = Reader::new(bytes);
        let is_known = reader.u8()? == FORM && reader.u32()? == tenure;
        let epoch = Epoch(reader.u64()?);
        if !is_known || !epoch.is_within(Epoch::at(now)) {
            return None;
        }
        let survival = Survival::decode(reader.rest()).ok()?;
        Some(Self {
            tenure,
            epoch,
            survival,
        })
    }
}

/// The sum of the slots that a store holds of a tenure.
pub fn total<'b>(slots: impl IntoIterator<Item = &'b [u8]>, tenure: u32, now: Duration) -> Survival {
    let mut sum = Survival::default();
    for slot in slots {
        if let Some(slot) = Slot::from_bytes(slot, tenure, now) {
            sum.merge(&slot.survival);
        }
    }
    sum
}

/// A whole window in memory, for who shares it with nobody.
#[derive(Clone, Debug)]
pub struct Window {
    slots: Vec<Slot>,
}

impl Default for Window {
    fn default() -> Self {
        Self {
            slots: (0..SLOTS).map(|_| Slot::new(0, Epoch::default())).collect(),
        }
    }
}

impl Window {
    /// Adds a part to the slot of its epoch. Whether it was taken: a slot that has gone on to a newer epoch takes none.
    pub fn absorb(&mut self, part: &Slot) -> bool {
        let slot = self.slots.get_mut(part.epoch.place() as usize);
        slot.is_some_and(|slot| slot.absorb(part))
    }

    /// To count into at a moment; nothing if the slot has gone on to a newer epoch, as after a step of the clock back.
    pub fn at(&mut self, now: Duration) -> Option<&mut Survival> {
        let epoch = Epoch::at(now);
        let slot = self.slots.get_mut(epoch.place() as usize)?;
        if slot.epoch < epoch {
            slot.epoch = epoch;
            slot.survival.clear();
        }
        (slot.epoch == epoch).then_some(&mut slot.survival)
    }

    /// The slot of an epoch, if it is still there.
    pub fn slot(&self, epoch: Epoch) -> Option<&Slot> {
        let slot = self.slots.get(epoch.place() as usize);
        slot.filter(|slot| slot.epoch == epoch)
    }

    /// The sum of what is in the window at a moment.
    pub fn total(&self, now: Duration) -> Survival {
        let mut sum = Survival::default();
        let within = self.slots.iter().filter(|slot| slot.epoch.is_within(Epoch::at(now)));
        within.for_each(|slot| sum.merge(&slot.survival));
        sum
    }
}

#[cfg(test)]
mod tests;
