//! Sticky cohorts: who asks and a salt give a bucket, always and everywhere the same one; an [`Allocation`] says which
//! version has the bucket.
//!
//! The bucket depends on nothing but salt and key, so every Envoy and every release agree without talking.
//! Deng et al. (Google), "Overlapping Experiment Infrastructure", KDD 2010, section 4, is the idea of salted diversion.

mod allocation;
#[cfg(test)]
mod tests;

use xxhash_rust::xxh3::{xxh3_64, xxh3_64_with_seed};

pub use allocation::{Allocation, Interval};

/// How many buckets there are: one a basis point.
pub const BUCKETS: u16 = 10_000;

/// Who asks, as a digest: `xxh3_64` of the user, tenant or session. The digest stands for the key wherever the key itself
/// must not be kept, and leads to the same bucket under every salt.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub struct Key(u64);

impl Key {
    /// The digest of a user, a tenant or a session.
    pub fn of(key: &[u8]) -> Self {
        Self(xxh3_64(key))
    }

    /// A digest made before.
    pub fn from_digest(digest: u64) -> Self {
        Self(digest)
    }

    /// The digest.
    pub fn digest(self) -> u64 {
        self.0
    }
}

/// What keeps the cohorts of one experiment independent of another's.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub struct Salt(u64);

impl Salt {
    /// The salt of a document.
    pub fn new(salt: &str) -> Self {
        Self(xxh3_64(salt.as_bytes()))
    }
}

/// The bucket of a key, 0..10 000: `xxh3_64` of the key's digest (eight bytes, the lowest first), seeded by the digest of
/// the salt, scaled by [`scale`].
pub fn bucket(salt: Salt, key: Key) -> u16 {
    scale(xxh3_64_with_seed(&key.0.to_le_bytes(), salt.0))
}

/// Maps 64 uniform bits to 0..10 000 by multiply-shift: uses the high bits, and no bucket is likelier than another by
/// more than 10 000 / 2^64.
pub fn scale(uniform: u64) -> u16 {
    // The product of a u64 and 10 000, shifted by 64, is below 10 000.
    ((u128::from(uniform) * u128::from(BUCKETS)) >> 64) as u16
}
