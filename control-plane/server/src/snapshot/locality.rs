//! In which order the proxies of a locality use the endpoints of the others. Pure.
//!
//! A proxy prefers the endpoints of its own locality (priority 0), then those of its zone, then all others. By Envoy's
//! rules for priorities the next one gets a part of the requests once fewer than 71 % of the endpoints before it are healthy.
//! While the own ones are overloaded, a [`Split`] sends a part to others that have room: then these stand at priority 0 too,
//! and the weights of localities say how much each gets.
//!
//! For whom it makes no difference, since it is nowhere or nothing is anywhere, all endpoints are one group.

use crate::snapshot::placement::Placed;
use kilocard_weights::{Distance, Locality, Split, Standing};
use std::collections::{BTreeMap, BTreeSet};

/// Weight of a percent of the requests: large enough to be divided among the endpoints of a locality.
const PERCENT: u32 = 1000;

/// Endpoints that stand together.
#[derive(Clone, Debug, PartialEq)]
pub(super) struct Group<'p> {
    /// Empty for all of them.
    pub(super) locality: Locality,
    /// 0 before 1; without gaps.
    pub(super) priority: u32,
    /// Against the others of the priority.
    pub(super) weight: u32,
    /// By worker.
    pub(super) members: Vec<&'p Placed>,
}

/// How a proxy in `own` sees these endpoints.
pub(super) fn groups<'p>(
    endpoints: impl IntoIterator<Item = &'p Placed>,
    own: &Locality,
    split: Option<&Split>,
) -> Vec<Group<'p>> {
    let mut by_locality: BTreeMap<Locality, Vec<&Placed>> = BTreeMap::new();
    for placed in endpoints {
        let locality = match own.zone.is_empty() {
            true => Locality::default(),
            false => Locality::clone(&placed.locality),
        };
        by_locality.entry(locality).or_default().push(placed);
    }
    let split = split.filter(|_| by_locality.contains_key(own));
    let part = |locality: &Locality| split.and_then(|split| split.to.get(locality)).copied();
    let distance = |locality: &Locality| match part(locality) {
        Some(_) => Distance::Here,
        None => own.distance(locality),
    };
    let distances: BTreeSet<Distance> = by_locality.keys().map(distance).collect();
    let mut groups: Vec<Group<'p>> = Vec::new();
    for (locality, members) in by_locality {
        let priority = distances.range(..distance(&locality)).count();
        let own_part = split.filter(|_| locality == *own).map(|split| 100 - split.away);
        groups.push(Group {
            priority: u32::try_from(priority).unwrap_or(u32::MAX),
            weight: part(&locality)
                .or(own_part)
                .map_or_else(|| weight(&members), |percent| percent * PERCENT),
            locality,
            members,
        });
    }
    // Alone in its priority a locality gets everything there: its weight need not follow those of its endpoints.
    let priorities: Vec<u32> = groups.iter().map(|group| group.priority).collect();
    for group in &mut groups {
        if priorities
            .iter()
            .filter(|priority| **priority == group.priority)
            .count()
            == 1
        {
            group.weight = 1;
        }
    }
    groups.sort_by_key(|group| group.priority);
    groups
}

/// What those that take requests weigh together. Envoy gives nothing to a locality without a weight.
fn weight(members: &[&Placed]) -> u32 {
    let serving = members.iter().filter(|placed| takes_requests(placed));
    serving.map(|placed| placed.weighed.weight).sum::<u32>().max(1)
}

/// Whether it gets new requests.
pub(super) fn takes_requests(placed: &Placed) -> bool {
    !matches!(placed.weighed.standing, Standing::Drained(_))
}

#[cfg(test)]
mod tests {
    use super::*;
    use kilocard_weights::Weighed;
    use std::sync::Arc;

    fn locality(name: &str) -> Locality {
        let (zone, rack) = name.split_once('/').unwrap_or((name, ""));
        Locality {
            zone: zone.to_owned(),
            rack: rack.to_owned(),
        }
    }

    fn placed(name: &str, weight: u32) -> Placed {
        Placed {
            address: ([10, 0, 0, 1], 80).into(),
            weighed: Weighed {
                weight,
                standing: Standing::Serving,
                memory: 1.0,
            },
            locality: Arc::new(locality(name)),
            tags: Arc::new([]),
        }
    }

    fn split(away: u32, to: &[(&str, u32)]) -> Split {
        Split {
            away,
            to: to.iter().map(|(name, part)| (locality(name), *part)).collect(),
        }
    }

    /// `(locality, priority, weight, endpoints)`
    fn seen(endpoints: &[Placed], own: &str, split: Option<&Split>) -> Vec<(String, u32, u32, usize)> {
        let groups = groups(endpoints, &locality(own), split);
        let described = groups.into_iter();
        described
            .map(|group| {
                (
                    group.locality.to_string(),
                    group.priority,
                    group.weight,
                    group.members.len(),
                )
            })
            .collect()
    }

    fn row(name: &str, priority: u32, weight: u32, endpoints: usize) -> (String, u32, u32, usize) {
        (name.to_owned(), priority, weight, endpoints)
    }

    #[test]
    fn ones_own_come_first_and_then_all_others_by_what_they_bear() {
        let endpoints = [
            placed("a", 400),
            placed("a", 200),
            placed("b", 100),
            placed("c", 300),
            placed("", 7),
        ];
        let from_a = [
            row("a", 0, 1, 2),
            row("nowhere", 1, 7, 1),
            row("b", 1, 100, 1),
            row("c", 1, 300, 1),
        ];
        assert_eq!(seen(&endpoints, "a", None), from_a);
    }

    #[test]
    fn who_is_nowhere_sees_one_group() {
        let endpoints = [placed("a", 400), placed("b", 100)];
        assert_eq!(seen(&endpoints, "", None), [row("nowhere", 0, 1, 2)]);
        assert_eq!(seen(&[], "a", None), []);
    }

    #[test]
    fn a_version_without_an_endpoint_here_has_no_gap_where_it_would_be() {
        let endpoints = [placed("b", 400), placed("c", 100)];
        assert_eq!(seen(&endpoints, "a", None), [row("b", 0, 400, 1), row("c", 0, 100, 1)]);
    }

    #[test]
    fn other_racks_of_the_zone_come_before_other_zones() {
        let endpoints = [placed("a/1", 1), placed("a/2", 2), placed("b/1", 3)];
        let from_rack = [row("a/1", 0, 1, 1), row("a/2", 1, 1, 1), row("b/1", 2, 1, 1)];
        assert_eq!(seen(&endpoints, "a/1", None), from_rack);
        // A proxy that knows its zone only is as near to each rack.
        assert_eq!(
            seen(&endpoints, "a", None),
            [row("a/1", 0, 1, 1), row("a/2", 0, 2, 1), row("b/1", 1, 1, 1)]
        );
    }

    #[test]
    fn what_spills_over_goes_by_percents_and_only_where_it_is_sent() {
        let endpoints = [placed("a", 400), placed("b", 100), placed("c", 100)];
        let to_b = split(15, &[("b", 15)]);
        let expected = [row("a", 0, 85_000, 1), row("b", 0, 15_000, 1), row("c", 1, 1, 1)];
        assert_eq!(seen(&endpoints, "a", Some(&to_b)), expected);
        let gone = split(15, &[("d", 15)]);
        assert_eq!(
            seen(&endpoints, "a", Some(&gone))[0],
            row("a", 0, 1, 1),
            "d has left: all stays"
        );
        let of_nobody = split(15, &[("b", 15)]);
        assert_eq!(
            seen(&endpoints[1..], "a", Some(&of_nobody)).len(),
            2,
            "nothing here that could be split"
        );
    }

    #[test]
    fn the_drained_weigh_nothing() {
        let mut ill = placed("b", 300);
        ill.weighed.standing = Standing::Drained(kilocard_weights::fault::Code::XidFatal);
        let endpoints = [placed("a", 400), placed("b", 100), ill, placed("c", 50)];
        assert_eq!(
            seen(&endpoints, "a", None),
            [row("a", 0, 1, 1), row("b", 1, 100, 2), row("c", 1, 50, 1)]
        );
    }
}
