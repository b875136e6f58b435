//! What has left the mesh and is served a while longer. Pure: time is an argument.
//!
//! A proxy takes its new routes and endpoints before its new filter, since a filter must not decide for what no route knows
//! yet. When a version goes it is the other way round: for a moment the old filter still decides for it. So a version that
//! is neither named by a policy nor served by a worker any more keeps its route, cluster and last endpoints until every
//! proxy has had time for the new filter; and one that is named and has lost its last worker keeps that worker's endpoint
//! until the filters know that it is unready and send its requests elsewhere. A worker that drains serves on so long; to a
//! dead one nothing could have been sent anyway. Of a version that has other workers, an endpoint goes at once.

use crate::snapshot::placement::{Placed, Placement};
use kilocard_registry::worker::ServedModel;
use std::collections::BTreeMap;
use std::sync::Arc;
use std::time::{Duration, Instant};

/// How long a version lingers: far beyond what a proxy needs to start a filter, and nothing that an operator waits for.
pub const GRACE: Duration = Duration::from_secs(10);
/// How long the endpoints of a version without workers linger: what a proxy needs to take a filter's new state, which is
/// some 10 ms, many times over.
pub const EMPTIED_GRACE: Duration = Duration::from_secs(1);

/// What was served last, and until when the part of it lingers that has left.
#[derive(Debug, Default)]
pub struct Lingering {
    served: Arc<Placement>,
    until: BTreeMap<(ServedModel, Left), Instant>,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
enum Left {
    /// The version, altogether.
    Version,
    /// All workers of a version that a policy still names.
    Workers,
}

impl Left {
    fn of(now: Option<&BTreeMap<String, Placed>>, before: &BTreeMap<String, Placed>) -> Option<Self> {
        match now {
            None => Some(Self::Version),
            Some(now) if now.is_empty() && !before.is_empty() => Some(Self::Workers),
            Some(_) => None,
        }
    }

    const fn grace(self) -> Duration {
        match self {
            Self::Version => GRACE,
            Self::Workers => EMPTIED_GRACE,
        }
    }
}

impl Lingering {
    /// The placement to serve: this one, and what has left it so short a while ago that it lingers.
    pub fn extend(&mut self, mut placement: Placement, now: Instant) -> &Placement {
        let last = std::mem::take(&mut self.until);
        for (served, placed) in self.served.iter() {
            let Some(left) = Left::of(placement.get(served), placed) else {
                continue;
            };
            let key = (served.clone(), left);
            let until = last.get(&key).copied().unwrap_or(now + left.grace());
            if until > now {
                self.until.insert(key, until);
                placement.insert(served.clone(), placed.clone());
            }
        }
        self.served = Arc::new(placement);
        &self.served
    }

    /// What was served last.
    pub fn served(&self) -> &Arc<Placement> {
        &self.served
    }

    /// When the next of it is over, unless something changes before.
    pub fn due(&self) -> Option<Instant> {
        self.until.values().min().copied()
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::snapshot::tests::placement;

    fn keys(placement: &Placement) -> Vec<&str> {
        placement.keys().map(|served| served.version.as_str()).collect()
    }

    #[test]
    fn a_version_that_leaves_keeps_its_endpoints_until_its_time_is_over() {
        let (mut lingering, begin) = (Lingering::default(), Instant::now());
        let all = placement();
        assert_eq!(lingering.extend(all.clone(), begin), &all);
        assert_eq!(lingering.due(), None);
        let mut less = all.clone();
        less.retain(|served, _| served.version != "v9");
        assert_eq!(lingering.extend(less.clone(), begin), &all);
        assert_eq!(lingering.due(), Some(begin + GRACE));
        // Further changes do not prolong it.
        assert_eq!(lingering.extend(less.clone(), begin + GRACE / 2), &all);
        assert_eq!(lingering.extend(less.clone(), begin + GRACE), &less);
        assert_eq!(lingering.due(), None);
    }

    #[test]
    fn a_version_that_comes_back_has_the_full_time_when_it_leaves_again() {
        let (mut lingering, begin) = (Lingering::default(), Instant::now());
        let all = placement();
        let (later, end) = (begin + GRACE / 2, begin + GRACE);
        lingering.extend(all.clone(), begin);
        lingering.extend(Placement::new(), begin);
        lingering.extend(all.clone(), later);
        assert_eq!(lingering.due(), None);
        assert_eq!(keys(lingering.extend(Placement::new(), later)).len(), all.len());
        assert_eq!(keys(lingering.extend(Placement::new(), end)).len(), all.len());
        assert!(lingering.extend(Placement::new(), later + GRACE).is_empty());
    }

    #[test]
    fn the_last_endpoint_of_a_version_stays_while_filters_learn_that_it_is_unready() {
        let (mut lingering, begin) = (Lingering::default(), Instant::now());
        let all = placement();
        lingering.extend(all.clone(), begin);
        let mut one_left = all.clone();
        one_left.values_mut().for_each(|placed| drop(placed.remove("a")));
        assert_eq!(lingering.extend(one_left.clone(), begin), &one_left, "others are left");
        let emptied: Placement = all.keys().map(|served| (served.clone(), BTreeMap::new())).collect();
        assert_eq!(lingering.extend(emptied.clone(), begin), &one_left);
        assert_eq!(lingering.due(), Some(begin + EMPTIED_GRACE));
        let over = lingering.due().unwrap();
        assert_eq!(lingering.extend(emptied.clone(), over), &emptied);
        assert_eq!(lingering.due(), None);
        assert_eq!(lingering.extend(all.clone(), over), &all);
    }

    #[test]
    fn a_version_that_loses_its_workers_and_then_its_policy_has_the_full_time_from_then() {
        let (mut lingering, begin) = (Lingering::default(), Instant::now());
        let all = placement();
        let emptied: Placement = all.keys().map(|served| (served.clone(), BTreeMap::new())).collect();
        lingering.extend(all.clone(), begin);
        lingering.extend(emptied, begin);
        let then = begin + EMPTIED_GRACE / 2;
        assert_eq!(lingering.extend(Placement::new(), then), &all);
        assert_eq!(lingering.due(), Some(then + GRACE));
    }
}
