//! The authority by hand, report by report. Whole meshes are in `tests/mesh`.

use super::*;
use crate::{Demand, MAX_DEMAND_PARTS, MAX_KEY_BYTES};

fn settings() -> Settings {
    Settings {
        learning: Duration::ZERO,
        first_sequence: 1000,
        ..Settings::default()
    }
}

fn at(millis: u64) -> Duration {
    Duration::from_millis(millis)
}

fn report(proxy: &str, acknowledged: Option<u64>, base: u32) -> Report {
    Report {
        proxy: proxy.to_owned(),
        acknowledged,
        base: Share::from_parts(base),
        ..Report::default()
    }
}

fn asking(proxy: &str, last: Option<&Grant>, demands: &[(&str, u32)]) -> Report {
    let demand = |(key, parts): &(&str, u32)| Demand {
        key: Arc::from(*key),
        parts: *parts,
    };
    Report {
        demands: demands.iter().map(demand).collect(),
        ..report(
            proxy,
            last.map(|grant| grant.sequence),
            last.map_or(0, |grant| grant.base.parts()),
        )
    }
}

#[test]
fn the_first_ever_has_everything_until_a_second_comes() {
    let mut authority = Authority::new(settings(), at(0));
    let first = authority.exchange(at(1), &report("a", None, 0)).unwrap();
    assert_eq!((first.base, first.sequence), (Share::WHOLE, 1000));
    let second = authority.exchange(at(2), &report("b", None, 0)).unwrap();
    assert_eq!(
        second.base,
        Share::ZERO,
        "until the first has acknowledged that it has less"
    );
    assert_eq!(second.next_report, at(100));
    let lowered = authority.exchange(at(3), &report("a", Some(1000), 1_000_000)).unwrap();
    assert_eq!(lowered.base.parts(), 500_000);
    let waiting = authority
        .exchange(at(4), &report("b", Some(second.sequence), 0))
        .unwrap();
    assert_eq!(waiting.base, Share::ZERO);
    authority
        .exchange(at(5), &report("a", Some(lowered.sequence), 500_000))
        .unwrap();
    let given = authority
        .exchange(at(6), &report("b", Some(waiting.sequence), 0))
        .unwrap();
    assert_eq!(given.base.parts(), 500_000);
    let settled = authority
        .exchange(at(7), &report("b", Some(given.sequence), 500_000))
        .unwrap();
    assert_eq!(settled.next_report, at(500));
}

#[test]
fn while_it_learns_it_gives_nobody_more_than_they_say_they_have() {
    let settings = Settings {
        learning: at(6000),
        ..settings()
    };
    let mut authority = Authority::new(settings, at(0));
    let old = authority
        .exchange(at(1), &asking("old", None, &[("k", 900_000)]))
        .unwrap();
    assert_eq!((old.base, old.leases.len()), (Share::ZERO, 0));
    let claimed = authority.exchange(at(2), &report("older", Some(7), 500_000)).unwrap();
    assert_eq!(claimed.base.parts(), 500_000);
    let still = authority
        .exchange(at(5999), &report("old", Some(old.sequence), 0))
        .unwrap();
    assert_eq!(still.base, Share::ZERO);
    authority
        .exchange(at(5999), &report("older", Some(claimed.sequence), 500_000))
        .unwrap();
    let now = authority
        .exchange(at(6000), &report("old", Some(still.sequence), 0))
        .unwrap();
    assert_eq!(now.base.parts(), 500_000);
}

#[test]
fn learning_is_never_shorter_than_a_lease() {
    let settings = Settings {
        learning: at(1),
        ..settings()
    };
    let mut authority = Authority::new(settings, at(0));
    let early = authority.exchange(at(4999), &report("a", None, 0)).unwrap();
    assert_eq!(early.base, Share::ZERO);
}

#[test]
fn a_claim_counts_even_when_the_sum_exceeds_the_whole() {
    let mut authority = Authority::new(settings(), at(0));
    let first = authority.exchange(at(1), &report("a", None, 0)).unwrap();
    // One that had been forgotten, or never been heard of.
    let claimed = authority.exchange(at(2), &report("b", Some(5), 700_000)).unwrap();
    assert_eq!(claimed.base.parts(), 500_000, "only lowered");
    assert_eq!(authority.base_total, 1_700_000);
    let lowered = authority
        .exchange(at(3), &report("a", Some(first.sequence), 1_000_000))
        .unwrap();
    assert_eq!(lowered.base.parts(), 500_000);
    // And one that it knows, which says that it has more than it was given.
    authority
        .exchange(at(4), &report("a", Some(lowered.sequence), 600_000))
        .unwrap();
    assert_eq!(authority.base_total, 1_300_000);
    assert_eq!(authority.counters().surprises, 1);
    let acknowledged = authority.sequence;
    authority
        .exchange(at(5), &report("a", Some(acknowledged), 500_000))
        .unwrap();
    assert_eq!(authority.base_total, 1_200_000);
}

#[test]
fn of_the_first_claims_the_lowest_is_told_and_the_highest_counts() {
    let settings = Settings {
        learning: at(6000),
        ..settings()
    };
    let mut authority = Authority::new(settings, at(0));
    let stale = authority.exchange(at(1), &report("a", Some(3), 500_000)).unwrap();
    assert_eq!(stale.base.parts(), 500_000);
    // Its answer goes nowhere: the report was an old one, and the proxy has had less for long.
    let fresh = authority.exchange(at(2), &report("a", Some(9), 200_000)).unwrap();
    assert_eq!(fresh.base.parts(), 200_000);
    assert_eq!(authority.base_total, 500_000);
    let next = authority
        .exchange(at(3), &report("a", Some(fresh.sequence), 200_000))
        .unwrap();
    assert_eq!((next.base.parts(), authority.base_total), (200_000, 200_000));
}

#[test]
fn an_acknowledgement_of_what_was_never_given_is_none() {
    let mut authority = Authority::new(settings(), at(0));
    authority.exchange(at(1), &report("a", None, 0)).unwrap();
    for foreign in [0, 999, 1002, u64::MAX] {
        authority.exchange(at(2), &report("b", None, 0)).unwrap();
        authority.remove("b");
        authority
            .exchange(at(3), &report("a", Some(foreign), 1_000_000))
            .unwrap();
        assert_eq!(
            authority.proxies().next().unwrap().base_bound,
            Share::WHOLE,
            "{foreign}"
        );
        authority.left.clear();
    }
}

#[test]
fn a_proxy_that_has_left_does_not_come_back_by_a_late_report() {
    let mut authority = Authority::new(settings(), at(0));
    authority.exchange(at(1), &report("a", None, 0)).unwrap();
    let leaving = Report {
        leaving: true,
        ..report("a", None, 1_000_000)
    };
    let farewell = authority.exchange(at(2), &leaving).unwrap();
    assert_eq!(farewell.base, Share::ZERO);
    assert_eq!(authority.exchange(at(3), &report("a", None, 0)), Err(ReportError::Left));
    assert_eq!(authority.exchange(at(4), &leaving), Err(ReportError::Left));
    let next = authority.exchange(at(5), &report("b", None, 0)).unwrap();
    assert_eq!(next.base, Share::WHOLE);
    authority.remove("nobody");
    assert_eq!(authority.counters().refused, 2);
    // Names are not kept for ever.
    authority.exchange(at(3_600_000), &report("a", None, 0)).unwrap();
}

#[test]
fn a_forgotten_proxy_may_come_back() {
    let mut authority = Authority::new(settings(), at(0));
    authority.exchange(at(1), &report("a", None, 0)).unwrap();
    authority.exchange(at(700_000), &report("b", None, 0)).unwrap();
    assert_eq!(authority.counters().forgotten, 1);
    let back = authority
        .exchange(at(700_001), &report("a", Some(1000), 1_000_000))
        .unwrap();
    assert_eq!((back.base.parts(), authority.base_total), (500_000, 2_000_000));
}

#[test]
fn malformed_reports_are_refused_and_change_nothing() {
    let mut authority = Authority::new(
        Settings {
            max_proxies: 1,
            ..settings()
        },
        at(0),
    );
    let long = "x".repeat(MAX_KEY_BYTES + 1);
    let cases = [
        (report("", None, 0), ReportError::Name { bytes: 0 }),
        (report(&long, None, 0), ReportError::Name { bytes: 1025 }),
    ];
    for (report, error) in cases {
        assert_eq!(authority.exchange(at(1), &report), Err(error));
    }
    assert_eq!(authority.proxies().count(), 0);
    authority.exchange(at(1), &report("a", None, 0)).unwrap();
    let refused = authority.exchange(at(1), &report("b", None, 0));
    assert_eq!(refused, Err(ReportError::Proxies { limit: 1 }));
    assert_eq!(authority.counters().refused, 3);
}

#[test]
fn demands_that_cannot_be_taken_in_are_passed_over_and_counted_and_the_others_are_heard() {
    let settings = Settings {
        max_keys: 3,
        ..settings()
    };
    let mut authority = Authority::new(settings, at(0));
    let (longest, long) = ("x".repeat(MAX_KEY_BYTES), "x".repeat(MAX_KEY_BYTES + 1));
    let demands = [
        (&*long, 900_000),
        ("k", 900_000),
        (&*longest, 900_000),
        ("beyond", 900_000),
    ];
    let first = authority.exchange(at(1), &asking("a", None, &demands)).unwrap();
    let managed: HashSet<_> = authority.managed().map(|key| key.key).collect();
    assert_eq!(managed, HashSet::from([Arc::from("k"), Arc::from(longest)]));
    assert_eq!((first.base, first.leases.len()), (Share::WHOLE, 2));
    let counters = authority.counters();
    assert_eq!((counters.demands_refused, counters.refused), (2, 0));
}

#[test]
fn one_absurd_demand_is_forgotten_as_soon_as_one_of_ten_times_the_whole() {
    let mut authority = Authority::new(settings(), at(0));
    authority
        .exchange(at(1), &asking("a", None, &[("k", u32::MAX)]))
        .unwrap();
    assert_eq!(authority.managed_key("k").unwrap().demand_parts, 10_000_000);
    for millis in (500..=10_000).step_by(500) {
        authority
            .exchange(at(millis), &asking("a", None, &[("k", 600_000), ("l", 1)]))
            .unwrap();
    }
    let demand = authority.managed_key("k").unwrap().demand_parts;
    assert!(demand.abs_diff(600_000) < 1000, "{demand}");
}

#[test]
fn keys_beyond_the_most_stay_at_base_shares() {
    for (max_keys, max_holds) in [(2, 1000), (1000, 4)] {
        let settings = Settings {
            max_keys,
            max_holds,
            ..settings()
        };
        let mut authority = Authority::new(settings, at(0));
        authority.exchange(at(1), &report("a", None, 0)).unwrap();
        for (millis, key) in [(2, "k"), (3, "l"), (4, "m")] {
            authority
                .exchange(at(millis), &asking("b", None, &[(key, 1_000_000)]))
                .unwrap();
        }
        assert_eq!((authority.managed_count(), authority.counters().beyond_keys), (2, 1));
    }
}

#[test]
fn of_two_demands_for_one_key_the_first_counts_and_none_counts_for_more_than_ten_times_the_whole() {
    let mut authority = Authority::new(settings(), at(0));
    let demands = [("k", u32::MAX), ("k", 1), ("k", u32::MAX)];
    let mut last = None;
    for millis in 1..20 {
        last = Some(
            authority
                .exchange(at(millis * 500), &asking("a", last.as_ref(), &demands))
                .unwrap(),
        );
    }
    let key = authority.managed().next().unwrap();
    assert_eq!(key.demand_parts, u64::from(MAX_DEMAND_PARTS));
    assert_eq!(key.shares[0].1, Share::WHOLE);
}

#[test]
fn time_that_goes_back_stands() {
    let mut authority = Authority::new(settings(), at(10_000));
    let first = authority
        .exchange(at(10_000), &asking("a", None, &[("k", 1_000_000)]))
        .unwrap();
    authority
        .exchange(at(0), &asking("a", Some(&first), &[("k", 1_000_000)]))
        .unwrap();
    assert_eq!(authority.now, Moment::at(at(10_000)));
    authority.exchange(Duration::MAX, &report("a", None, 0)).unwrap();
    authority.exchange(Duration::MAX, &report("b", None, 0)).unwrap();
}

#[test]
fn an_answer_holds_no_more_leases_than_it_may_unless_they_wait_to_be_acknowledged() {
    let mut authority = Authority::new(
        Settings {
            max_leases: 2,
            ..settings()
        },
        at(0),
    );
    let demands = [("k", 1_000_000), ("l", 1_000_000), ("m", 1_000_000)];
    let first = authority.exchange(at(1), &asking("a", None, &demands)).unwrap();
    assert_eq!((first.leases.len(), first.next_report), (2, at(100)));
    // Nothing is acknowledged: what was given is given again, and no more.
    let again = authority.exchange(at(2), &asking("a", None, &demands)).unwrap();
    assert_eq!(again.leases, first.leases);
    let rest = authority.exchange(at(3), &asking("a", Some(&again), &demands)).unwrap();
    assert_eq!(rest.leases.len(), 1);
}

#[test]
fn no_base_share_grows_while_more_than_the_whole_of_a_key_may_be_in_use() {
    let mut authority = Authority::new(settings(), at(0));
    let mut last: HashMap<&str, Grant> = HashMap::new();
    let mut exchange = |authority: &mut Authority, millis: u64, name: &'static str| {
        let demands: &[(&str, u32)] = if name == "crowded" { &[("k", 3_000_000)] } else { &[] };
        let report = asking(name, last.get(name), demands);
        let grant = authority.exchange(at(millis), &report).unwrap();
        last.insert(name, grant.clone());
        grant
    };
    for millis in (0..10_000).step_by(100) {
        for name in ["crowded", "cut off", "ends", "waits"] {
            exchange(&mut authority, millis, name);
        }
    }
    // One is cut off. Its lease can be relied on for a ttl at most, and the crowded one has just been given its own again.
    for millis in (10_000..12_300).step_by(100) {
        for name in ["crowded", "ends", "waits"] {
            exchange(&mut authority, millis, name);
        }
    }
    let is_crowded = |authority: &Authority| authority.managed().any(|key| key.used_parts > 1_000_000);
    let until = (12_300..20_000).step_by(50).find(|millis| {
        exchange(&mut authority, *millis, "waits");
        is_crowded(&authority)
    });
    authority.remove("ends");
    let grant = exchange(&mut authority, until.unwrap() + 50, "waits");
    assert!(is_crowded(&authority));
    assert_eq!(grant.base.parts(), 250_000);
}
