//! For what a baseline is learnt, and where: a directory that cannot grow.
//!
//! Names of models come from outside. A [`Directory`] has room for so many kinds of requests; who finds none shares one
//! overflow kind. A place whose kind was not seen for a whole window says no more than its absence would, so it is free for
//! another one: nothing is swept, and ten thousand names do not make it larger.

use std::fmt;
use std::time::Duration;

use crate::window::{Epoch, SLOTS};

mod bytes;

pub use bytes::MAX_BYTES;

/// Kinds of requests in a directory, besides the overflow.
pub const MAX_KEYS: usize = 128;
/// The most bytes of a model's and a version's name together; longer ones go to the overflow.
pub const MAX_NAME_BYTES: usize = 200;

/// Which part of a request is timed.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum Phase {
    /// The whole of a unary call.
    Total,
    /// From the request to the first message of a stream.
    FirstMessage,
    /// From one message of a stream to the next.
    Gap,
}

/// What kind of method is called.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum MethodClass {
    /// Inference.
    Infer,
    /// Generation, message by message.
    Generate,
    /// Metadata, health and the like.
    Control,
}

/// How large a request is. Without it a change of the mix would look like a fault.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum SizeClass {
    /// Up to 4 KiB.
    Small,
    /// Up to 64 KiB.
    Medium,
    /// More.
    Large,
}

impl SizeClass {
    /// Of a request of so many bytes.
    pub fn of_bytes(bytes: u64) -> Self {
        match bytes {
            0..=4_096 => Self::Small,
            4_097..=65_536 => Self::Medium,
            _ => Self::Large,
        }
    }
}

/// A kind of request.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct Key {
    /// The model.
    pub model: String,
    /// Its version.
    pub version: String,
    /// The kind of method.
    pub method: MethodClass,
    /// The size.
    pub size: SizeClass,
    /// The phase.
    pub phase: Phase,
}

impl fmt::Display for Key {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        let Self {
            model,
            version,
            method,
            size,
            phase,
        } = self;
        write!(formatter, "{model}/{version} {method:?} {size:?} {phase:?}")
    }
}

/// Where a kind's slots and learner are kept.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub struct Place {
    /// Below [`MAX_KEYS`]; [`MAX_KEYS`] itself is the overflow's.
    pub index: u16,
    /// Whose turn it is at the place: what is kept there of another tenure is another kind's.
    pub tenure: u32,
}

impl Place {
    /// What all kinds share for which there is no room.
    pub const OVERFLOW: Self = Self {
        index: MAX_KEYS as u16,
        tenure: 0,
    };

    /// Whether it is the overflow's.
    pub fn is_overflow(self) -> bool {
        self == Self::OVERFLOW
    }
}

#[derive(Clone, Debug, PartialEq, Eq)]
struct Entry {
    key: Key,
    tenure: u32,
    seen: Epoch,
}

/// The kinds that there are, as one value of the store. Threads keep a copy, and swap it when a kind is new to them and once
/// an epoch for each kind that they have seen; [at most](MAX_BYTES) 28 KiB, some 40 bytes for each kind.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Directory {
    entries: Vec<Entry>,
    /// Places that were ever given.
    tenures: u32,
}

impl Directory {
    /// Where a kind is kept, without taking a place for it; nothing if it has none.
    pub fn find(&self, key: &Key) -> Option<Place> {
        let index = self.entries.iter().position(|entry| entry.key == *key)?;
        self.place(index)
    }

    /// Where a kind is kept from now on, and whether the directory has changed by that, so that it has to be swapped.
    pub fn claim(&mut self, key: &Key, now: Duration) -> (Place, bool) {
        let now = Epoch::at(now);
        if key.model.len() + key.version.len() > MAX_NAME_BYTES {
            return (Place::OVERFLOW, false);
        }
        if let Some(index) = self.entries.iter().position(|entry| entry.key == *key) {
            let place = self.place(index).unwrap_or(Place::OVERFLOW);
            let is_news = self.entries.get(index).is_some_and(|entry| entry.seen != now);
            if let Some(entry) = self.entries.get_mut(index) {
                entry.seen = now;
            }
            return (place, is_news);
        }
        // Ahead of the clock is as stale as behind it: it was stored under another one.
        let is_free = |entry: &Entry| now.since(entry.seen) >= SLOTS || !entry.seen.is_within(now);
        let free = self.entries.iter().position(is_free);
        let index = match free {
            Some(index) => index,
            None if self.entries.len() < MAX_KEYS => self.entries.len(),
            None => return (Place::OVERFLOW, false),
        };
        // Zero is the overflow's.
        self.tenures = self.tenures.wrapping_add(1).max(1);
        let entry = Entry {
            key: key.clone(),
            tenure: self.tenures,
            seen: now,
        };
        match self.entries.get_mut(index) {
            Some(place) => *place = entry,
            None => self.entries.push(entry),
        }
        (self.place(index).unwrap_or(Place::OVERFLOW), true)
    }

    /// All kinds and where they are kept, without the overflow.
    pub fn keys(&self) -> impl Iterator<Item = (&Key, Place)> {
        let places = self.entries.iter().enumerate();
        places.filter_map(|(index, entry)| Some((&entry.key, self.place(index)?)))
    }

    fn place(&self, index: usize) -> Option<Place> {
        let entry = self.entries.get(index)?;
        Some(Place {
            index: u16::try_from(index).ok()?,
            tenure: entry.tenure,
        })
    }
}

#[cfg(test)]
mod tests;
