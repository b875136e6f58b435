use proptest::prelude::*;

use super::*;

const HOUR: Duration = Duration::from_secs(3600);

fn part(tenure: u32, now: Duration, values: &[u64]) -> Slot {
    let mut slot = Slot::new(tenure, Epoch::at(now));
    for value in values {
        slot.survival_mut().record(Duration::from_micros(*value));
    }
    slot
}

#[test]
fn the_parts_of_all_threads_are_in_the_shared_slot() {
    let now = HOUR;
    let one = Slot::flush(&[], &part(3, now, &[10, 20]), now);
    let both = Slot::flush(&one, &part(3, now, &[20, 30]), now);
    assert_eq!(Slot::from_bytes(&both, 3, now), Some(part(3, now, &[10, 20, 20, 30])));
}

#[test]
fn a_window_forgets_what_is_older_than_five_minutes() {
    let mut window = Window::default();
    window.at(HOUR).unwrap().record(Duration::from_millis(5));
    assert_eq!(window.total(HOUR + SLOT * 9).count(), 1);
    assert_eq!(window.total(HOUR + SLOT * 10).count(), 0);
}

#[test]
fn a_clock_that_stands_still_fills_one_slot() {
    let mut window = Window::default();
    for _ in 0..1000 {
        window.at(HOUR).unwrap().record(Duration::from_millis(5));
    }
    assert_eq!(window.total(HOUR).count(), 1000);
}

#[test]
fn a_clock_that_jumps_an_hour_on_begins_a_new_window_and_one_that_jumps_back_waits() {
    let mut window = Window::default();
    window.at(HOUR).unwrap().record(Duration::from_millis(5));
    window.at(HOUR * 2).unwrap().record(Duration::from_millis(7));
    assert_eq!(window.total(HOUR * 2).count(), 1, "the hour before is over");
    assert!(window.at(HOUR).is_none(), "its slot belongs to the later hour");
    assert_eq!(window.total(HOUR).count(), 0, "what lies ahead is not counted");
}

#[test]
fn what_is_foreign_old_or_ahead_reads_as_nothing_and_is_written_over() {
    let now = HOUR;
    let fresh = part(3, now, &[10]);
    let mut other_form = fresh.to_bytes();
    other_form[0] = 9;
    let truncated = &fresh.to_bytes()[..16];
    let foreign = [
        Vec::new(),
        b"something else".to_vec(),
        other_form,
        truncated.to_vec(),
        part(4, now, &[10, 10]).to_bytes(),
        part(3, now - SLOT * 10, &[10, 10]).to_bytes(),
        part(3, now + HOUR, &[10, 10]).to_bytes(),
    ];
    for bytes in &foreign {
        assert_eq!(Slot::from_bytes(bytes, 3, now), None, "{bytes:?}");
        assert_eq!(Slot::flush(bytes, &fresh, now), fresh.to_bytes());
    }
    assert_eq!(total(foreign.iter().map(Vec::as_slice), 3, now).count(), 0);
}

#[test]
fn a_thread_that_is_late_does_not_bring_an_old_epoch_back() {
    let now = HOUR;
    let shared = part(3, now, &[10]).to_bytes();
    let late = part(3, now - SLOT * 10, &[99]);
    assert_eq!(Slot::flush(&shared, &late, now), shared);
}

proptest! {
    #[test]
    fn the_order_of_parts_does_not_matter(
        parts in proptest::collection::vec((0_u32..2, 0_u64..30, proptest::collection::vec(1_u64..1000, 0..5)), 0..12),
    ) {
        let parts: Vec<_> = parts
            .iter()
            .map(|(tenure, epoch, values)| part(*tenure, SLOT * (*epoch as u32), values))
            .collect();
        let (mut forward, mut backward) = (Window::default(), Window::default());
        parts.iter().for_each(|part| { forward.absorb(part); });
        parts.iter().rev().for_each(|part| { backward.absorb(part); });
        prop_assert_eq!(forward.slots, backward.slots);
    }

    #[test]
    fn any_bytes_are_read_or_are_nothing(bytes: Vec<u8>, tenure in 0_u32..3, now in 0_u64..100_000) {
        let now = Duration::from_secs(now);
        let _ = Slot::from_bytes(&bytes, tenure, now);
        prop_assert!(Slot::flush(&bytes, &part(tenure, now, &[5]), now).len() <= Slot::MAX_BYTES);
    }
}
