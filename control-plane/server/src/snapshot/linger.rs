//! Model versions that have left the mesh and are served a while longer. Pure: time is an argument.
//!
//! A proxy takes its new routes before its new filter, since a filter must not decide for what no route knows yet. When a
//! version goes it is the other way round: for a moment the old filter still decides for it. So a version that is neither
//! named by a policy nor served by a worker any more keeps its route, cluster and last endpoints until every proxy has had
//! time for the new filter.

use crate::snapshot::placement::Placement;
use kilocard_registry::worker::ServedModel;
use std::collections::BTreeMap;
use std::time::{Duration, Instant};

/// How long a version lingers: far beyond what a proxy needs to start a filter, and nothing that an operator waits for.
pub const GRACE: Duration = Duration::from_secs(10);

/// What was served last, and until when the part of it lingers that has left.
#[derive(Debug, Default)]
pub struct Lingering {
    served: Placement,
    until: BTreeMap<ServedModel, Instant>,
}

impl Lingering {
    /// The placement to serve: this one, and what has left it less than [`GRACE`] ago.
    pub fn extend(&mut self, placement: Placement, now: Instant) -> &Placement {
        self.until.retain(|served, _| !placement.contains_key(served));
        let before = std::mem::replace(&mut self.served, placement);
        for (served, placed) in before {
            if self.served.contains_key(&served) {
                continue;
            }
            if *self.until.entry(served.clone()).or_insert(now + GRACE) > now {
                self.served.insert(served, placed);
            } else {
                self.until.remove(&served);
            }
        }
        &self.served
    }

    /// When the next version is over, unless something changes before.
    pub fn due(&self) -> Option<Instant> {
        self.until.values().min().copied()
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::snapshot::placement::place;
    use crate::snapshot::tests::mesh;

    fn keys(placement: &Placement) -> Vec<&str> {
        placement.keys().map(|served| served.version.as_str()).collect()
    }

    #[test]
    fn a_version_that_leaves_keeps_its_endpoints_until_its_time_is_over() {
        let (mut lingering, begin) = (Lingering::default(), Instant::now());
        let all = place(&mesh());
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
        let all = place(&mesh());
        let (later, end) = (begin + GRACE / 2, begin + GRACE);
        lingering.extend(all.clone(), begin);
        lingering.extend(Placement::new(), begin);
        lingering.extend(all.clone(), later);
        assert_eq!(lingering.due(), None);
        assert_eq!(keys(lingering.extend(Placement::new(), later)).len(), all.len());
        assert_eq!(keys(lingering.extend(Placement::new(), end)).len(), all.len());
        assert!(lingering.extend(Placement::new(), later + GRACE).is_empty());
    }
}
