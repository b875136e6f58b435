use std::num::NonZeroU32;
use std::time::Duration;

use governor::clock::FakeRelativeClock;
use governor::{Quota, RateLimiter};
use proptest::prelude::*;

use super::*;

const SECOND: u64 = 1_000_000_000;

/// When cells were admitted of those that ask at these times.
fn admitted(limit: Share, times: impl Iterator<Item = u64>) -> Vec<u64> {
    let mut tat = Tat::default();
    let mut admitted = Vec::new();
    for now in times {
        if let Ok(next) = limit.take(tat, now, 1) {
            tat = next;
            admitted.push(now);
        }
    }
    admitted
}

#[test]
fn a_flood_is_cut_to_the_rate_and_the_burst_to_the_cell() {
    let limit = Gcra::new(1000, SECOND, 50).share(WHOLE);
    let passed = admitted(limit, (0..50_000).map(|at| at * 100_000));
    // Five seconds, the last arrival 0.1 ms before their end.
    assert_eq!(passed.len(), 50 + 4999);
}

#[test]
fn a_million_million_a_second_is_exact_to_a_millionth() {
    let rate = 1_000_000_000_000;
    let limit = Gcra::new(rate, SECOND, rate).share(WHOLE);
    let tat = limit.take(Tat::default(), SECOND, rate).unwrap();
    let full = limit.full_in_ns(tat, SECOND);
    assert!((SECOND..SECOND + 1000).contains(&full), "{full}");
    assert_eq!(limit.remaining(tat, SECOND), 0);
}

#[test]
fn more_than_the_burst_can_never_be_had() {
    let limit = Gcra::new(10, SECOND, 5).share(WHOLE);
    assert_eq!(limit.take(Tat::default(), 0, 6), Err(Denied::Never));
    assert!(limit.take(Tat::default(), 0, 5).is_ok());
}

#[test]
fn what_is_denied_can_be_had_when_it_was_said_and_not_before() {
    let limit = Gcra::new(3, SECOND, 4).share(WHOLE);
    let tat = limit.take(Tat::default(), SECOND, 4).unwrap();
    let Err(Denied::For(wait)) = limit.take(tat, SECOND, 2) else {
        panic!("the bucket is empty")
    };
    assert!(limit.take(tat, SECOND + wait, 2).is_ok());
    assert!(limit.take(tat, SECOND + wait - 1, 2).is_err());
}

#[test]
fn a_share_of_nothing_lets_nothing_through() {
    let limit = Gcra::new(1000, SECOND, 1000);
    assert!(matches!(
        limit.share(0).take(Tat::default(), 5, 1),
        Err(Denied::For(SHARES_MOVE_NS))
    ));
    assert!(matches!(
        Gcra::new(0, SECOND, 1).share(WHOLE).take(Tat::default(), 5, 1),
        Err(Denied::For(_))
    ));
}

#[test]
fn a_small_share_lets_one_large_request_through_and_then_waits_for_it() {
    let share = Gcra::new(1000, SECOND, 1000).share(WHOLE / 10);
    let tat = share.take(Tat::default(), 0, 500).unwrap();
    assert_eq!(share.full_in_ns(tat, 0), 5 * SECOND);
    assert!(share.take(tat, SECOND, 1).is_err());
}

#[test]
fn a_debt_is_bounded() {
    let limit = Gcra::new(1, 24 * 3600 * SECOND, 1).share(WHOLE);
    let tat = limit.charge(Tat::default(), 0, u64::MAX);
    assert!(limit.full_in_ns(tat, 0) <= 24 * 3600 * SECOND);
}

proptest! {
    /// The law: in any window W, no more than rate · W + burst.
    #[test]
    fn no_window_has_more_than_the_rate_and_the_burst(
        gaps in prop::collection::vec(0_u64..30_000_000, 1..400),
        rate in 1_u64..2_000,
        burst in 1_u64..100,
    ) {
        let limit = Gcra::new(rate, SECOND, burst).share(WHOLE);
        let times = gaps.iter().scan(0, |now, gap| { *now += gap; Some(*now) });
        let passed = admitted(limit, times);
        for (first, start) in passed.iter().enumerate() {
            for (last, end) in passed.iter().enumerate().skip(first) {
                let most = u128::from(rate) * u128::from(end - start) / u128::from(SECOND) + u128::from(burst);
                prop_assert!((last - first) as u128 <= most);
            }
        }
    }

    /// governor decides the same where a period of whole nanoseconds lets it.
    #[test]
    fn governor_agrees(
        gaps in prop::collection::vec((0_u64..50_000_000, 1_u32..6), 1..200),
        period in 1_u64..20_000_000,
        burst in 1_u32..20,
    ) {
        let quota = Quota::with_period(Duration::from_nanos(period)).unwrap();
        let clock = FakeRelativeClock::default();
        let theirs = RateLimiter::direct_with_clock(quota.allow_burst(NonZeroU32::new(burst).unwrap()), clock.clone());
        let ours = Gcra::new(1, period, u64::from(burst)).share(WHOLE);
        let (mut tat, mut now) = (Tat::default(), 0);
        for (gap, cost) in gaps {
            now += gap;
            clock.advance(Duration::from_nanos(gap));
            let expected = match theirs.check_n(NonZeroU32::new(cost).unwrap()) {
                Ok(outcome) => outcome.is_ok(),
                Err(_) => {
                    prop_assert_eq!(ours.take(tat, now, u64::from(cost)), Err(Denied::Never));
                    continue;
                }
            };
            let got = ours.take(tat, now, u64::from(cost));
            prop_assert_eq!(got.is_ok(), expected, "at {}", now);
            tat = got.unwrap_or(tat);
        }
    }

    #[test]
    fn what_is_refunded_at_once_was_never_taken(tat in 0_u64..1 << 40, now in 0_u64..1 << 40, cost in 1_u64..100, rate in 1_u64..1000) {
        let limit = Gcra::new(rate, SECOND, 100).share(WHOLE);
        let tat = Tat::at_ns(tat);
        if let Ok(taken) = limit.take(tat, now, cost) {
            let back = limit.refund(taken, now, cost);
            prop_assert_eq!(back.max(Tat::at_ns(now)), tat.max(Tat::at_ns(now)));
        }
    }

    #[test]
    fn a_refund_never_gives_more_than_a_full_bucket(tat: u64, now: u64, cost: u64, rate: u64) {
        let limit = Gcra::new(rate, SECOND, 100).share(WHOLE);
        let back = limit.refund(Tat::at_ns(tat), now, cost);
        prop_assert!(back <= Tat::at_ns(tat) && back >= Tat::at_ns(tat.min(now)));
    }

    #[test]
    fn no_numbers_overflow(tat: [u8; 16], now: u64, cost: u64, rate: u64, period: u64, burst: u64, share: u32) {
        let limit = Gcra::new(rate, period, burst).share(share);
        let tat = Tat::from_bytes(tat);
        let _ = limit.take(tat, now, cost).map(|next| limit.refund(next, now, cost));
        let _ = limit.charge(tat, now, cost);
        let _ = (limit.remaining(tat, now), limit.full_in_ns(tat, now));
    }
}
