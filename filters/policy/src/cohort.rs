//! Sticky cohorts: a user and a salt give a bucket, always and everywhere the same one.
//!
//! The bucket depends on nothing but salt and key, so every Envoy and every release agree without talking. Versions
//! after the first are stacked from bucket 0 in their declared order and the first takes the rest; with two versions a
//! higher weight of the second therefore only ever adds users to it.
//! Deng et al. (Google), "Overlapping Experiment Infrastructure", KDD 2010, section 4, is the idea of salted diversion.

use xxhash_rust::xxh3::{Xxh3Default, xxh3_64};

/// How many buckets there are: one a basis point.
pub const BUCKETS: u16 = 10_000;

const INLINE: usize = 512;

/// The bucket of a key, 0..10 000: `xxh3_64(salt ‖ 0x00 ‖ key)` scaled by [`scale`]. A salt holds no 0x00 byte, so no
/// two pairs of salt and key hash the same text.
pub fn bucket(salt: &[u8], key: &[u8]) -> u16 {
    let mut buffer = [0_u8; INLINE];
    let hash = match join(&mut buffer, salt, key) {
        Some(text) => xxh3_64(text),
        None => {
            let mut hasher = Xxh3Default::new();
            hasher.update(salt);
            hasher.update(&[0]);
            hasher.update(key);
            hasher.digest()
        }
    };
    scale(hash)
}

/// Maps 64 uniform bits to 0..10 000 by multiply-shift: uses the high bits, and no bucket is likelier than another by
/// more than 10 000 / 2^64.
pub fn scale(uniform: u64) -> u16 {
    // The product of a u64 and 10 000, shifted by 64, is below 10 000.
    ((u128::from(uniform) * u128::from(BUCKETS)) >> 64) as u16
}

/// `salt ‖ 0x00 ‖ key` in the buffer, if it fits. One-shot hashing of contiguous bytes is several times faster than the
/// streaming hasher for inputs this short.
fn join<'b>(buffer: &'b mut [u8; INLINE], salt: &[u8], key: &[u8]) -> Option<&'b [u8]> {
    let length = salt.len() + 1 + key.len();
    let (into_salt, rest) = buffer.split_at_mut_checked(salt.len())?;
    let (separator, rest) = rest.split_first_mut()?;
    let (into_key, _) = rest.split_at_mut_checked(key.len())?;
    into_salt.copy_from_slice(salt);
    *separator = 0;
    into_key.copy_from_slice(key);
    buffer.get(..length)
}

#[cfg(test)]
mod tests;
