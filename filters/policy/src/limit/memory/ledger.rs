//! Who holds how much, and how much that is together.
//!
//! Of a request it is known what it is expected to take, and by how much it may exceed that. Requests do not exceed it all at
//! once: what many of them take together strays from its expectation by the root of the sum of the squares of what each
//! strays by, as long as they do not depend on each other. So one request is held with all that it may exceed, and many with much less
//! each than that.

use super::Claim;

/// Most holders: worker threads of a proxy, and those of before a trap.
const MAX_HOLDERS: usize = 256;
/// Numbers of a holder in the store.
const NUMBERS: usize = 5;

/// What one thread's requests hold.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
struct Holder {
    id: u64,
    /// When it was heard of.
    seen_ns: u64,
    /// What its requests are expected to take.
    bytes: u64,
    /// The squares of what they may take beyond that.
    squares: u128,
}

/// All holders.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub(super) struct Ledger(Vec<Holder>);

impl Ledger {
    /// Bytes to hold back for all requests, which run on so many endpoints. Each endpoint has its own to make do with, so the
    /// more there are, the less what one request takes too much is what another leaves.
    pub(super) fn reserved(&self, endpoints: u64) -> u64 {
        together(self.bytes(), self.squares(), endpoints)
    }

    /// The same with one request more.
    pub(super) fn reserved_with(&self, claim: &Claim, endpoints: u64) -> u64 {
        let bytes = self.bytes().saturating_add(claim.bytes);
        let squares = self.squares().saturating_add(square(claim.spread));
        together(bytes, squares, endpoints)
    }

    /// Bytes that all requests are expected to take.
    pub(super) fn bytes(&self) -> u64 {
        self.0.iter().fold(0, |sum, holder| sum.saturating_add(holder.bytes))
    }

    fn squares(&self) -> u128 {
        self.0.iter().fold(0, |sum, holder| sum.saturating_add(holder.squares))
    }

    pub(super) fn take(&mut self, claim: &Claim, now_ns: u64) {
        if let Some(holder) = self.holder(claim.holder) {
            holder.bytes = holder.bytes.saturating_add(claim.bytes);
            holder.squares = holder.squares.saturating_add(square(claim.spread));
            holder.seen_ns = holder.seen_ns.max(now_ns);
        } else if self.0.len() < MAX_HOLDERS {
            self.0.push(Holder {
                id: claim.holder,
                seen_ns: now_ns,
                bytes: claim.bytes,
                squares: square(claim.spread),
            });
        }
    }

    pub(super) fn give_back(&mut self, claim: &Claim, now_ns: u64) {
        if let Some(holder) = self.holder(claim.holder) {
            holder.bytes = holder.bytes.saturating_sub(claim.bytes);
            holder.squares = holder.squares.saturating_sub(square(claim.spread));
            holder.seen_ns = holder.seen_ns.max(now_ns);
        }
    }

    pub(super) fn touch(&mut self, id: u64, now_ns: u64) {
        if let Some(holder) = self.holder(id) {
            holder.seen_ns = holder.seen_ns.max(now_ns);
        }
    }

    /// So long nobody was heard of, for a reason that is nobody's.
    pub(super) fn excuse(&mut self, silence_ns: u64) {
        for holder in &mut self.0 {
            holder.seen_ns = holder.seen_ns.saturating_add(silence_ns);
        }
    }

    /// Forgets holders that hold nothing or were not heard of for so long.
    pub(super) fn bury(&mut self, now_ns: u64, gone_ns: u64) {
        self.0.retain(|holder| {
            (holder.bytes, holder.squares) != (0, 0) && now_ns.saturating_sub(holder.seen_ns) <= gone_ns
        });
    }

    fn holder(&mut self, id: u64) -> Option<&mut Holder> {
        self.0.iter_mut().find(|holder| holder.id == id)
    }

    /// For the store.
    pub(super) fn numbers(&self) -> impl Iterator<Item = u64> {
        self.0.iter().flat_map(|holder| {
            let (high, low) = ((holder.squares >> 64) as u64, holder.squares as u64);
            [holder.id, holder.seen_ns, holder.bytes, high, low]
        })
    }

    /// Reads what [`numbers`](Self::numbers) gave.
    pub(super) fn of_numbers(numbers: &[u64]) -> Self {
        let holders = numbers.as_chunks::<NUMBERS>().0.iter().take(MAX_HOLDERS);
        let holders = holders.map(|[id, seen_ns, bytes, high, low]| Holder {
            id: *id,
            seen_ns: *seen_ns,
            bytes: *bytes,
            squares: u128::from(*high) << 64 | u128::from(*low),
        });
        Self(holders.collect())
    }
}

fn square(bytes: u64) -> u128 {
    u128::from(bytes) * u128::from(bytes)
}

fn together(bytes: u64, squares: u128, endpoints: u64) -> u64 {
    let squares = squares.saturating_mul(endpoints.max(1).into());
    let root = squares.isqrt();
    let above = root + u128::from(root * root < squares);
    bytes.saturating_add(u64::try_from(above).unwrap_or(u64::MAX))
}
