//! What counts for what, by hand.

use super::*;

const TTL: Duration = Duration::from_secs(5);
const BASE: Share = Share::WHOLE;

fn at(seconds: u64) -> Moment {
    Moment::at(Duration::from_secs(seconds))
}

fn parts(parts: u32) -> Share {
    Share::from_parts(parts)
}

fn lease(share: u32, seconds: u64) -> Span {
    Span::given(parts(share), at(seconds), TTL)
}

#[test]
fn a_lowering_counts_only_once_it_is_acknowledged() {
    let mut hold = Hold::on_base(BASE);
    hold.give(lease(10, 100), 7);
    assert_eq!(hold.count(BASE, at(100)), BASE);
    assert!(!hold.acknowledge(6));
    assert_eq!(hold.count(BASE, at(100)), BASE);
    assert!(hold.acknowledge(7));
    assert_eq!(hold.count(BASE, at(100)), parts(10));
}

#[test]
fn a_raise_counts_at_once() {
    let mut hold = Hold::on_base(parts(100));
    hold.give(lease(500, 100), 7);
    assert_eq!(hold.count(parts(100), at(100)), parts(500));
    assert_eq!(hold.next_change(at(100)), at(105));
    assert_eq!(hold.count(parts(100), at(105)), parts(100));
}

#[test]
fn a_lowering_binds_twice_as_long_as_it_can_be_counted_on() {
    let mut hold = Hold::on_base(BASE);
    hold.give(lease(10, 100), 7);
    hold.acknowledge(7);
    assert_eq!(hold.count(BASE, at(104)), parts(10));
    assert_eq!(hold.count(BASE, at(105)), BASE);
    assert_eq!(hold.bound(BASE, at(109), TTL), parts(10));
    assert_eq!(hold.bound(BASE, at(110), TTL), BASE);
}

#[test]
fn of_two_answers_on_their_way_the_higher_share_counts() {
    let mut hold = Hold::on_base(BASE);
    hold.give(lease(10, 100), 1);
    hold.acknowledge(1);
    hold.give(lease(30, 101), 2);
    hold.give(lease(20, 102), 3);
    assert_eq!(hold.count(BASE, at(102)), parts(30));
    assert!(!hold.acknowledge(2), "the third is on its way");
    assert!(hold.acknowledge(3));
    assert_eq!(hold.count(BASE, at(102)), parts(20));
}

#[test]
fn a_repetition_that_may_be_lost_does_not_count_as_longer() {
    let mut hold = Hold::on_base(BASE);
    hold.give(lease(10, 100), 1);
    hold.give(lease(10, 103), 2);
    assert!(!hold.acknowledge(1));
    assert_eq!(hold.count(BASE, at(104)), parts(10));
    assert_eq!(hold.count(BASE, at(106)), BASE, "the first has ended");
    assert!(hold.acknowledge(2));
    assert_eq!(hold.count(BASE, at(106)), parts(10));
}

#[test]
fn a_proxy_that_is_always_behind_is_believed_what_it_has_acknowledged() {
    let mut hold = Hold::on_base(BASE);
    for sequence in 0..100 {
        hold.give(lease(10, 100 + sequence), sequence);
        if let Some(behind) = sequence.checked_sub(2) {
            hold.acknowledge(behind);
            assert_eq!(hold.count(BASE, at(100 + sequence)), parts(10), "{sequence}");
        }
    }
}

#[test]
fn what_is_abandoned_may_be_in_force_or_not() {
    let mut hold = Hold::on_base(parts(100));
    hold.give(lease(500, 100), 1);
    hold.abandon();
    assert!(hold.acknowledge(1));
    assert_eq!(hold.count(parts(100), at(101)), parts(500));
    hold.abandon();
    assert_eq!(hold.count(parts(100), at(105)), parts(100));
    let mut hold = Hold::on_base(parts(100));
    hold.give(lease(5, 100), 1);
    hold.abandon();
    assert_eq!(hold.count(parts(100), at(101)), parts(100));
}
