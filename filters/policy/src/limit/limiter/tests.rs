use std::cell::{Cell, RefCell};
use std::collections::HashMap;

use proptest::prelude::*;
use serde_json::{Value, json};

use super::*;
use crate::Policy;
use crate::config::parse;
use crate::limit::key::Subject;
use crate::limit::{Charges, Denied};

const SECOND: u64 = 1_000_000_000;
const ONE: Cost = Cost {
    requests: 1,
    tokens: 0,
    gpu_ms: 0,
};

/// A store in memory; another thread takes from its values just before a swap, so often.
#[derive(Default)]
struct Memory {
    values: RefCell<HashMap<String, (Vec<u8>, u32)>>,
    writes: Cell<u32>,
    rivals: RefCell<Vec<Rival>>,
}

type Rival = Box<dyn FnOnce(&Memory)>;

impl Memory {
    /// Before the next swap another thread does this.
    fn disturb(&self, rival: impl FnOnce(&Memory) + 'static) {
        self.rivals.borrow_mut().push(Box::new(rival));
    }

    fn len(&self) -> usize {
        self.values.borrow().len()
    }
}

impl Store for Memory {
    type Error = Infallible;

    fn read(&self, name: &str) -> Result<(Vec<u8>, u32), Infallible> {
        Ok(self
            .values
            .borrow()
            .get(name)
            .cloned()
            .unwrap_or((Vec::new(), u32::MAX)))
    }

    fn swap(&self, name: &str, value: &[u8], read: u32) -> Result<bool, Infallible> {
        let rival = self.rivals.borrow_mut().pop();
        if let Some(rival) = rival {
            rival(self);
        }
        let mut values = self.values.borrow_mut();
        let is_same = values.get(name).is_none_or(|(_, generation)| *generation == read);
        if is_same {
            self.writes.set(self.writes.get() + 1);
            values.insert(name.to_owned(), (value.to_vec(), self.writes.get()));
        }
        Ok(is_same)
    }
}

fn policy(specs: &[Value]) -> Policy {
    let documents: Vec<_> = specs
        .iter()
        .enumerate()
        .map(|(index, spec)| {
            let name = format!("limit-{index}");
            parse(&json!({"api_version": "kilocard/v1", "kind": "RateLimitPolicy", "metadata": {"name": name}, "spec": spec}))
                .unwrap()
        })
        .collect();
    Policy::compile("r", &documents).unwrap()
}

fn of_user(user: &str) -> Subject<'_> {
    Subject {
        user: Some(user.as_bytes()),
        ..Subject::default()
    }
}

fn at(now_ns: u64) -> Moment {
    Moment {
        now_ns,
        base_share: WHOLE,
    }
}

fn ask<'p>(store: &Memory, policy: &'p Policy, user: &str, tokens: u64, at: Moment) -> Outcome<'p> {
    let cost = Cost {
        requests: 1,
        tokens,
        gpu_ms: 0,
    };
    let charges = Charges::of(policy.rate_limits(), &of_user(user), cost, 5);
    let Ok(outcome) = admit(store, &charges.enforced, at);
    outcome
}

fn passes(store: &Memory, policy: &Policy, user: &str, now_ns: u64) -> bool {
    matches!(ask(store, policy, user, 0, at(now_ns)), Outcome::Admitted(_))
}

#[test]
fn all_limits_are_taken_or_none() {
    let policy = policy(&[
        json!({"by": ["user"], "limits": [{"unit": "requests", "rate": 1, "burst": 10}]}),
        json!({"limits": [{"unit": "requests", "rate": 1, "burst": 3}]}),
    ]);
    let store = Memory::default();
    let passed = (0..9).filter(|_| passes(&store, &policy, "a", SECOND)).count();
    assert_eq!(passed, 3);
    // Six requests met the second limit: none of them took from the first, which has seven left.
    let first = &policy.rate_limits()[..1];
    let charges = Charges::of(first, &of_user("a"), ONE, 5);
    let left = (0..20).filter(|_| matches!(admit(&store, &charges.enforced, at(SECOND)), Ok(Outcome::Admitted(_))));
    assert_eq!(left.count(), 7);
}

#[test]
fn limits_of_one_policy_are_taken_together() {
    let limits = json!([{"unit": "requests", "rate": 1, "burst": 10}, {"unit": "tokens", "rate": 1, "burst": 100}]);
    let policy = policy(&[json!({"by": ["user"], "limits": limits})]);
    let store = Memory::default();
    assert!(matches!(
        ask(&store, &policy, "a", 60, at(SECOND)),
        Outcome::Admitted(_)
    ));
    let Outcome::Refused(obstacle) = ask(&store, &policy, "a", 60, at(SECOND)) else {
        panic!("only 40 tokens are left")
    };
    assert_eq!((obstacle.limit, obstacle.remaining), (1, 40));
    let passed = (0..20).filter(|_| matches!(ask(&store, &policy, "a", 0, at(SECOND)), Outcome::Admitted(_)));
    assert_eq!(passed.count(), 9);
}

#[test]
fn a_look_tells_what_is_left_and_takes_nothing() {
    let limits = json!([{"unit": "requests", "rate": 1, "burst": 10}, {"unit": "tokens", "rate": 10, "burst": 100}]);
    let policy = policy(&[json!({"by": ["user"], "limits": limits})]);
    let store = Memory::default();
    assert!(matches!(
        ask(&store, &policy, "a", 60, at(SECOND)),
        Outcome::Admitted(_)
    ));
    let charges = Charges::of(policy.rate_limits(), &of_user("a"), ONE, 5);
    let seen = || {
        let Ok(left) = look(&store, &charges.enforced[0], at(SECOND));
        left.iter()
            .map(|left| (left.remaining, left.full_in_ns))
            .collect::<Vec<_>>()
    };
    assert_eq!(seen(), [(9, SECOND), (40, 6 * SECOND)]);
    assert_eq!(seen(), [(9, SECOND), (40, 6 * SECOND)]);
}

#[test]
fn what_can_never_pass_is_told_from_what_has_to_wait() {
    let policy = policy(&[
        json!({"limits": [{"unit": "tokens", "rate": 10, "burst": 100}]}),
        json!({"limits": [{"unit": "requests", "rate": 1, "per": "day", "burst": 1}]}),
    ]);
    let store = Memory::default();
    assert!(passes(&store, &policy, "a", SECOND));
    let Outcome::Refused(obstacle) = ask(&store, &policy, "a", 1_000_000_000_000, at(SECOND)) else {
        panic!("it is more than the burst")
    };
    assert_eq!(obstacle.denied, Denied::Never);
}

#[test]
fn another_thread_between_read_and_swap_is_noticed_and_what_was_taken_is_given_back() {
    let specs = [
        json!({"by": ["user"], "limits": [{"unit": "requests", "rate": 1, "burst": 10}]}),
        json!({"limits": [{"unit": "requests", "rate": 1, "burst": 1}]}),
    ];
    let policies = policy(&specs);
    let store = Memory::default();
    // Before the second swap (the stack is popped from its end) the other thread takes the last cell of the second limit.
    let rival = policy(&specs);
    store.disturb(move |store| assert!(passes(store, &rival, "b", SECOND)));
    store.disturb(|_| {});
    assert!(!passes(&store, &policies, "a", SECOND));
    let first = &policies.rate_limits()[..1];
    let charges = Charges::of(first, &of_user("a"), ONE, 5);
    let left = (0..20).filter(|_| matches!(admit(&store, &charges.enforced, at(SECOND)), Ok(Outcome::Admitted(_))));
    assert_eq!(left.count(), 10);
}

#[test]
fn two_threads_that_both_find_nothing_do_not_both_take_the_first_cell() {
    let spec = [json!({"limits": [{"unit": "requests", "rate": 1, "per": "hour", "burst": 1}]})];
    let policies = policy(&spec);
    let store = Memory::default();
    let rival = policy(&spec);
    store.disturb(move |store| assert!(passes(store, &rival, "b", SECOND)));
    assert!(!passes(&store, &policies, "a", SECOND));
}

#[test]
fn a_million_users_share_what_there_is_room_for() {
    let policy = policy(&[json!({
        "by": ["user"], "max_keys": 64, "limits": [{"unit": "requests", "rate": 1, "per": "hour", "burst": 2}],
    })]);
    let store = Memory::default();
    let passed = (0..20_000)
        .filter(|user| passes(&store, &policy, &user.to_string(), SECOND))
        .count();
    // Sets of 16 for 8 of 64 keys each; each takes one cell of its own, the others share the two of the overflow key.
    assert_eq!(passed, 64 / 8 * 16 + 2);
    assert_eq!(store.len(), 64 / 8 + 1);
    // An hour later all buckets are full again, and so there is room.
    assert!(passes(&store, &policy, "somebody else", SECOND + 3600 * SECOND));
}

#[test]
fn a_proxy_has_its_share_of_a_limit_of_the_mesh_and_a_lease_goes_before_it() {
    let policy = policy(&[json!({
        "scope": "mesh", "by": ["user"], "limits": [{"unit": "requests", "rate": 100, "burst": 100}],
    })]);
    let store = Memory::default();
    let moment = Moment {
        now_ns: SECOND,
        base_share: WHOLE / 4,
    };
    let count = |moment: Moment, user: &str| {
        (0..200)
            .filter(|_| matches!(ask(&store, &policy, user, 0, moment), Outcome::Admitted(_)))
            .count()
    };
    assert_eq!(count(moment, "a"), 25);
    let table = &policy.rate_limits()[0];
    let key = crate::limit::Fingerprint::of(&of_user("b"), table.by(), 5);
    let lease = Lease {
        share: WHOLE / 2,
        until_ns: 2 * SECOND,
        binds_until_ns: 3 * SECOND,
    };
    assert_eq!(grant(&store, table, key, lease, SECOND), Ok(true));
    assert_eq!(count(moment, "b"), 50);
    assert_eq!(
        count(
            Moment {
                base_share: 0,
                ..moment
            },
            "c"
        ),
        0
    );
}

#[test]
fn what_was_not_used_comes_back_and_what_was_used_beyond_is_owed() {
    let policy = policy(&[json!({"limits": [{"unit": "tokens", "rate": 10, "burst": 100}]})]);
    let store = Memory::default();
    let taken = Cost {
        requests: 1,
        tokens: 80,
        gpu_ms: 0,
    };
    let charges = Charges::of(policy.rate_limits(), &of_user("a"), taken, 5).enforced;
    assert!(matches!(admit(&store, &charges, at(SECOND)), Ok(Outcome::Admitted(_))));
    let used = Cost {
        requests: 1,
        tokens: 30,
        gpu_ms: 0,
    };
    let Ok(()) = settle(
        &store,
        (&charges[0], Receipt::default()),
        Settlement::between(taken, used),
        at(SECOND),
    );
    assert!(matches!(ask(&store, &policy, "a", 71, at(SECOND)), Outcome::Refused(_)));
    assert!(matches!(
        ask(&store, &policy, "a", 70, at(SECOND)),
        Outcome::Admitted(_)
    ));
    let overrun = Cost {
        requests: 1,
        tokens: 1000,
        gpu_ms: 0,
    };
    let Ok(()) = settle(
        &store,
        (&charges[0], Receipt::default()),
        Settlement::between(ONE, overrun),
        at(SECOND),
    );
    // 1100 tokens at 10 a second.
    let Outcome::Refused(obstacle) = ask(&store, &policy, "a", 1, at(SECOND)) else {
        panic!("the key is in debt")
    };
    assert_eq!(obstacle.full_in_ns, 110 * SECOND);
}

#[test]
fn what_was_taken_from_the_overflow_key_and_nothing_else_is_given_back_to_it() {
    let policy =
        policy(&[json!({"by": ["user"], "max_keys": 8, "limits": [{"unit": "requests", "rate": 1, "burst": 10}]})]);
    let store = Memory::default();
    let ask_ten = |user: usize| {
        let user = user.to_string();
        let subject = Subject {
            user: Some(user.as_bytes()),
            ..Subject::default()
        };
        let cost = Cost { requests: 10, ..ONE };
        let charges = Charges::of(policy.rate_limits(), &subject, cost, 7).enforced;
        let Ok(outcome) = admit(&store, &charges, at(SECOND));
        (charges, outcome)
    };
    // Until there is no room, and the overflow key is used up too.
    let mut own = Vec::new();
    for user in 0..200 {
        match ask_ten(user) {
            (charges, Outcome::Admitted(receipts)) if !receipts[0].is_overflow => own.push((charges, receipts[0])),
            _ => {}
        }
    }
    assert!(
        matches!(ask_ten(300).1, Outcome::Refused(_)),
        "the overflow key has something left"
    );
    // Ten seconds later their buckets are full, and others have taken their places.
    let later = at(12 * SECOND);
    for user in 1000..1200 {
        let user = user.to_string();
        let _ = ask(&store, &policy, &user, 0, later);
    }
    while let Outcome::Admitted(_) = ask(&store, &policy, "stranger", 0, later) {}
    for (charges, receipt) in &own {
        let refund = Settlement::refund(charges[0].cost);
        let Ok(()) = settle(&store, (&charges[0], *receipt), refund, later);
    }
    assert!(
        matches!(ask(&store, &policy, "stranger", 0, later), Outcome::Refused(_)),
        "a free pass"
    );
}

#[test]
fn a_settlement_under_earlier_numbers_changes_nothing_under_the_new_ones() {
    let limits = |burst: u32| json!({"limits": [{"unit": "requests", "rate": 1, "per": "hour", "burst": burst}]});
    let two = json!({"limits": [{"unit": "requests", "rate": 1, "per": "hour", "burst": 3}, {"unit": "tokens", "rate": 1, "burst": 9}]});
    let (old, new, more) = (policy(&[limits(100)]), policy(&[limits(3)]), policy(&[two]));
    for new in [new, more] {
        let store = Memory::default();
        let charges = Charges::of(old.rate_limits(), &Subject::default(), ONE, 7).enforced;
        let Ok(Outcome::Admitted(receipts)) = admit(&store, &charges, at(SECOND)) else {
            panic!("the first one passes");
        };
        let passed = (0..10).filter(|_| {
            let overrun = Settlement::between(ONE, Cost { requests: 2, ..ONE });
            let Ok(()) = settle(&store, (&charges[0], receipts[0]), overrun, at(SECOND));
            let Ok(()) = settle(&store, (&charges[0], receipts[0]), Settlement::refund(ONE), at(SECOND));
            matches!(ask(&store, &new, "a", 0, at(SECOND)), Outcome::Admitted(_))
        });
        assert_eq!(passed.count(), 3);
    }
}

#[test]
fn what_is_given_back_is_what_was_taken_though_the_share_has_moved() {
    let policy = policy(&[json!({"scope": "mesh", "limits": [{"unit": "tokens", "rate": 1000, "burst": 1000}]})]);
    let store = Memory::default();
    let cost = Cost { tokens: 1000, ..ONE };
    let charges = Charges::of(policy.rate_limits(), &Subject::default(), cost, 7).enforced;
    let small = Moment {
        base_share: 10_000,
        ..at(SECOND)
    };
    let Ok(Outcome::Admitted(receipts)) = admit(&store, &charges, small) else {
        panic!("a full bucket is enough");
    };
    let whole = at(SECOND);
    let Ok(()) = settle(&store, (&charges[0], receipts[0]), Settlement::refund(cost), whole);
    assert!(
        matches!(admit(&store, &charges, whole), Ok(Outcome::Admitted(_))),
        "the bucket is not full again"
    );
}

proptest! {
    /// The law, over any number of keys, with a table that is too small for them: each key, and the overflow key, within
    /// its own limit.
    #[test]
    fn no_key_gets_more_than_its_limit(
        asks in prop::collection::vec((0_usize..40, 0_u64..200_000_000), 1..300),
        rate in 1_u64..50,
        burst in 1_u64..5,
    ) {
        let policy = policy(&[json!({
            "by": ["user"], "max_keys": 8, "limits": [{"unit": "requests", "rate": rate, "burst": burst}],
        })]);
        let store = Memory::default();
        let (mut now, mut passed) = (0, HashMap::<_, Vec<u64>>::new());
        for (user, gap) in asks {
            now += gap;
            if let Outcome::Admitted(receipts) = ask(&store, &policy, &user.to_string(), 0, at(now)) {
                let key = if receipts[0].is_overflow { None } else { Some(user) };
                passed.entry(key).or_default().push(now);
            }
        }
        for times in passed.values() {
            for (first, start) in times.iter().enumerate() {
                for (last, end) in times.iter().enumerate().skip(first) {
                    let most = rate * (end - start) / SECOND + burst;
                    prop_assert!((last - first) as u64 <= most);
                }
            }
        }
    }
}
