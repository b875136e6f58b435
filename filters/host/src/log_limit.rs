//! How often a line may be logged that requests give rise to.
//!
//! Knows no host calls, so that tests under `tests/` can include it by its path.

const SECOND_NS: u64 = 1_000_000_000;

/// Lets one line a second through and counts the others.
#[derive(Clone, Copy, Debug, Default)]
pub(crate) struct LogLimit {
    next_ns: u64,
    left_out: u64,
}

impl LogLimit {
    /// Whether a line may be logged at this time (nanoseconds since any epoch); if so, how many were left out before it.
    pub(crate) fn admit(&mut self, now_ns: u64) -> Option<u64> {
        // A clock that was set back must not silence the log for longer than the second.
        let wait = self.next_ns.saturating_sub(now_ns);
        if wait > 0 && wait <= SECOND_NS {
            self.left_out += 1;
            return None;
        }
        self.next_ns = now_ns.saturating_add(SECOND_NS);
        Some(std::mem::take(&mut self.left_out))
    }
}
