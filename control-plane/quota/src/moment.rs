//! Times as the authority keeps them: in 8 bytes, for there are millions.

use std::time::Duration;

/// Nanoseconds since the caller's origin. Sums and differences stop at the ends.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, PartialOrd, Ord)]
pub(crate) struct Moment(u64);

impl Moment {
    /// Before everything.
    pub(crate) const START: Self = Self(0);
    /// After everything.
    pub(crate) const NEVER: Self = Self(u64::MAX);

    pub(crate) fn at(since_origin: Duration) -> Self {
        Self(nanos(since_origin))
    }

    pub(crate) fn after(self, span: Duration) -> Self {
        Self(self.0.saturating_add(nanos(span)))
    }

    pub(crate) fn since(self, earlier: Self) -> Duration {
        Duration::from_nanos(self.0.saturating_sub(earlier.0))
    }

    pub(crate) fn since_origin(self) -> Duration {
        Duration::from_nanos(self.0)
    }
}

fn nanos(span: Duration) -> u64 {
    u64::try_from(span.as_nanos()).unwrap_or(u64::MAX)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn time_stops_at_its_ends() {
        let late = Moment::at(Duration::MAX);
        assert_eq!(late.after(Duration::from_secs(1)), Moment::NEVER);
        assert_eq!(Moment::START.since(late), Duration::ZERO);
    }
}
