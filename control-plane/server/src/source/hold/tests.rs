use super::*;
use crate::snapshot::tests::worker;
use proptest::prelude::*;
use std::collections::BTreeSet;

const LIMIT: Duration = Duration::from_secs(600);

fn gone(id: &str, at: Instant) -> Gone {
    let (_, worker) = worker(id, 1, &[("m", "v1")], None);
    let record = Stored {
        created: 1,
        modified: 1,
        value: b"{}".as_slice().into(),
    };
    Gone { worker, record, at }
}

fn crowd(ids: &[&str], at: Instant) -> Vec<Gone> {
    ids.iter().map(|id| gone(id, at)).collect()
}

fn held(hold: &Hold) -> Vec<&str> {
    let workers = hold.active().into_iter().flat_map(|active| active.workers.keys());
    workers.map(String::as_str).collect()
}

const NONE: std::iter::Empty<&'static str> = std::iter::empty();

#[test]
fn a_third_of_ten_workers_that_vanish_one_after_the_other_within_the_window_are_all_held() {
    let (mut hold, begin) = (Hold::new(LIMIT), Instant::now());
    for (second, (id, present)) in [("a", 9), ("b", 8), ("c", 7)].into_iter().enumerate() {
        assert!(held(&hold).is_empty());
        hold.take(
            vec![gone(id, begin)],
            NONE,
            present,
            begin + Duration::from_secs(second as u64 * 4),
        );
    }
    assert!(held(&hold).is_empty(), "three of ten are 30 %, not more");
    hold.take(vec![gone("d", begin)], NONE, 6, begin + Duration::from_secs(9));
    assert_eq!(held(&hold), ["a", "b", "c", "d"]);
}

#[test]
fn losses_further_apart_than_the_window_are_no_crowd() {
    let (mut hold, mut now) = (Hold::new(LIMIT), Instant::now());
    for (id, present) in [("a", 4), ("b", 3), ("c", 2), ("d", 1), ("e", 0)] {
        hold.take(vec![gone(id, now)], NONE, present, now);
        now += WINDOW / 2 + Duration::from_millis(1);
    }
    assert!(held(&hold).is_empty());
}

#[test]
fn two_of_two_workers_are_not_held() {
    let (mut hold, now) = (Hold::new(LIMIT), Instant::now());
    hold.take(crowd(&["a", "b"], now), NONE, 0, now);
    assert!(held(&hold).is_empty());
}

#[test]
fn without_a_time_to_hold_nobody_is_held() {
    let (mut hold, now) = (Hold::new(Duration::ZERO), Instant::now());
    hold.take(crowd(&["a", "b", "c"], now), NONE, 0, now);
    assert!(held(&hold).is_empty());
}

#[test]
fn a_hold_ends_when_all_are_back_and_those_that_come_back_are_let_go_at_once() {
    let (mut hold, now) = (Hold::new(LIMIT), Instant::now());
    hold.take(crowd(&["a", "b", "c"], now), NONE, 0, now);
    assert_eq!(hold.take(vec![], ["a", "b"].into_iter(), 2, now), None);
    assert_eq!(held(&hold), ["c"]);
    assert_eq!(hold.take(vec![], ["c"].into_iter(), 3, now), Some(Ended::Returned));
    assert!(hold.active().is_none());
}

#[test]
fn those_left_over_are_let_go_once_they_are_too_few_for_a_crowd_for_a_while() {
    let (mut hold, begin) = (Hold::new(LIMIT), Instant::now());
    hold.take(crowd(&["a", "b", "c", "d"], begin), NONE, 0, begin);
    let back = begin + Duration::from_secs(60);
    hold.take(vec![], ["a", "b"].into_iter(), 2, back);
    assert_eq!(hold.due(), Some(back + WINDOW));
    assert_eq!(hold.tick(back + WINDOW - Duration::from_millis(1)), None);
    assert_eq!(hold.tick(back + WINDOW), Some(Ended::Calm));
}

#[test]
fn a_person_ends_a_hold_and_the_same_losses_do_not_begin_another() {
    let (mut hold, now) = (Hold::new(LIMIT), Instant::now());
    hold.take(crowd(&["a", "b", "c"], now), NONE, 5, now);
    assert_eq!(hold.release(), 3);
    hold.take(crowd(&["d"], now), NONE, 4, now);
    assert!(hold.active().is_none());
}

#[test]
fn a_hold_that_an_earlier_process_began_ends_when_its_time_is_over_counted_from_its_beginning() {
    let (mut hold, now) = (Hold::new(LIMIT), Instant::now() + LIMIT);
    let workers = BTreeMap::from([("a".to_owned(), gone("a", now))]);
    hold.resume(workers, now - LIMIT / 2);
    assert_eq!(hold.tick(now), None);
    assert_eq!(hold.tick(now + LIMIT / 2), Some(Ended::TimeOver));
}

/// What happens to a fleet: seconds pass, some vanish, some come back, somebody lets go.
#[derive(Clone, Debug)]
enum Step {
    Pass(u8),
    Vanish(Vec<u8>),
    Return(Vec<u8>),
    Release,
}

fn step() -> impl Strategy<Value = Step> {
    let ids = || prop::collection::vec(0u8..12, 1..8);
    prop_oneof![
        4 => (0u8..15).prop_map(Step::Pass),
        4 => ids().prop_map(Step::Vanish),
        3 => ids().prop_map(Step::Return),
        1 => Just(Step::Release),
    ]
}

proptest! {
    /// Whoever is held is missing; whoever is missing in a hold and vanished since it began is held; and no hold outlasts
    /// its limit, whatever happens.
    #[test]
    fn only_the_missing_are_held_and_never_for_longer_than_the_limit(steps in prop::collection::vec(step(), 1..40)) {
        let limit = Duration::from_secs(30);
        let (mut hold, mut now) = (Hold::new(limit), Instant::now());
        let mut present: BTreeSet<String> = (0u8..12).map(|n| n.to_string()).collect();
        let mut since = None;
        for step in steps {
            match step {
                Step::Pass(seconds) => {
                    for _ in 0..seconds {
                        now += Duration::from_secs(1);
                        hold.tick(now);
                    }
                }
                Step::Vanish(ids) => {
                    let lost: BTreeSet<String> = ids.iter().map(u8::to_string).filter(|id| present.remove(id)).collect();
                    let lost: Vec<Gone> = lost.iter().map(|id| gone(id, now)).collect();
                    let names: Vec<String> = lost.iter().map(|gone| gone.worker.id.clone()).collect();
                    hold.take(lost, NONE, present.len(), now);
                    if let Some(active) = hold.active() {
                        prop_assert!(names.iter().all(|name| active.workers.contains_key(name)));
                    } else {
                        prop_assert!(!is_crowd(names.len(), present.len() + names.len()), "a crowd is held");
                    }
                }
                Step::Return(ids) => {
                    let back: Vec<String> = ids.iter().map(u8::to_string).collect();
                    present.extend(back.iter().cloned());
                    hold.take(vec![], back.iter().map(String::as_str), present.len(), now);
                }
                Step::Release => drop(hold.release()),
            }
            match hold.active() {
                Some(active) => {
                    prop_assert!(!active.workers.is_empty());
                    prop_assert!(active.workers.keys().all(|id| !present.contains(id)));
                    if since != Some(active.since) {
                        since = Some(active.since);
                    }
                    prop_assert!(now.duration_since(active.since) < limit);
                    prop_assert!(hold.due().is_some_and(|due| due > now));
                }
                None => since = None,
            }
        }
    }
}
