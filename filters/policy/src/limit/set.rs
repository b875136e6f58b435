//! The bytes of a few keys of one policy, as one value of the store: what is read, changed and written back at once.
//!
//! A set has as many entries as it has room for keys. An entry is the key's fingerprint, the lease that the control plane
//! gave for it, and the state of each limit:
//!
//! ```text
//! fingerprint u64 · generation u32 · lease: share u32, until u64, binds until u64 · theoretical arrival time u128 × limits
//! ```
//!
//! An entry whose buckets are all full and whose lease is over says no more than its absence would. So it is free for
//! another key, nothing has to be swept, and headers of an attacker can fill a table and never make it grow.

use super::gcra::Tat;
use super::key::Fingerprint;

const HEAD: usize = 32;
const TAT: usize = 16;

/// How entries look.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Layout {
    /// Entries in a set.
    pub ways: usize,
    /// Limits of each.
    pub limits: usize,
    /// Of the limits' numbers: what was counted under others is forgotten.
    pub generation: u32,
}

impl Layout {
    fn entry(self) -> usize {
        HEAD + TAT * self.limits
    }

    /// Bytes of a set.
    pub fn size(self) -> usize {
        self.entry() * self.ways
    }

    /// What another number of limits has left: the keys and their leases, which others count on. What was counted is not
    /// carried over.
    fn adopt(self, bytes: &[u8]) -> Vec<u8> {
        let mut own = vec![0; self.size()];
        let entry = bytes.len() / self.ways.max(1);
        let is_ours = entry > HEAD && entry * self.ways == bytes.len() && (entry - HEAD).is_multiple_of(TAT);
        if is_ours {
            let entries = own.chunks_exact_mut(self.entry()).zip(bytes.chunks_exact(entry));
            for (own, other) in entries {
                if let (Some(own), Some(other)) = (own.get_mut(..HEAD), other.get(..HEAD)) {
                    own.copy_from_slice(other);
                }
                // Of a generation that no layout has: the next one to ask begins anew.
                put(own, 8, &self.generation.wrapping_add(1).to_le_bytes());
            }
        }
        own
    }
}

/// Where a key is.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Place {
    /// In this entry.
    Found(usize),
    /// Nowhere; this entry is free.
    Free(usize),
    /// Nowhere, and there is no room.
    Full,
}

/// A share for a time, in place of the base share. It may be used as long as others are sure to go without it, and it binds
/// as long as others may count on it; so what raises ends early, and what lowers ends late.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Lease {
    /// Parts per million of the limits.
    pub share: u32,
    /// Until then it is what holds, nanoseconds.
    pub until_ns: u64,
    /// Until then no more holds, nanoseconds.
    pub binds_until_ns: u64,
}

impl Lease {
    /// What holds of the lease and the base share.
    pub fn share_at(self, now_ns: u64, base_share: u32) -> u32 {
        if now_ns < self.until_ns {
            self.share
        } else if now_ns < self.binds_until_ns {
            self.share.min(base_share)
        } else {
            base_share
        }
    }
}

/// Some keys of a policy.
#[derive(Clone, Debug)]
pub struct Set {
    bytes: Vec<u8>,
    layout: Layout,
}

impl Set {
    /// What the store holds. Of a layout with another number of limits the keys and their leases stay; other bytes, or none,
    /// are an empty set.
    pub fn new(bytes: Vec<u8>, layout: Layout) -> Self {
        let bytes = if bytes.len() == layout.size() {
            bytes
        } else {
            layout.adopt(&bytes)
        };
        Self { bytes, layout }
    }

    /// Whether what is counted of a key is counted by the numbers of this layout; nothing, if it has no entry.
    pub fn counts(&self, key: Fingerprint) -> Option<bool> {
        let mut entries = self.bytes.chunks_exact(self.layout.entry());
        let entry = entries.find(|entry| u64_at(entry, 0) == key.get())?;
        Some(u32_at(entry, 8) == self.layout.generation)
    }

    /// For the store.
    pub fn as_bytes(&self) -> &[u8] {
        &self.bytes
    }

    /// Finds a key, or an entry for it.
    pub fn find(&self, key: Fingerprint, now_ns: u64) -> Place {
        let mut free = Place::Full;
        for (index, entry) in self.bytes.chunks_exact(self.layout.entry()).enumerate() {
            let fingerprint = u64_at(entry, 0);
            if fingerprint == key.get() {
                return Place::Found(index);
            }
            if free == Place::Full && self.is_free(entry, fingerprint, now_ns) {
                free = Place::Free(index);
            }
        }
        free
    }

    fn is_free(&self, entry: &[u8], fingerprint: u64, now_ns: u64) -> bool {
        let is_leased = lease(entry).binds_until_ns > now_ns;
        let is_counted = || u32_at(entry, 8) == self.layout.generation && tats(entry).any(|tat| !tat.is_past(now_ns));
        fingerprint == 0 || !(is_leased || is_counted())
    }

    /// The entry of a key that was [found](Self::find), or that is put where there is room; nothing if there is none.
    pub fn entry(&mut self, key: Fingerprint, now_ns: u64) -> Option<Entry<'_>> {
        let (index, is_new) = match self.find(key, now_ns) {
            Place::Found(index) => (index, false),
            Place::Free(index) => (index, true),
            Place::Full => return None,
        };
        let size = self.layout.entry();
        let entry = self.bytes.get_mut(index * size..(index + 1) * size)?;
        if is_new {
            entry.fill(0);
            put(entry, 0, &key.get().to_le_bytes());
        }
        if u32_at(entry, 8) != self.layout.generation {
            put(entry, 8, &self.layout.generation.to_le_bytes());
            entry.get_mut(HEAD..)?.fill(0);
        }
        Some(Entry { bytes: entry })
    }
}

/// One key.
#[derive(Debug)]
pub struct Entry<'s> {
    bytes: &'s mut [u8],
}

impl Entry<'_> {
    /// The state of each limit.
    pub fn tats(&self) -> impl Iterator<Item = Tat> {
        tats(self.bytes)
    }

    /// Changes the state of a limit.
    pub fn set_tat(&mut self, limit: usize, tat: Tat) {
        put(self.bytes, HEAD + TAT * limit, &tat.to_bytes());
    }

    /// The lease; one that is over, if there never was one.
    pub fn lease(&self) -> Lease {
        lease(self.bytes)
    }

    /// Takes a lease in place of what was there.
    pub fn set_lease(&mut self, lease: Lease) {
        put(self.bytes, 12, &lease.share.to_le_bytes());
        put(self.bytes, 16, &lease.until_ns.to_le_bytes());
        put(self.bytes, 24, &lease.binds_until_ns.to_le_bytes());
    }
}

fn tats(entry: &[u8]) -> impl Iterator<Item = Tat> {
    let states = entry.get(HEAD..).unwrap_or_default();
    states
        .chunks_exact(TAT)
        .filter_map(|bytes| Some(Tat::from_bytes(bytes.try_into().ok()?)))
}

fn lease(entry: &[u8]) -> Lease {
    Lease {
        share: u32_at(entry, 12),
        until_ns: u64_at(entry, 16),
        binds_until_ns: u64_at(entry, 24),
    }
}

fn u64_at(entry: &[u8], at: usize) -> u64 {
    let bytes = entry.get(at..at + 8).and_then(|bytes| bytes.try_into().ok());
    bytes.map_or(0, u64::from_le_bytes)
}

fn u32_at(entry: &[u8], at: usize) -> u32 {
    let bytes = entry.get(at..at + 4).and_then(|bytes| bytes.try_into().ok());
    bytes.map_or(0, u32::from_le_bytes)
}

fn put(entry: &mut [u8], at: usize, bytes: &[u8]) {
    if let Some(place) = entry.get_mut(at..at + bytes.len()) {
        place.copy_from_slice(bytes);
    }
}

#[cfg(test)]
mod tests;
