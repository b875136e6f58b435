//! A key with leases: who may be using how much of it.

use crate::Share;
use crate::hold::Hold;
use crate::moment::Moment;
use std::collections::{BTreeSet, HashMap};
use std::sync::Arc;

#[derive(Debug)]
pub(crate) struct Key {
    pub(crate) id: Arc<str>,
    /// By the place of the proxy; one that is missing counts for nothing.
    holds: Vec<Hold>,
    /// What all of them count for.
    total: u64,
    /// When a count changes by time alone.
    counted_until: Moment,
    /// What all ask for.
    pub(crate) demand: u64,
    /// Since when it has leases.
    pub(crate) since: Moment,
    /// When somebody last asked for more than half of a base share.
    pub(crate) wanted: Moment,
    /// Until when others give way however little it is: somebody waits for room.
    pub(crate) short_until: Moment,
    /// When a lease was last given.
    pub(crate) given: Moment,
}

impl Key {
    /// One that nobody has a lease of.
    pub(crate) fn new(id: Arc<str>, bases: &[Share], now: Moment) -> Self {
        Self {
            id,
            holds: bases.iter().map(|base| Hold::on_base(*base)).collect(),
            total: bases.iter().map(|base| base.wide()).sum(),
            counted_until: Moment::NEVER,
            demand: 0,
            since: now,
            wanted: now,
            short_until: Moment::START,
            given: Moment::START,
        }
    }

    pub(crate) fn hold(&self, place: usize) -> Option<&Hold> {
        self.holds.get(place)
    }

    /// The sum of what all may be using from now until a ttl from now, as of the last [`refresh`](Self::refresh).
    pub(crate) fn total(&self) -> u64 {
        self.total
    }

    /// Parts that nobody may be using.
    pub(crate) fn slack(&self) -> u64 {
        Share::WHOLE.wide().saturating_sub(self.total)
    }

    /// Counts anew what time has changed.
    pub(crate) fn refresh(&mut self, bases: &[Share], now: Moment) {
        if now < self.counted_until {
            return;
        }
        self.counted_until = Moment::NEVER;
        self.total = 0;
        for (hold, base) in self.holds.iter_mut().zip(bases) {
            self.total += hold.count(*base, now).wide();
            self.counted_until = self.counted_until.min(hold.next_change(now));
        }
    }

    /// Changes a proxy's hold, or its base share, and counts it anew.
    pub(crate) fn change<T>(
        &mut self,
        place: usize,
        base: Share,
        now: Moment,
        change: impl FnOnce(&mut Hold) -> T,
    ) -> Option<T> {
        if self.holds.len() <= place {
            self.holds.resize_with(place + 1, || Hold::on_base(Share::ZERO));
        }
        let hold = self.holds.get_mut(place)?;
        let before = hold.counted().wide();
        let result = change(hold);
        self.total = self.total.saturating_sub(before) + hold.count(base, now).wide();
        self.counted_until = self.counted_until.min(hold.next_change(now));
        Some(result)
    }

    /// A proxy's demand, smoothed, is no longer `before` but `after`.
    pub(crate) fn ask(&mut self, before: u64, after: u64) {
        self.demand = self.demand.saturating_sub(before).saturating_add(after);
    }
}

/// All keys with leases.
#[derive(Debug, Default)]
pub(crate) struct Keys {
    places: HashMap<Arc<str>, u32>,
    keys: Vec<Option<Key>>,
    free: BTreeSet<u32>,
}

impl Keys {
    pub(crate) fn len(&self) -> usize {
        self.places.len()
    }

    pub(crate) fn place(&self, id: &str) -> Option<u32> {
        self.places.get(id).copied()
    }

    pub(crate) fn get(&self, place: u32) -> Option<&Key> {
        self.keys.get(usize::try_from(place).ok()?)?.as_ref()
    }

    pub(crate) fn get_mut(&mut self, place: u32) -> Option<&mut Key> {
        self.keys.get_mut(usize::try_from(place).ok()?)?.as_mut()
    }

    pub(crate) fn iter(&self) -> impl Iterator<Item = &Key> {
        self.keys.iter().flatten()
    }

    pub(crate) fn iter_mut(&mut self) -> impl Iterator<Item = &mut Key> {
        self.keys.iter_mut().flatten()
    }

    pub(crate) fn places(&self) -> impl Iterator<Item = u32> {
        self.places.values().copied()
    }

    /// `None` when there are more than places can be numbered.
    pub(crate) fn insert(&mut self, key: Key) -> Option<u32> {
        let place = match self.free.pop_first() {
            Some(place) => place,
            None => u32::try_from(self.keys.len()).ok()?,
        };
        self.places.insert(Arc::clone(&key.id), place);
        let index = usize::try_from(place).ok()?;
        if index == self.keys.len() {
            self.keys.push(Some(key));
        } else if let Some(slot) = self.keys.get_mut(index) {
            *slot = Some(key);
        }
        Some(place)
    }

    pub(crate) fn remove(&mut self, place: u32) {
        let slot = usize::try_from(place).ok().and_then(|index| self.keys.get_mut(index));
        if let Some(key) = slot.and_then(Option::take) {
            self.places.remove(&key.id);
            self.free.insert(place);
        }
    }

    /// Those of which `is_over`.
    pub(crate) fn over(&self, is_over: impl Fn(&Key) -> bool) -> Vec<u32> {
        let places = self.keys.iter().zip(0_u32..);
        places
            .filter_map(|(key, place)| key.as_ref().is_some_and(&is_over).then_some(place))
            .collect()
    }
}
