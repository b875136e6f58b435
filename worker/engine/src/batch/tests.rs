use super::*;
use proptest::prelude::*;
use std::{collections::BTreeSet, time::Duration};

const BUDGET: Budget = Budget {
    padded_tokens: 100,
    rows: 4,
};

fn entry(tokens: usize, payload: u32) -> Entry<u32> {
    Entry {
        tokens,
        deadline: None,
        payload,
    }
}

fn push(queue: &mut Queue<u32>, entries: Vec<Entry<u32>>) -> Result<(), Refused> {
    queue.reserve(entries.len())?;
    queue.fill(entries);
    Ok(())
}

fn payloads(entries: &[Entry<u32>]) -> Vec<u32> {
    entries.iter().map(|entry| entry.payload).collect()
}

#[test]
fn an_idle_backend_gets_all_that_is_queued() {
    let mut queue = Queue::new(10);
    push(&mut queue, vec![entry(5, 1), entry(25, 2), entry(10, 3)]).unwrap();
    assert_eq!(
        payloads(&queue.take(BUDGET, Instant::now(), |_| false).batch),
        [1, 2, 3]
    );
    assert!(queue.is_empty());
}

#[test]
fn padding_counts_against_the_budget() {
    let mut queue = Queue::new(10);
    // 10 + 10 + 40 tokens would fit into 100; padded to three rows of 40 they do not.
    push(&mut queue, vec![entry(10, 1), entry(10, 2), entry(40, 3)]).unwrap();
    assert_eq!(payloads(&queue.take(BUDGET, Instant::now(), |_| false).batch), [1, 2]);
    assert_eq!(payloads(&queue.take(BUDGET, Instant::now(), |_| false).batch), [3]);
}

#[test]
fn a_sequence_over_the_budget_goes_alone() {
    let mut queue = Queue::new(10);
    push(&mut queue, vec![entry(500, 1), entry(1, 2)]).unwrap();
    assert_eq!(payloads(&queue.take(BUDGET, Instant::now(), |_| false).batch), [1]);
    assert_eq!(payloads(&queue.take(BUDGET, Instant::now(), |_| false).batch), [2]);
}

#[test]
fn a_request_that_does_not_fit_leaves_nothing_behind() {
    let mut queue = Queue::new(2);
    push(&mut queue, vec![entry(1, 1)]).unwrap();
    let refused = push(&mut queue, vec![entry(1, 2), entry(1, 3)]).unwrap_err();
    assert_eq!(
        refused,
        Refused::Overloaded {
            taken: 1,
            capacity: 2,
            asked: 2
        }
    );
    assert_eq!(queue.len(), 1);
}

#[test]
fn reserved_places_are_taken_until_they_are_given_back() {
    let mut queue: Queue<u32> = Queue::new(4);
    queue.reserve(3).unwrap();
    let refused = queue.reserve(2).unwrap_err();
    assert_eq!(
        refused,
        Refused::Overloaded {
            taken: 3,
            capacity: 4,
            asked: 2
        }
    );
    queue.release(3);
    queue.reserve(4).unwrap();
    queue.fill(vec![entry(1, 1); 4]);
    assert!(queue.reserve(1).is_err());
    queue.take(BUDGET, Instant::now(), |_| false);
    queue.reserve(4).unwrap();
}

#[test]
fn what_can_never_fit_is_told_apart_from_overload() {
    let refused = Queue::<u32>::new(2).reserve(3).unwrap_err();
    assert_eq!(refused, Refused::TooLarge { capacity: 2, asked: 3 });
}

#[test]
fn who_left_and_who_is_too_late_is_not_computed() {
    let now = Instant::now();
    let mut queue = Queue::new(10);
    let late = Entry {
        deadline: Some(now),
        ..entry(90, 2)
    };
    let in_time = Entry {
        deadline: Some(now + Duration::from_millis(1)),
        ..entry(20, 4)
    };
    push(&mut queue, vec![entry(20, 1), late, entry(90, 3), in_time]).unwrap();
    let taken = queue.take(BUDGET, now, |&payload| payload == 3);
    assert_eq!(payloads(&taken.batch), [1, 4]);
    assert_eq!(payloads(&taken.expired), [2]);
    assert_eq!(payloads(&taken.abandoned), [3]);
}

#[derive(Clone, Debug)]
enum Step {
    Push(Vec<(usize, u64)>),
    Take {
        at_ms: u64,
        padded_tokens: usize,
        rows: usize,
    },
}

fn step() -> impl Strategy<Value = Step> {
    prop_oneof![
        prop::collection::vec((1_usize..300, 0_u64..100), 0..6).prop_map(Step::Push),
        (0_u64..100, 1_usize..1000, 1_usize..8).prop_map(|(at_ms, padded_tokens, rows)| Step::Take {
            at_ms,
            padded_tokens,
            rows
        }),
    ]
}

proptest! {
    /// Whatever is pushed and taken: nothing is lost, nothing comes twice, order is kept, every batch is within its
    /// budget and no batch is smaller than it had to be.
    #[test]
    fn every_entry_comes_out_once_and_in_order(steps in prop::collection::vec(step(), 1..40)) {
        let start = Instant::now();
        let at = |ms| start + Duration::from_millis(ms);
        let is_abandoned = |payload: &u32| payload % 7 == 3;
        let mut queue = Queue::new(16);
        let (mut accepted, mut computed, mut out) = (0_u32, Vec::new(), BTreeSet::new());

        for step in steps {
            match step {
                Step::Push(sequences) => {
                    let before = queue.len();
                    let entries: Vec<_> = (accepted..).zip(&sequences).map(|(payload, &(tokens, deadline))| Entry {
                        tokens, payload, deadline: (deadline > 0).then(|| at(deadline)),
                    }).collect();
                    if push(&mut queue, entries).is_ok() {
                        accepted += sequences.len() as u32;
                        prop_assert_eq!(queue.len(), before + sequences.len());
                    } else {
                        prop_assert!(before + sequences.len() > 16);
                        prop_assert_eq!(queue.len(), before);
                    }
                }
                Step::Take { at_ms, padded_tokens, rows } => {
                    let before = queue.len();
                    let budget = Budget { padded_tokens, rows };
                    let taken = queue.take(budget, at(at_ms), is_abandoned);
                    prop_assert_eq!(before > 0 && queue.len() == before, false, "a take makes progress");
                    let cost = |batch: &[Entry<u32>]| batch.iter().map(|e| e.tokens).max().unwrap_or(0) * batch.len();
                    prop_assert!(taken.batch.len() <= 1 || (cost(&taken.batch) <= padded_tokens && taken.batch.len() <= rows));
                    if let Some(next) = queue.entries.front() && !taken.batch.is_empty() {
                        let mut grown = taken.batch.clone();
                        grown.push(next.clone());
                        prop_assert!(grown.len() > rows || cost(&grown) > padded_tokens, "the next one would have fitted");
                    }
                    prop_assert!(taken.batch.iter().all(|e| !is_abandoned(&e.payload) && e.deadline.is_none_or(|d| d > at(at_ms))));
                    prop_assert!(taken.abandoned.iter().all(|e| is_abandoned(&e.payload)));
                    prop_assert!(taken.expired.iter().all(|e| e.deadline.is_some_and(|d| d <= at(at_ms))));
                    computed.extend(payloads(&taken.batch));
                    for entry in taken.batch.iter().chain(&taken.expired).chain(&taken.abandoned) {
                        prop_assert!(out.insert(entry.payload), "{} came twice", entry.payload);
                    }
                }
            }
        }
        out.extend(queue.entries.iter().map(|entry| entry.payload));
        prop_assert_eq!(out, (0..accepted).collect::<BTreeSet<_>>());
        prop_assert!(computed.is_sorted());
    }
}
