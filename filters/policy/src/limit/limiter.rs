//! Takes from all limits of a request, or from none.
//!
//! The state is in a store that many threads share, in which single values can be swapped if nobody else has changed them.
//! A decision first reads all it needs and swaps only if every limit has room; what was taken is given back if another
//! thread took the rest in between. So never more is admitted than the limits allow, and a request that is refused takes
//! nothing.

use std::convert::Infallible;

use super::gcra::{Denied, Share, Tat, WHOLE};
use super::key::Fingerprint;
use super::set::{Lease, Place, Set};
use super::table::{Cost, Quota, Table};
use crate::config::LimitScope;

/// How often a swap is tried: other threads must have won each time. Then the request is refused: the limit holds.
const TRIES: usize = 32;

/// Values that threads share.
pub trait Store {
    /// Why it does not answer.
    type Error;

    /// A value, no bytes if there is none, and what [`swap`](Self::swap) must be given.
    ///
    /// # Errors
    /// Of the store.
    fn read(&self, name: &str) -> Result<(Vec<u8>, u32), Self::Error>;

    /// Replaces a value if it is still the one that was read; false if it is not.
    ///
    /// # Errors
    /// Of the store.
    fn swap(&self, name: &str, value: &[u8], read: u32) -> Result<bool, Self::Error>;
}

/// The key of one policy that a request takes from.
#[derive(Clone, Copy, Debug)]
pub struct Charge<'p> {
    /// The policy.
    pub table: &'p Table,
    /// The key.
    pub key: Fingerprint,
    /// How much.
    pub cost: Cost,
}

/// What the store is asked with.
#[derive(Clone, Copy, Debug)]
pub struct Moment {
    /// Nanoseconds of a monotonic clock that all threads share.
    pub now_ns: u64,
    /// This proxy's part of the limits that the whole mesh shares, where no lease says otherwise; parts per million.
    pub base_share: u32,
}

/// A limit that stands in the way.
#[derive(Clone, Copy, Debug)]
pub struct Obstacle<'p> {
    /// The policy.
    pub table: &'p Table,
    /// Which of its limits.
    pub limit: usize,
    /// Why.
    pub denied: Denied,
    /// Cells that could have been had.
    pub remaining: u64,
    /// Nanoseconds until the bucket is full.
    pub full_in_ns: u64,
}

/// What became of a request.
#[derive(Clone, Debug)]
pub enum Outcome<'p> {
    /// It took what it asked for, each charge from where its receipt says.
    Admitted(Vec<Receipt>),
    /// It took nothing.
    Refused(Obstacle<'p>),
}

/// Where a charge was taken from, and at what share: there and so it is settled. Whoever was given back at another place, or at
/// another share, could be given what was never taken. The default is for what nobody has a receipt of: the key's own place, and
/// the share of the moment.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Receipt {
    /// From the overflow key.
    pub is_overflow: bool,
    /// Parts per million of the limits.
    pub share: Option<u32>,
}

/// Where a charge's key is kept, as it was read.
struct Opened {
    name: String,
    key: Fingerprint,
    generation: u32,
    set: Set,
    is_overflow: bool,
}

impl Opened {
    /// The place of a key, or that of all keys for which there is no room.
    fn read<S: Store>(store: &S, charge: &Charge<'_>, now_ns: u64) -> Result<Self, S::Error> {
        let (table, key) = (charge.table, charge.key);
        let name = table.set_of(key);
        let (bytes, generation) = store.read(&name)?;
        let set = Set::new(bytes, table.layout());
        if set.find(key, now_ns) != Place::Full {
            return Ok(Self {
                name,
                key,
                generation,
                set,
                is_overflow: false,
            });
        }
        let name = table.overflow_set();
        let (bytes, generation) = store.read(&name)?;
        Ok(Self {
            name,
            key: Fingerprint::SHARED,
            generation,
            set: Set::new(bytes, table.layout()),
            is_overflow: true,
        })
    }

    /// Where a charge was taken from, if what was counted there still is. Elsewhere, where its place is another key's by now: the
    /// bucket was full then, so there is nothing to give back. Nothing, where the limit has other numbers.
    fn read_again<S: Store>(
        store: &S,
        (charge, receipt): (&Charge<'_>, Receipt),
        now_ns: u64,
    ) -> Result<Option<(Self, bool)>, S::Error> {
        let table = charge.table;
        let (name, key) = if receipt.is_overflow {
            (table.overflow_set(), Fingerprint::SHARED)
        } else {
            (table.set_of(charge.key), charge.key)
        };
        let (bytes, generation) = store.read(&name)?;
        if !bytes.is_empty() && bytes.len() != table.layout().size() {
            return Ok(None);
        }
        let set = Set::new(bytes, table.layout());
        match set.counts(key) {
            Some(true) => {
                let opened = Self {
                    name,
                    key,
                    generation,
                    set,
                    is_overflow: receipt.is_overflow,
                };
                Ok(Some((opened, true)))
            }
            Some(false) => Ok(None),
            None => Ok(Some((Self::read(store, charge, now_ns)?, false))),
        }
    }

    /// Whether nobody has changed it since it was read.
    fn write<S: Store>(&self, store: &S) -> Result<bool, S::Error> {
        store.swap(&self.name, self.set.as_bytes(), self.generation)
    }

    /// Asks each limit, with this proxy's part of it or what the receipt says, for its next state. Gives the part.
    fn update<'p, E>(
        &mut self,
        table: &'p Table,
        (at, of_receipt): (Moment, Option<u32>),
        mut next: impl FnMut(usize, &'p Quota, Share, Tat) -> Result<Tat, E>,
    ) -> Result<u32, E> {
        // There is room: it was looked for, and the overflow key has its set for itself.
        let Some(mut entry) = self.set.entry(self.key, at.now_ns) else {
            return Ok(0);
        };
        let now = match table.scope() {
            LimitScope::Proxy => WHOLE,
            LimitScope::Mesh => entry.lease().share_at(at.now_ns, at.base_share),
        };
        let share = of_receipt.unwrap_or(now);
        let states: Vec<_> = entry.tats().collect();
        for (limit, (quota, tat)) in table.limits().iter().zip(states).enumerate() {
            entry.set_tat(limit, next(limit, quota, quota.gcra.share(share), tat)?);
        }
        Ok(share)
    }
}

/// Takes every charge, or none.
///
/// # Errors
/// Of the store. What was taken before it failed stays taken.
pub fn admit<'p, S: Store>(store: &S, charges: &[Charge<'p>], at: Moment) -> Result<Outcome<'p>, S::Error> {
    let mut planned = Vec::with_capacity(charges.len());
    let mut worst = None;
    for charge in charges {
        match plan(store, charge, at)? {
            Ok(one) => planned.push(one),
            Err(obstacle) => worst = Some(worse(worst, obstacle)),
        }
    }
    if let Some(obstacle) = worst {
        return Ok(Outcome::Refused(obstacle));
    }
    let mut receipts = Vec::with_capacity(charges.len());
    for (charge, first) in charges.iter().zip(planned) {
        match commit(store, charge, first, at)? {
            Ok(receipt) => receipts.push(receipt),
            Err(obstacle) => {
                for (charge, receipt) in charges.iter().zip(receipts) {
                    settle(store, (charge, receipt), Settlement::refund(charge.cost), at)?;
                }
                return Ok(Outcome::Refused(obstacle));
            }
        }
    }
    Ok(Outcome::Admitted(receipts))
}

/// The one that keeps the request away longest.
fn worse<'p>(so_far: Option<Obstacle<'p>>, other: Obstacle<'p>) -> Obstacle<'p> {
    let rank = |obstacle: &Obstacle<'_>| match obstacle.denied {
        Denied::For(wait) => (false, wait),
        Denied::Never => (true, 0),
    };
    match so_far {
        Some(first) if rank(&first) >= rank(&other) => first,
        _ => other,
    }
}

/// What the store would hold if a charge were taken.
struct Planned {
    opened: Opened,
    receipt: Receipt,
}

/// Asks what the store would hold.
fn plan<'p, S: Store>(store: &S, charge: &Charge<'p>, at: Moment) -> Result<Result<Planned, Obstacle<'p>>, S::Error> {
    let table = charge.table;
    let mut opened = Opened::read(store, charge, at.now_ns)?;
    let taken = opened.update(table, (at, None), |limit, quota, mine, tat| {
        mine.take(tat, at.now_ns, charge.cost.of(quota.limit.unit))
            .map_err(|denied| Obstacle {
                table,
                limit,
                denied,
                remaining: mine.remaining(tat, at.now_ns),
                full_in_ns: mine.full_in_ns(tat, at.now_ns),
            })
    });
    Ok(taken.map(|share| Planned {
        receipt: Receipt {
            is_overflow: opened.is_overflow,
            share: Some(share),
        },
        opened,
    }))
}

fn commit<'p, S: Store>(
    store: &S,
    charge: &Charge<'p>,
    mut planned: Planned,
    at: Moment,
) -> Result<Result<Receipt, Obstacle<'p>>, S::Error> {
    for _ in 0..TRIES {
        if planned.opened.write(store)? {
            return Ok(Ok(planned.receipt));
        }
        match plan(store, charge, at)? {
            Ok(again) => planned = again,
            Err(obstacle) => return Ok(Err(obstacle)),
        }
    }
    Ok(Err(Obstacle {
        table: charge.table,
        limit: 0,
        denied: Denied::For(1_000_000),
        remaining: 0,
        full_in_ns: 0,
    }))
}

/// What is left of a limit.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Left<'p> {
    /// The limit.
    pub quota: &'p Quota,
    /// Cells that could be had now.
    pub remaining: u64,
    /// Nanoseconds until the bucket is full.
    pub full_in_ns: u64,
}

/// What is left of each limit that a charge takes from; takes nothing.
///
/// # Errors
/// Of the store.
pub fn look<'p, S: Store>(store: &S, charge: &Charge<'p>, at: Moment) -> Result<Vec<Left<'p>>, S::Error> {
    let mut left = Vec::with_capacity(charge.table.limits().len());
    let mut opened = Opened::read(store, charge, at.now_ns)?;
    let looked = opened.update(charge.table, (at, None), |_, quota, mine, tat| {
        left.push(Left {
            quota,
            remaining: mine.remaining(tat, at.now_ns),
            full_in_ns: mine.full_in_ns(tat, at.now_ns),
        });
        Ok::<_, Infallible>(tat)
    });
    let Ok(_) = looked;
    Ok(left)
}

/// How what was taken differs from what was used.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Settlement {
    /// To give back.
    pub unused: Cost,
    /// Used, and not taken before.
    pub overrun: Cost,
}

impl Settlement {
    /// Gives all back.
    pub fn refund(cost: Cost) -> Self {
        Self {
            unused: cost,
            overrun: Cost::default(),
        }
    }

    /// Of a request that is being served, or was.
    pub fn between(taken: Cost, used: Cost) -> Self {
        let difference = |one: Cost, other: Cost| Cost {
            requests: one.requests.saturating_sub(other.requests),
            tokens: one.tokens.saturating_sub(other.tokens),
            gpu_ms: one.gpu_ms.saturating_sub(other.gpu_ms),
        };
        Self {
            unused: difference(taken, used),
            overrun: difference(used, taken),
        }
    }

    /// Whether there is nothing to do.
    pub fn is_even(&self) -> bool {
        *self == Self::default()
    }
}

/// Gives back, or takes, what a request used less or more than it took, where it took it. Where the limit has other numbers by
/// now there is nothing to settle; what cannot be settled because other threads win each swap stays as it was taken.
///
/// # Errors
/// Of the store.
pub fn settle<S: Store>(
    store: &S,
    (charge, receipt): (&Charge<'_>, Receipt),
    settlement: Settlement,
    at: Moment,
) -> Result<(), S::Error> {
    for _ in 0..TRIES {
        let Some((mut opened, is_counted)) = Opened::read_again(store, (charge, receipt), at.now_ns)? else {
            return Ok(());
        };
        if !is_counted && settlement.overrun == Cost::default() {
            return Ok(());
        }
        let settled = opened.update(charge.table, (at, receipt.share), |_, quota, mine, tat| {
            let unit = quota.limit.unit;
            let (back, more) = (settlement.unused.of(unit), settlement.overrun.of(unit));
            let tat = if is_counted {
                mine.refund(tat, at.now_ns, back)
            } else {
                tat
            };
            Ok::<_, Infallible>(if more == 0 {
                tat
            } else {
                mine.charge(tat, at.now_ns, more)
            })
        });
        let Ok(_) = settled;
        if opened.write(store)? {
            return Ok(());
        }
    }
    Ok(())
}

/// Puts a lease to the key that it is for; false if there is no room for the key, which then shares the overflow key.
///
/// # Errors
/// Of the store.
pub fn grant<S: Store>(
    store: &S,
    table: &Table,
    key: Fingerprint,
    lease: Lease,
    now_ns: u64,
) -> Result<bool, S::Error> {
    let name = table.set_of(key);
    for _ in 0..TRIES {
        let (bytes, generation) = store.read(&name)?;
        let mut set = Set::new(bytes, table.layout());
        let Some(mut entry) = set.entry(key, now_ns) else {
            return Ok(false);
        };
        entry.set_lease(lease);
        if store.swap(&name, set.as_bytes(), generation)? {
            return Ok(true);
        }
    }
    Ok(false)
}

#[cfg(test)]
mod tests;
