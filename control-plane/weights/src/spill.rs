//! Spill-over: how much of what the proxies of a locality would send to its own endpoints they send elsewhere, so that
//! these are not loaded beyond what they can bear while others have room. One pool, one locality; pure.
//!
//! The controlled quantity is the busy fraction `u` of the locality's own endpoints. What they would bear if nothing were
//! sent away is `offered = u / (1 - felt)`, where `felt` is the share that reports have had time to show: they lag, and a
//! controller that takes them for now swings. More is sent away as long as the own endpoints would be busier than `engage`
//! without it, and less as soon as they would stay below `release` with it. Between the two nothing moves, and a turn
//! waits for its hold, so that there is no flapping.

use crate::locality::Locality;
use crate::params::Spillover;
use std::collections::BTreeMap;
use std::time::Duration;

/// Time constant with which a share that was changed shows in what workers report: that of their busy fraction, and the
/// requests that were under way.
const FELT_OVER: Duration = Duration::from_secs(6);
/// What a percent may be off by the arithmetic of fractions.
const TINY: f64 = 1e-6;
/// A destination's part is told anew when it is off by so many percent of the whole.
const NOTICEABLE: u32 = 3;

/// What leaves a locality, and for where.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Split {
    /// Of all requests, percent.
    pub away: u32,
    /// The parts of `away`, percent of all requests, each above 0.
    pub to: BTreeMap<Locality, u32>,
}

/// The endpoints of a pool in one locality, taken together.
#[derive(Clone, Copy, Debug, Default, PartialEq)]
pub struct Site {
    /// What those that take requests can bear, on the scale of the priors.
    pub capacity: f64,
    /// The fraction of it that is in use; `None` when no report tells.
    pub busy: Option<f64>,
}

/// The state of one locality.
#[derive(Clone, Debug)]
pub(crate) struct Spill {
    split: Split,
    felt: f64,
    last: Option<Move>,
    at: Duration,
}

/// Another locality.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Neighbour<'l> {
    pub(crate) name: &'l Locality,
    /// Whether it comes before those that are not.
    pub(crate) is_near: bool,
    pub(crate) site: Site,
}

/// What another locality could bear.
#[derive(Clone, Copy, Debug)]
struct Room<'l> {
    name: &'l Locality,
    is_near: bool,
    /// On the scale of capacities.
    bears: f64,
}

/// A move of the share.
#[derive(Clone, Copy, Debug)]
struct Move {
    outwards: bool,
    at: Duration,
}

impl Spill {
    pub(crate) fn new(at: Duration) -> Self {
        Self {
            split: Split::default(),
            felt: 0.0,
            last: None,
            at,
        }
    }

    pub(crate) fn split(&self) -> &Split {
        &self.split
    }

    /// Whether it may move although nothing is observed.
    pub(crate) fn is_active(&self) -> bool {
        self.split.away > 0
    }

    /// Moves on to `now`; whether proxies have to be told something else. The share moves by whole percents: what a step is short
    /// of one is lost, so steps had better be a second apart.
    pub(crate) fn step(&mut self, now: Duration, own: Site, others: &[Neighbour<'_>], rules: &Spillover) -> bool {
        let seconds = now.saturating_sub(self.at).as_secs_f64();
        self.at = self.at.max(now);
        let share = f64::from(self.split.away) / 100.0;
        self.felt = share + (self.felt - share) * (-seconds / FELT_OVER.as_secs_f64()).exp();
        // A locality without endpoints sends everything elsewhere by the order of its priorities; without others nothing can go.
        if own.capacity <= 0.0 || others.iter().all(|other| other.site.capacity <= 0.0) {
            self.last = None;
            return std::mem::take(&mut self.split) != Split::default();
        }
        // What is not known is no reason to send anything away.
        let offered = own.busy.unwrap_or(0.0) / (1.0 - self.felt).max(f64::MIN_POSITIVE);
        let load = offered * own.capacity;
        let rooms = self.rooms(load, others, rules);
        let goal = self.goal(offered, load, &rooms, rules);
        let away = self.towards(goal, rules.step * seconds.min(1.0), now, rules);
        let turned = away != self.split.away;
        if turned {
            let outwards = away > self.split.away;
            self.last = Some(Move { outwards, at: now });
        }
        let to = divide(away, f64::from(away) / 100.0 * load, &rooms, &self.split.to);
        let part = |to: &BTreeMap<Locality, u32>, name: &Locality| to.get(name).copied().unwrap_or(0);
        let mut names = to.keys().chain(self.split.to.keys());
        let shifted = names.any(|name| part(&to, name).abs_diff(part(&self.split.to, name)) >= NOTICEABLE);
        if turned || shifted {
            self.split = Split { away, to };
        }
        turned || shifted
    }

    /// What each other locality could bear of this one's load: what it has left, and what it bears of it already.
    fn rooms<'l>(&self, load: f64, others: &[Neighbour<'l>], rules: &Spillover) -> Vec<Room<'l>> {
        let away = f64::from(self.split.away).max(1.0);
        let room = |other: &Neighbour<'l>| {
            let part = self.split.to.get(other.name).copied().unwrap_or(0);
            let borne = self.felt * load * f64::from(part) / away;
            // Nothing is sent to where nobody serves, or nobody tells how busy they are.
            let left = |busy: f64| ((rules.engage - busy) * other.site.capacity + borne).max(0.0);
            let busy = other.site.busy.filter(|_| other.site.capacity > 0.0);
            Room {
                name: other.name,
                is_near: other.is_near,
                bears: busy.map_or(0.0, left),
            }
        };
        others.iter().map(room).collect()
    }

    /// The share that would be right, as far as can be told now.
    fn goal(&self, offered: f64, load: f64, rooms: &[Room<'_>], rules: &Spillover) -> f64 {
        let share = f64::from(self.split.away) / 100.0;
        // The share that leaves the own endpoints so busy.
        let leaving = |busy: f64| if offered > busy { 1.0 - busy / offered } else { 0.0 };
        let bears: f64 = rooms.iter().map(|room| room.bears).sum();
        let most = if load > 0.0 { bears / load } else { 0.0 };
        let out = leaving(rules.engage).min(most).min(rules.most);
        if share < out {
            return out;
        }
        // Back from full destinations only when they are well over it: their load wavers too.
        let slack = 1.0 + (rules.engage - rules.release) / rules.engage;
        share.min(leaving(rules.release)).min(most * slack).min(rules.most)
    }

    /// The share, whole percent, after a step to the goal.
    fn towards(&self, goal: f64, step: f64, now: Duration, rules: &Spillover) -> u32 {
        let before = self.split.away;
        let share = f64::from(before) / 100.0;
        let outwards = goal > share;
        let turns = |last: Move| last.outwards != outwards && now < last.at + rules.hold;
        if self.last.is_some_and(turns) {
            return before;
        }
        let next = goal.clamp(share - step, share + step) * 100.0;
        // Whole percents short of the goal, but for what arithmetic loses; within 0..=100, so the casts cannot truncate.
        if outwards {
            ((next + TINY).floor() as u32).max(before)
        } else {
            ((next - TINY).ceil().max(0.0) as u32).min(before)
        }
    }
}

/// Divides `away` percent, which is so much load, among those with room: the nearer ones first, in proportion to their room.
/// When nobody has any, as far as can be told, the parts of `before` are kept.
fn divide(away: u32, load: f64, rooms: &[Room<'_>], before: &BTreeMap<Locality, u32>) -> BTreeMap<Locality, u32> {
    let sum = |is_near: bool| {
        let rooms = rooms.iter().filter(|room| room.is_near == is_near);
        rooms.map(|room| room.bears).sum::<f64>()
    };
    let (near, far) = (sum(true), sum(false));
    // The far ones get what the near ones cannot bear, if there are any.
    let to_far = if far > 0.0 { (load - near).max(0.0) } else { 0.0 };
    let by_room = |room: &Room<'_>| {
        let (goes, of) = if room.is_near {
            (load - to_far, near)
        } else {
            (to_far, far)
        };
        if of > 0.0 { goes * room.bears / of } else { 0.0 }
    };
    let mut parts: Vec<(&Locality, f64)> = rooms.iter().map(|room| (room.name, by_room(room))).collect();
    if parts.iter().all(|(_, part)| *part <= 0.0) {
        let stays = |name: &Locality| rooms.iter().any(|room| room.name == name);
        let before = before.iter().filter(|(name, _)| stays(name));
        parts = before.map(|(name, part)| (name, f64::from(*part))).collect();
    }
    let whole: f64 = parts.iter().map(|(_, part)| *part).sum();
    for (_, part) in &mut parts {
        *part *= f64::from(away) / whole.max(f64::MIN_POSITIVE);
    }
    // At most `away`, at most 100: the casts cannot truncate.
    let floors = parts.iter().map(|(name, part)| ((*name).clone(), part.floor() as u32));
    let mut to: BTreeMap<Locality, u32> = floors.collect();
    let left = away.saturating_sub(to.values().sum());
    // The largest remainders get what rounding leaves.
    parts.sort_by(|(a, x), (b, y)| y.fract().total_cmp(&x.fract()).then(a.cmp(b)));
    for (name, _) in parts.into_iter().take(left as usize) {
        *to.entry(name.clone()).or_default() += 1;
    }
    to.retain(|_, part| *part > 0);
    to
}

#[cfg(test)]
mod tests;
