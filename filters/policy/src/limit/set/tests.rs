use proptest::prelude::*;

use super::*;
use crate::config::KeyPart;
use crate::limit::key::Subject;

const LAYOUT: Layout = Layout {
    ways: 4,
    limits: 2,
    generation: 9,
};

const LEASE: Lease = Lease {
    share: 7,
    until_ns: 90,
    binds_until_ns: 100,
};

fn key(user: &str) -> Fingerprint {
    let subject = Subject {
        user: Some(user.as_bytes()),
        ..Subject::default()
    };
    Fingerprint::of(&subject, &[KeyPart::User], 3)
}

fn occupied(users: usize, until_ns: u64) -> Set {
    let mut set = Set::new(Vec::new(), LAYOUT);
    for user in 0..users {
        let mut entry = set.entry(key(&user.to_string()), 0).unwrap();
        entry.set_tat(1, Tat::at_ns(until_ns));
    }
    set
}

#[test]
fn a_key_is_found_again_with_its_state() {
    let set = occupied(3, 500);
    let mut read = Set::new(set.as_bytes().to_vec(), LAYOUT);
    let entry = read.entry(key("1"), 100).unwrap();
    assert_eq!(entry.tats().collect::<Vec<_>>(), [Tat::default(), Tat::at_ns(500)]);
}

#[test]
fn a_full_set_takes_no_key_until_a_bucket_is_full() {
    let mut set = occupied(4, 500);
    assert_eq!(set.find(key("new"), 499), Place::Full);
    assert!(set.entry(key("new"), 499).is_none());
    assert!(matches!(set.find(key("new"), 500), Place::Free(_)));
    assert!(
        set.entry(key("new"), 500)
            .unwrap()
            .tats()
            .all(|tat| tat == Tat::default())
    );
}

#[test]
fn a_lease_keeps_its_entry_while_it_binds() {
    let mut set = occupied(4, 10);
    for user in 0..4 {
        set.entry(key(&user.to_string()), 0).unwrap().set_lease(LEASE);
    }
    assert_eq!(set.find(key("new"), 99), Place::Full);
    assert_eq!(set.entry(key("2"), 99).unwrap().lease(), LEASE);
    assert!(matches!(set.find(key("new"), 100), Place::Free(_)));
}

#[test]
fn a_lease_raises_for_a_shorter_time_than_it_lowers() {
    let shares = |base: u32| [89, 90, 99, 100].map(|now| LEASE.share_at(now, base));
    assert_eq!(shares(5), [7, 5, 5, 5]);
    assert_eq!(shares(9), [7, 7, 7, 9]);
}

#[test]
fn limits_with_other_numbers_begin_anew_and_leases_stay() {
    let mut set = occupied(4, 500);
    set.entry(key("0"), 0).unwrap().set_lease(LEASE);
    let layout = Layout {
        generation: 10,
        ..LAYOUT
    };
    let mut set = Set::new(set.as_bytes().to_vec(), layout);
    let entry = set.entry(key("0"), 1).unwrap();
    assert_eq!(entry.lease(), LEASE);
    assert!(entry.tats().all(|tat| tat == Tat::default()));
    assert!(matches!(set.find(key("new"), 1), Place::Free(_)));
}

#[test]
fn another_number_of_limits_begins_anew_and_leases_stay() {
    let lease = Lease {
        share: 5,
        until_ns: 10,
        binds_until_ns: 20,
    };
    let mut set = Set::new(Vec::new(), LAYOUT);
    let mut entry = set.entry(key("0"), 0).unwrap();
    entry.set_tat(0, Tat::at_ns(99));
    entry.set_lease(lease);
    let layout = Layout {
        limits: LAYOUT.limits + 1,
        ..LAYOUT
    };
    let mut set = Set::new(set.as_bytes().to_vec(), layout);
    assert_eq!(set.counts(key("0")), Some(false));
    let entry = set.entry(key("0"), 0).unwrap();
    assert_eq!(entry.lease(), lease);
    assert!(entry.tats().all(|tat| tat.is_past(0)));
    // What cannot be a set is none.
    assert_eq!(Set::new(vec![7; 33], layout).find(key("0"), 0), Place::Free(0));
}

proptest! {
    #[test]
    fn no_bytes_are_too_strange(bytes: Vec<u8>, ways in 0_usize..9, limits in 0_usize..4, now: u64) {
        let layout = Layout { ways, limits, generation: 1 };
        let mut set = Set::new(bytes, layout);
        if let Some(mut entry) = set.entry(key("a"), now) {
            entry.set_tat(limits, Tat::at_ns(now));
            let _ = entry.lease().share_at(now, 5);
        }
    }
}
