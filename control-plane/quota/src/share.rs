//! Parts of a limit.

use std::fmt;

/// A part of a limit, in parts per million; never more than the whole.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct Share(u32);

impl Share {
    /// Nothing of it.
    pub const ZERO: Self = Self(0);
    /// The whole limit.
    pub const WHOLE: Self = Self(1_000_000);

    /// So many parts per million; the whole, if they are more.
    #[must_use]
    pub fn from_parts(parts: u32) -> Self {
        Self(parts).min(Self::WHOLE)
    }

    /// The parts per million, at most a million.
    #[must_use]
    pub fn parts(self) -> u32 {
        self.0
    }

    /// Of a count that may be of any size; the whole, if it is more.
    pub(crate) fn saturating(parts: u64) -> Self {
        Self::from_parts(u32::try_from(parts).unwrap_or(u32::MAX))
    }

    pub(crate) fn wide(self) -> u64 {
        self.0.into()
    }
}

impl fmt::Display for Share {
    fn fmt(&self, out: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(out, "{} ppm", self.0)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_share_is_never_more_than_the_whole() {
        assert_eq!(Share::from_parts(u32::MAX), Share::WHOLE);
        assert_eq!(Share::saturating(u64::MAX), Share::WHOLE);
        assert_eq!(Share::from_parts(7).to_string(), "7 ppm");
    }
}
