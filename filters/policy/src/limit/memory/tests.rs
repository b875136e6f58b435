use proptest::prelude::*;

use super::*;

const SECOND: u64 = 1_000_000_000;
const TERMS: Terms = Terms {
    stale: Duration::from_secs(1),
    margins: [0, 10, 20],
    floor: 5,
};

fn memory(free: u64, measured_ns: u64) -> Memory {
    let mut memory = Memory::default();
    memory.set_headroom(Headroom {
        capacity: 1000,
        free,
        largest_free: free,
        endpoints: 1,
        measured_ns,
    });
    memory
}

fn claim(bytes: u64, priority: Priority) -> Claim {
    Claim {
        holder: 1,
        bytes,
        spread: 0,
        priority,
        tenant: 1,
    }
}

const WHOLE: u32 = 1_000_000;

#[test]
fn what_was_reserved_since_the_report_is_taken_off_until_the_next_report_has_it() {
    let mut memory = memory(300, 10 * SECOND);
    let ask = claim(200, Priority::P0);
    assert_eq!(memory.reserve(&ask, &TERMS, WHOLE, 10 * SECOND), Ok(()));
    assert_eq!(
        memory.reserve(&ask, &TERMS, WHOLE, 10 * SECOND + 1),
        Err(Shortage::Full)
    );
    // The next report, made after the request had reached the worker: 100 are free, and 200 more once it has ended.
    memory.set_headroom(Headroom {
        capacity: 1000,
        free: 100,
        largest_free: 100,
        endpoints: 1,
        measured_ns: 11 * SECOND,
    });
    let now = 11 * SECOND + SECOND / 2;
    assert_eq!(memory.reserve(&claim(100, Priority::P0), &TERMS, WHOLE, now), Ok(()));
    memory.release(&ask, now);
    assert_eq!(
        memory.reserve(&claim(200, Priority::P0), &TERMS, WHOLE, now),
        Err(Shortage::TooLarge)
    );
    assert_eq!(memory.reserve(&claim(100, Priority::P0), &TERMS, WHOLE, now), Ok(()));
}

#[test]
fn what_runs_and_has_not_grown_yet_keeps_what_was_reserved_for_it() {
    let mut memory = memory(800, SECOND);
    // 200 of the 1000 are the model's.
    for _ in 0..4 {
        memory
            .reserve(&claim(150, Priority::P0), &TERMS, WHOLE, SECOND)
            .unwrap();
    }
    // The next report shows that only 100 of those 600 have been taken so far.
    memory.set_headroom(Headroom {
        capacity: 1000,
        free: 700,
        largest_free: 700,
        endpoints: 1,
        measured_ns: 3 * SECOND,
    });
    assert_eq!(
        memory.reserve(&claim(201, Priority::P0), &TERMS, WHOLE, 3 * SECOND),
        Err(Shortage::Full)
    );
    assert_eq!(
        memory.reserve(&claim(200, Priority::P0), &TERMS, WHOLE, 3 * SECOND),
        Ok(())
    );
}

#[test]
fn an_old_report_lets_nothing_more_in() {
    let mut memory = memory(1000, 10 * SECOND);
    let ask = claim(1, Priority::P0);
    assert_eq!(
        memory.reserve(&ask, &TERMS, WHOLE, 11 * SECOND + 1),
        Err(Shortage::Stale)
    );
    assert_eq!(Memory::default().reserve(&ask, &TERMS, WHOLE, 5), Err(Shortage::Stale));
}

#[test]
fn the_less_urgent_leave_room_for_the_more_urgent() {
    let mut memory = memory(1000, SECOND);
    let fill = |memory: &mut Memory, priority| {
        (0..2000)
            .take_while(|_| memory.reserve(&claim(1, priority), &TERMS, WHOLE, SECOND) == Ok(()))
            .count()
    };
    assert_eq!(fill(&mut memory, Priority::P2), 800);
    assert_eq!(fill(&mut memory, Priority::P1), 100);
    assert_eq!(fill(&mut memory, Priority::P0), 100);
}

#[test]
fn no_class_starves_while_there_is_memory() {
    let mut memory = memory(1000, SECOND);
    // P0 has had all so far, and fills what P2 must leave.
    for _ in 0..900 {
        memory.reserve(&claim(1, Priority::P0), &TERMS, WHOLE, SECOND).unwrap();
    }
    let passed = (0..100)
        .take_while(|_| memory.reserve(&claim(1, Priority::P2), &TERMS, WHOLE, SECOND).is_ok())
        .count();
    // Five percent of all that was admitted.
    assert_eq!(passed, 48);
}

#[test]
fn a_tenant_with_its_part_waits_for_others_when_little_is_left() {
    let mut memory = memory(1000, SECOND);
    let of = |tenant, bytes| Claim {
        tenant,
        ..claim(bytes, Priority::P0)
    };
    assert_eq!(memory.reserve(&of(1, 700), &TERMS, WHOLE, SECOND), Ok(()));
    assert_eq!(memory.reserve(&of(2, 60), &TERMS, WHOLE, SECOND), Ok(()));
    assert_eq!(memory.reserve(&of(1, 10), &TERMS, WHOLE, SECOND), Err(Shortage::Unfair));
    assert_eq!(memory.reserve(&of(2, 100), &TERMS, WHOLE, SECOND), Ok(()));
}

#[test]
fn a_thread_that_is_gone_gives_back_what_it_held() {
    let mut memory = memory(1000, SECOND);
    memory
        .reserve(&claim(900, Priority::P0), &TERMS, WHOLE, SECOND)
        .unwrap();
    memory.touch(1, 3 * SECOND);
    // Other threads go on.
    (1..=8).for_each(|second| memory.advance(second * SECOND));
    assert_eq!(memory.reserved(), 900);
    memory.advance(8 * SECOND + 1);
    assert_eq!(memory.reserved(), 0);
}

#[test]
fn a_proxy_has_its_share_of_what_is_free() {
    let mut memory = memory(1000, SECOND);
    let passed = (0..2000).take_while(|_| {
        memory
            .reserve(&claim(1, Priority::P0), &TERMS, WHOLE / 4, SECOND)
            .is_ok()
    });
    assert_eq!(passed.count(), 250);
}

#[test]
fn more_than_there_is_can_never_be_had() {
    let ask = claim(u64::MAX, Priority::P0);
    assert_eq!(
        memory(1000, SECOND).reserve(&ask, &TERMS, WHOLE, SECOND),
        Err(Shortage::Never)
    );
}

#[test]
fn many_requests_are_held_with_less_each_than_one() {
    let ask = Claim {
        spread: 40,
        ..claim(10, Priority::P0)
    };
    let passed = |endpoints| {
        let mut memory = memory(1000, SECOND);
        memory.set_headroom(Headroom {
            endpoints,
            ..memory.headroom()
        });
        let passed = (0..1000).take_while(|_| memory.reserve(&ask, &TERMS, WHOLE, SECOND).is_ok());
        let passed = passed.count();
        (passed, memory.reserved())
    };
    // 10 n + 40 sqrt(n) <= 1000; one by one there would be room for 20.
    assert_eq!(passed(1), (67, 998));
    // On four endpoints each has a quarter of them to even out: 10 n + 80 sqrt(n) <= 1000.
    assert_eq!(passed(4), (45, 987));
    // One alone needs all of it.
    let mut memory = memory(49, SECOND);
    assert_eq!(memory.reserve(&ask, &TERMS, WHOLE, SECOND), Err(Shortage::Full));
}

#[test]
fn a_request_that_takes_more_than_was_expected_leaves_less_for_the_next() {
    let mut memory = memory(1000, SECOND);
    let mut ask = claim(100, Priority::P0);
    memory.reserve(&ask, &TERMS, WHOLE, SECOND).unwrap();
    memory.grow(&mut ask, 950, SECOND);
    assert_eq!(memory.reserved(), 950);
    memory.grow(&mut ask, 900, SECOND);
    assert_eq!(
        memory.reserve(&claim(51, Priority::P0), &TERMS, WHOLE, SECOND),
        Err(Shortage::Full)
    );
    memory.release(&ask, SECOND);
    assert_eq!(memory.reserved(), 0);
}

#[test]
fn a_proxy_that_stood_still_knows_again_what_it_held() {
    let mut memory = memory(1000, SECOND);
    let ask = claim(900, Priority::P0);
    memory.reserve(&ask, &TERMS, WHOLE, SECOND).unwrap();
    // Seven seconds in which no thread ran.
    let now = 8 * SECOND;
    memory.set_headroom(Headroom {
        measured_ns: now,
        ..memory.headroom()
    });
    assert_eq!(memory.reserve(&ask, &TERMS, WHOLE, now), Err(Shortage::Full));
    assert_eq!(memory.reserved(), 900);
}

#[test]
fn a_stream_that_claims_the_world_holds_all_that_there_is_and_gives_it_back() {
    let mut memory = memory(1000, SECOND);
    let (other, mut ask) = (claim(100, Priority::P0), claim(100, Priority::P0));
    memory.reserve(&other, &TERMS, WHOLE, SECOND).unwrap();
    memory.reserve(&ask, &TERMS, WHOLE, SECOND).unwrap();
    memory.grow(&mut ask, u64::MAX, SECOND);
    assert_eq!(memory.reserved(), 1100);
    memory.release(&ask, SECOND);
    assert_eq!(memory.reserved(), 100);
}

#[test]
fn what_can_never_be_had_is_no_demand() {
    let mut memory = memory(1000, SECOND);
    let _ = memory.reserve(&claim(5000, Priority::P0), &TERMS, WHOLE, SECOND);
    assert_eq!(memory.take_demand(), 0);
}

#[test]
fn without_an_endpoint_nobody_knows_what_there_is() {
    let mut memory = memory(1000, SECOND);
    memory.set_headroom(Headroom {
        endpoints: 0,
        capacity: 0,
        ..memory.headroom()
    });
    assert_eq!(
        memory.reserve(&claim(1, Priority::P0), &TERMS, WHOLE, SECOND),
        Err(Shortage::Stale)
    );
}

proptest! {
    /// The law: what is reserved, net, since a report, is within what it said was free.
    #[test]
    fn no_more_is_reserved_than_was_free(
        steps in prop::collection::vec((0_u64..400, 0_u64..200, 0_u8..3, any::<bool>(), 0_u64..20_000_000), 1..200),
        free in 0_u64..1000,
        endpoints in 1_u64..5,
        share in 0_u32..=WHOLE,
    ) {
        let (mut memory, mut held, mut now) = (memory(free, SECOND), Vec::<Claim>::new(), SECOND);
        memory.set_headroom(Headroom { endpoints, ..memory.headroom() });
        for (bytes, spread, class, gives_back, gap) in steps {
            now += gap;
            let ask = Claim { spread, ..claim(bytes, Priority::ALL[usize::from(class)]) };
            if gives_back && !held.is_empty() {
                memory.release(&held.remove(0), now);
            } else if memory.reserve(&ask, &TERMS, share, now).is_ok() {
                held.push(ask);
            }
            let squares: f64 = held.iter().map(|claim| (claim.spread as f64).powi(2)).sum();
            let above = (squares * endpoints.max(1) as f64).sqrt().ceil() as u64;
            let reserved = held.iter().map(|claim| claim.bytes).sum::<u64>() + above;
            prop_assert_eq!(memory.reserved(), reserved);
            prop_assert!(u128::from(reserved) <= u128::from(free) * u128::from(share) / 1_000_000);
            prop_assert_eq!(&Memory::from_bytes(&memory.to_bytes()), &memory);
        }
    }

    #[test]
    fn no_bytes_are_too_strange(bytes: Vec<u8>, now: u64, amount: u64, share: u32) {
        let mut memory = Memory::from_bytes(&bytes);
        let _ = memory.reserve(&claim(amount, Priority::P1), &TERMS, share, now);
        memory.release(&claim(amount, Priority::P1), now);
    }
}
