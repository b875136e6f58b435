//! GPU memory: what of it the requests under way may take, as one proxy sees it.
//!
//! The control plane tells how much is free on the endpoints of a version, as their workers report it. A report is always a
//! little old. So the proxy keeps what its own requests have reserved, as of now and as of some moments before, and takes off
//! what it has reserved, net, since the report was made; and all its reservations together stay within what requests can have,
//! for what runs has not yet taken all that it will. Of both it may use its share, for other proxies do the same.
//!
//! All of it is one value of the store. Reservations are kept by holder, a thread's VM: a VM that traps is gone with what its
//! requests would have given back, and so are its reservations a little later.

mod ledger;

use std::time::Duration;

use self::ledger::Ledger;
use super::set::Lease;
use crate::config::Priority;

/// What is reserved is remembered as of the beginnings of such spans.
const SLOT_NS: u64 = 100_000_000;
/// So many of them.
const SLOTS: usize = 64;
/// A reservation made just before a report may not have reached the worker yet, so it counts as made since.
const LAG_NS: u64 = 200_000_000;
/// A holder that has not been heard of for so long is gone.
pub const HOLDER_GONE_NS: u64 = 5_000_000_000;
/// Tenants are told apart by this many hashes.
const TENANTS: usize = 32;
/// While anything is held, some thread looks more often than this.
const STILL_NS: u64 = 2_000_000_000;
/// What classes were admitted is forgotten by half in such a time.
const HALF_LIFE_NS: u64 = 5_000_000_000;
/// Classes, the most urgent first.
const CLASSES: usize = 3;

/// What the control plane says of the endpoints of a version.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Headroom {
    /// Bytes for requests on all ready endpoints together, free or not, without the watermark.
    pub capacity: u64,
    /// Those that are free.
    pub free: u64,
    /// Those that are free on the endpoint where most are.
    pub largest_free: u64,
    /// How many endpoints there are.
    pub endpoints: u64,
    /// When the oldest of the reports was made, by the clock of this proxy, nanoseconds; 0 for never.
    pub measured_ns: u64,
}

/// How much may be taken by whom; of an AdmissionPolicy.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Terms {
    /// A report that is older says nothing.
    pub stale: Duration,
    /// Percent of the capacity that each class leaves to those above it.
    pub margins: [u32; CLASSES],
    /// Percent of what is admitted that each class gets whatever the others do, as long as there is memory.
    pub floor: u32,
}

/// Who asks for how much.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Claim {
    /// The thread's VM.
    pub holder: u64,
    /// Bytes that it is expected to take.
    pub bytes: u64,
    /// Bytes that it may take beyond that; by itself it needs both.
    pub spread: u64,
    /// How urgent it is.
    pub priority: Priority,
    /// A hash of the tenant.
    pub tenant: u64,
}

/// Why memory cannot be had.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Shortage {
    /// No report is new enough to go by.
    Stale,
    /// No endpoint has so much free.
    TooLarge,
    /// What is free is for more urgent requests, or there is not enough of it.
    Full,
    /// There is little left, and this tenant has its fair share of the class already.
    Unfair,
    /// It is more than all endpoints have together: it can never be had.
    Never,
}

impl Shortage {
    /// For metrics.
    pub fn label(self) -> &'static str {
        match self {
            Self::Stale => "stale",
            Self::TooLarge => "too_large",
            Self::Full => "full",
            Self::Unfair => "unfair",
            Self::Never => "never",
        }
    }
}

/// What a proxy knows and holds of the memory of one version.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Memory {
    headroom: Headroom,
    ledger: Ledger,
    /// What was reserved at the beginning of each slot.
    history: Vec<u64>,
    newest_slot: u64,
    /// What was admitted of each class, less and less the longer ago.
    admitted: [u64; CLASSES],
    decayed_ns: u64,
    /// What is reserved for tenants, by hash.
    tenants: Vec<u64>,
    /// The most that was reserved, or would have been, since it was last asked.
    wanted: u64,
    /// Bytes that were taken when none were reserved: by the model's weights, by others.
    baseline: u64,
    lease: Option<Lease>,
}

impl Memory {
    /// What the control plane says from now on.
    pub fn set_headroom(&mut self, headroom: Headroom) {
        let is_idle = self.reserved() == 0 && self.reserved_at(headroom.measured_ns.saturating_sub(LAG_NS)) == 0;
        if is_idle {
            self.baseline = headroom.capacity.saturating_sub(headroom.free);
        }
        self.headroom = headroom;
    }

    /// What it says.
    pub fn headroom(&self) -> Headroom {
        self.headroom
    }

    /// A share of this version in place of the base share.
    pub fn set_lease(&mut self, lease: Lease) {
        self.lease = Some(lease);
    }

    /// The most that was reserved or wanted since this was last asked, in parts per million of the capacity.
    pub fn take_demand(&mut self) -> u32 {
        let wanted = std::mem::take(&mut self.wanted).max(self.reserved());
        let parts = u128::from(wanted) * 1_000_000 / u128::from(self.headroom.capacity.max(1));
        u32::try_from(parts).unwrap_or(u32::MAX)
    }

    /// Bytes that are reserved for all requests together.
    pub fn reserved(&self) -> u64 {
        self.ledger.reserved(self.headroom.endpoints)
    }

    /// Reserves memory for a request. The share is the lease's or the base share, parts per million.
    ///
    /// # Errors
    /// [`Shortage`]; nothing is reserved then.
    pub fn reserve(&mut self, claim: &Claim, terms: &Terms, base_share: u32, now_ns: u64) -> Result<(), Shortage> {
        self.advance(now_ns);
        let share = self
            .lease
            .map_or(base_share, |lease| lease.share_at(now_ns, base_share));
        let Headroom {
            capacity,
            free,
            largest_free,
            endpoints,
            measured_ns,
        } = self.headroom;
        let age = Duration::from_nanos(now_ns.saturating_sub(measured_ns));
        if measured_ns == 0 || endpoints == 0 || age > terms.stale {
            return Err(Shortage::Stale);
        }
        let alone = claim.bytes.saturating_add(claim.spread);
        if alone > capacity {
            return Err(Shortage::Never);
        }
        let (reserved, then) = (self.reserved(), self.ledger.reserved_with(claim, endpoints));
        self.wanted = self.wanted.max(then.min(capacity));
        let since = i128::from(reserved) - i128::from(self.reserved_at(measured_ns.saturating_sub(LAG_NS)));
        let part = |bytes: u64| i128::from(bytes) * i128::from(share) / 1_000_000;
        // What runs has not yet taken all that was reserved for it, so a report shows more free than there is: nor may all
        // reservations together be more than what requests can have.
        let ledger = part(capacity.saturating_sub(self.baseline)) - i128::from(reserved);
        let left = (part(free) - since).min(ledger);
        let wanted = i128::from(then.saturating_sub(reserved));
        if wanted > left {
            return Err(Shortage::Full);
        }
        if alone > largest_free {
            return Err(Shortage::TooLarge);
        }
        let class = class(claim.priority);
        let margin = part(capacity) * i128::from(terms.margins.get(class).copied().unwrap_or(0)) / 100;
        if wanted + margin > left && !self.is_starved(class, terms.floor) {
            return Err(Shortage::Full);
        }
        if self.is_unfair(claim, left, part(capacity)) {
            return Err(Shortage::Unfair);
        }
        self.take(claim, class, now_ns);
        Ok(())
    }

    /// Gives back what a request had reserved.
    pub fn release(&mut self, claim: &Claim, now_ns: u64) {
        self.advance(now_ns);
        self.ledger.give_back(claim, now_ns);
        if let Some(bytes) = self.tenants.get_mut(slot_of(claim.tenant)) {
            *bytes = bytes.saturating_sub(claim.bytes);
        }
    }

    /// Says that a holder still lives.
    pub fn touch(&mut self, holder: u64, now_ns: u64) {
        self.ledger.touch(holder, now_ns);
    }

    /// A request takes more than was expected: from now on that is what it holds, whether there is so much or not, but no more
    /// than there is at all. No other gets what it has already.
    pub fn grow(&mut self, claim: &mut Claim, bytes: u64, now_ns: u64) {
        self.advance(now_ns);
        let more = Claim {
            bytes: bytes.min(self.headroom.capacity).saturating_sub(claim.bytes),
            spread: 0,
            ..*claim
        };
        self.hold(&more, now_ns);
        claim.bytes = claim.bytes.saturating_add(more.bytes);
    }

    fn take(&mut self, claim: &Claim, class: usize, now_ns: u64) {
        if let Some(admitted) = self.admitted.get_mut(class) {
            *admitted = admitted.saturating_add(claim.bytes);
        }
        self.hold(claim, now_ns);
    }

    fn hold(&mut self, claim: &Claim, now_ns: u64) {
        self.ledger.take(claim, now_ns);
        self.tenants.resize(TENANTS, 0);
        if let Some(bytes) = self.tenants.get_mut(slot_of(claim.tenant)) {
            *bytes = bytes.saturating_add(claim.bytes);
        }
    }

    /// Whether a class has had less than the floor of what was admitted.
    fn is_starved(&self, class: usize, floor: u32) -> bool {
        let all = self.admitted.iter().fold(0_u128, |sum, bytes| sum + u128::from(*bytes));
        let its = u128::from(self.admitted.get(class).copied().unwrap_or(0));
        its * 100 < all * u128::from(floor)
    }

    /// Whether a tenant has more than an even part, where little is left and others have some too.
    fn is_unfair(&self, claim: &Claim, left: i128, capacity: i128) -> bool {
        if left * 4 > capacity {
            return false;
        }
        let its = self.tenants.get(slot_of(claim.tenant)).copied().unwrap_or(0);
        let others = self
            .tenants
            .iter()
            .enumerate()
            .filter(|(slot, bytes)| *slot != slot_of(claim.tenant) && **bytes > 0);
        let others = others.count() as i128;
        others > 0 && (i128::from(its) + i128::from(claim.bytes)) * (others + 1) > capacity
    }

    /// What was reserved at a time; what is no longer known was as the oldest that is.
    fn reserved_at(&self, at_ns: u64) -> u64 {
        let slot = (at_ns / SLOT_NS).clamp(self.newest_slot.saturating_sub(SLOTS as u64 - 1), self.newest_slot);
        self.history.get((slot % SLOTS as u64) as usize).copied().unwrap_or(0)
    }

    /// Brings the past up to now.
    fn advance(&mut self, now_ns: u64) {
        let slot = now_ns / SLOT_NS;
        let reserved = self.reserved();
        // Nobody has looked for so long: then the whole proxy stood still, and nobody's silence tells anything.
        let silence = now_ns.saturating_sub(self.newest_slot.saturating_add(1).saturating_mul(SLOT_NS));
        if silence > STILL_NS {
            self.ledger.excuse(silence);
        }
        if self.history.len() != SLOTS {
            self.history = vec![reserved; SLOTS];
            self.newest_slot = slot;
        }
        let first = (self.newest_slot + 1).max(slot.saturating_sub(SLOTS as u64 - 1));
        for passed in first..=slot {
            if let Some(past) = self.history.get_mut((passed % SLOTS as u64) as usize) {
                *past = reserved;
            }
        }
        self.newest_slot = self.newest_slot.max(slot);
        self.bury(now_ns);
        while now_ns.saturating_sub(self.decayed_ns) >= HALF_LIFE_NS {
            self.admitted = self.admitted.map(|bytes| bytes / 2);
            let long_ago = now_ns.saturating_sub(64 * HALF_LIFE_NS);
            self.decayed_ns = self.decayed_ns.saturating_add(HALF_LIFE_NS).max(long_ago);
        }
    }

    /// Forgets holders that are gone, and their part of what tenants hold.
    fn bury(&mut self, now_ns: u64) {
        let before = self.ledger.bytes();
        self.ledger.bury(now_ns, HOLDER_GONE_NS);
        let after = self.ledger.bytes();
        if after < before {
            for bytes in &mut self.tenants {
                *bytes = (u128::from(*bytes) * u128::from(after) / u128::from(before)) as u64;
            }
        }
    }

    /// For the store.
    pub fn to_bytes(&self) -> Vec<u8> {
        let Headroom {
            capacity,
            free,
            largest_free,
            endpoints,
            measured_ns,
        } = self.headroom;
        let lease = self.lease.map_or([0; 3], |lease| {
            [lease.share.into(), lease.until_ns, lease.binds_until_ns]
        });
        let head = [
            capacity,
            free,
            largest_free,
            endpoints,
            measured_ns,
            self.newest_slot,
            self.decayed_ns,
            self.wanted,
            self.baseline,
        ];
        let lengths = [self.history.len() as u64, self.tenants.len() as u64];
        let numbers = head
            .iter()
            .chain(&lease)
            .chain(&lengths)
            .chain(&self.admitted)
            .chain(&self.history)
            .chain(&self.tenants);
        let numbers = numbers.copied().chain(self.ledger.numbers());
        numbers.flat_map(u64::to_le_bytes).collect()
    }

    /// Reads what [`to_bytes`](Self::to_bytes) gave; of anything else, nothing.
    pub fn from_bytes(bytes: &[u8]) -> Self {
        Self::read(bytes).unwrap_or_default()
    }

    fn read(bytes: &[u8]) -> Option<Self> {
        let mut numbers = bytes
            .chunks_exact(8)
            .filter_map(|bytes| bytes.try_into().ok())
            .map(u64::from_le_bytes);
        let mut next = || numbers.next();
        let headroom = Headroom {
            capacity: next()?,
            free: next()?,
            largest_free: next()?,
            endpoints: next()?,
            measured_ns: next()?,
        };
        let (newest_slot, decayed_ns, wanted, baseline) = (next()?, next()?, next()?, next()?);
        let lease = Lease {
            share: u32::try_from(next()?).unwrap_or(u32::MAX),
            until_ns: next()?,
            binds_until_ns: next()?,
        };
        let (history, tenants) = (next()?, next()?);
        if ![0, SLOTS as u64].contains(&history) || ![0, TENANTS as u64].contains(&tenants) {
            return None;
        }
        let admitted = [next()?, next()?, next()?];
        let history = (0..history).map(|_| next()).collect::<Option<_>>()?;
        let tenants = (0..tenants).map(|_| next()).collect::<Option<_>>()?;
        let rest: Vec<u64> = numbers.collect();
        Some(Self {
            headroom,
            ledger: Ledger::of_numbers(&rest),
            history,
            newest_slot,
            admitted,
            decayed_ns,
            tenants,
            wanted,
            baseline,
            lease: (lease.binds_until_ns > 0).then_some(lease),
        })
    }
}

fn class(priority: Priority) -> usize {
    match priority {
        Priority::P0 => 0,
        Priority::P1 => 1,
        Priority::P2 => 2,
    }
}

fn slot_of(tenant: u64) -> usize {
    (tenant % TENANTS as u64) as usize
}

#[cfg(test)]
mod tests;
