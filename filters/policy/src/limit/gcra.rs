//! The generic cell rate algorithm in its virtual-scheduling form (ITU-T I.371, annex A): the whole state of a limit is one
//! number, the theoretical arrival time.
//!
//! Times are nanoseconds of a monotonic clock in fixed point, [`FRACTION_BITS`] bits behind the point, so that a limit of a
//! million million cells a second is off by less than one in a million, and always to the strict side. governor keeps whole
//! nanoseconds, counted from each limiter's own start; ADR 0016 says why that does not serve here, and the tests hold this
//! code against it where both can speak.

/// Bits behind the point of a [`Tat`].
const FRACTION_BITS: u32 = 32;
/// A whole share, in parts per million.
pub const WHOLE: u32 = 1_000_000;
/// How far a debt may reach: a stream that ran over what was reserved for it must not shut its key's door for good.
const LONGEST_DEBT_NS: u64 = 24 * 3600 * 1_000_000_000;
/// In about such a time the control plane has given a proxy a share that had none.
const SHARES_MOVE_NS: u64 = 1_000_000_000;

/// Theoretical arrival time: when the bucket will be full again. 0 for one that was never used.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, PartialOrd, Ord)]
pub struct Tat(u128);

impl Tat {
    /// A point in time.
    pub fn at_ns(ns: u64) -> Self {
        Self(u128::from(ns) << FRACTION_BITS)
    }

    /// Whether the bucket is full, so that the state says no more than its absence would.
    pub fn is_past(self, now_ns: u64) -> bool {
        self <= Self::at_ns(now_ns)
    }

    /// As it is stored.
    pub fn to_bytes(self) -> [u8; 16] {
        self.0.to_le_bytes()
    }

    /// Reads what [`to_bytes`](Self::to_bytes) gave.
    pub fn from_bytes(bytes: [u8; 16]) -> Self {
        Self(u128::from_le_bytes(bytes))
    }

    /// How long until the bucket is full.
    fn ahead_of(self, now_ns: u64) -> u128 {
        self.0.saturating_sub(Self::at_ns(now_ns).0)
    }
}

/// A rate and a burst.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Gcra {
    /// Time that one cell takes, in fixed point, rounded up.
    interval: u128,
    /// Cells that may go at once.
    burst: u64,
}

/// Why cells cannot be had.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Denied {
    /// They can be had after so many nanoseconds, if nobody else takes them.
    For(u64),
    /// They never can: they are more than the burst.
    Never,
}

impl Gcra {
    /// `rate` cells in each `period_ns`, at most `burst` at once. A rate of 0 lets nothing through.
    pub fn new(rate: u64, period_ns: u64, burst: u64) -> Self {
        let period = u128::from(period_ns) << FRACTION_BITS;
        let interval = if rate == 0 {
            u128::MAX
        } else {
            period.div_ceil(u128::from(rate))
        };
        Self { interval, burst }
    }

    /// The part of the limit that one of several proxies has: its rate is that part of the whole, and so is its burst. A
    /// burst is rate × time, so only the interval differs.
    #[must_use]
    pub fn share(self, parts_per_million: u32) -> Share {
        let interval = if parts_per_million == 0 || self.interval == u128::MAX {
            u128::MAX
        } else {
            let parts = u128::from(parts_per_million.min(WHOLE));
            self.interval.saturating_mul(u128::from(WHOLE)).div_ceil(parts)
        };
        Share {
            interval,
            tolerance: self.interval.saturating_mul(u128::from(self.burst)),
            burst: self.burst,
        }
    }

    /// Nanoseconds of the whole limit that so many cells take.
    pub fn time_of(self, cost: u64) -> u64 {
        whole_ns(self.interval.saturating_mul(u128::from(cost)))
    }

    /// Cells that may go at once.
    pub fn burst(self) -> u64 {
        self.burst
    }
}

/// What one proxy has of a limit.
#[derive(Clone, Copy, Debug)]
pub struct Share {
    interval: u128,
    tolerance: u128,
    burst: u64,
}

impl Share {
    /// Takes `cost` cells.
    ///
    /// More than this share's part of the burst, but no more than the whole limit's, can be had by whoever finds the bucket
    /// full: a large request must pass somewhere, and pays by the time the bucket takes to fill again.
    ///
    /// # Errors
    /// [`Denied`]; the state is as it was.
    pub fn take(self, tat: Tat, now_ns: u64, cost: u64) -> Result<Tat, Denied> {
        if cost > self.burst {
            return Err(Denied::Never);
        }
        let ahead = tat.ahead_of(now_ns);
        let time = self.interval.saturating_mul(u128::from(cost));
        let after = ahead.saturating_add(time);
        // A rate or a share of nothing: no time is long enough, and what helps is another share.
        let is_never = time == u128::MAX;
        if !is_never && (after <= self.tolerance || ahead == 0) {
            return Ok(Tat(Tat::at_ns(now_ns).0.saturating_add(after)));
        }
        // A full bucket is enough for whatever can pass at all; before that, less may do.
        let room = after.saturating_sub(self.tolerance);
        let wait = if is_never {
            SHARES_MOVE_NS
        } else {
            whole_ns(ahead.min(room))
        };
        Err(Denied::For(wait))
    }

    /// Gives cells back that were taken and not used. No more comes back than to a full bucket.
    pub fn refund(self, tat: Tat, now_ns: u64, cost: u64) -> Tat {
        let time = self.interval.saturating_mul(u128::from(cost));
        Tat(tat.0.saturating_sub(time)).max(Tat::at_ns(now_ns).min(tat))
    }

    /// Takes cells that were used already, whether they can be had or not.
    pub fn charge(self, tat: Tat, now_ns: u64, cost: u64) -> Tat {
        let time = self.interval.saturating_mul(u128::from(cost));
        let most = (u128::from(LONGEST_DEBT_NS) << FRACTION_BITS).max(self.tolerance);
        let ahead = tat.ahead_of(now_ns).saturating_add(time).min(most);
        Tat(Tat::at_ns(now_ns).0.saturating_add(ahead)).max(tat)
    }

    /// Cells that could be had now.
    pub fn remaining(self, tat: Tat, now_ns: u64) -> u64 {
        let room = self.tolerance.saturating_sub(tat.ahead_of(now_ns));
        u64::try_from(room / self.interval.max(1))
            .unwrap_or(u64::MAX)
            .min(self.burst)
    }

    /// Nanoseconds until the bucket is full.
    pub fn full_in_ns(self, tat: Tat, now_ns: u64) -> u64 {
        whole_ns(tat.ahead_of(now_ns))
    }
}

fn whole_ns(time: u128) -> u64 {
    u64::try_from(time.div_ceil(1 << FRACTION_BITS)).unwrap_or(u64::MAX)
}

#[cfg(test)]
mod tests;
