//! The cap on shadow copies: GCRA (ITU-T I.371, "Generic Cell Rate Algorithm", virtual scheduling), a pure function of its
//! one number of state.

/// How much of a second's worth may go at once. Copies are sampled, so they come in bunches even under a steady load.
const BURST_NS: u64 = 100_000_000;

/// Whether one more copy may be made now. `tat` is what the last admitted copy returned, 0 before the first; the result is
/// the new one, or `None` if the copy must not be made. Times are nanoseconds of any clock; one that is set back or jumps
/// ahead admits a burst more.
pub fn admit(tat: u64, now_ns: u64, max_per_second: u32) -> Option<u64> {
    let interval = 1_000_000_000 / u64::from(max_per_second.max(1));
    // No admitted copy can have led further ahead than this: the clock was set back, and the door would stay shut until
    // it caught up.
    let ahead = BURST_NS.saturating_add(interval);
    let tat = if tat > now_ns.saturating_add(ahead) {
        now_ns
    } else {
        tat.max(now_ns)
    };
    let earliest = tat.saturating_sub(BURST_NS.saturating_sub(interval));
    (now_ns >= earliest).then(|| tat.saturating_add(interval))
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    fn admitted(times: impl Iterator<Item = u64>, max_per_second: u32) -> Vec<u64> {
        let mut tat = 0;
        let mut admitted = Vec::new();
        for now in times {
            if let Some(next) = admit(tat, now, max_per_second) {
                tat = next;
                admitted.push(now);
            }
        }
        admitted
    }

    #[test]
    fn a_flood_is_cut_to_the_rate_and_a_tenth_of_a_second_at_once() {
        let second = 1_000_000_000;
        // A hundred thousand a second for ten seconds.
        let passed = admitted((0..1_000_000).map(|at| second + at * 10_000), 20);
        assert!((200..=202).contains(&passed.len()), "{}", passed.len());
        let at_once = admitted(std::iter::repeat_n(second, 100), 200);
        assert_eq!(at_once.len(), 20);
    }

    #[test]
    fn what_comes_slower_than_the_rate_always_passes() {
        for per_second in [1, 7, 20, 100_000] {
            let interval = 1_000_000_000 / u64::from(per_second);
            let passed = admitted((1..1_000).map(|at| at * (interval + 1)), per_second);
            assert_eq!(passed.len(), 999, "{per_second}");
        }
    }

    #[test]
    fn a_clock_set_back_does_not_shut_the_door() {
        let tat = admit(0, 3_600_000_000_000, 10).unwrap();
        assert!(admit(tat, 1_000_000_000, 10).is_some());
    }

    proptest! {
        #[test]
        fn no_second_has_more_than_the_rate_and_a_burst(
            gaps in prop::collection::vec(0_u64..30_000_000, 1..400),
            max_per_second in 1_u32..2_000,
        ) {
            let times = gaps.iter().scan(0, |now, gap| { *now += gap; Some(*now) });
            let passed = admitted(times, max_per_second);
            let most = f64::from(max_per_second) * 1.1 + 2.0;
            for (index, start) in passed.iter().enumerate() {
                let within = passed[index..].iter().take_while(|at| *at - start < 1_000_000_000).count();
                prop_assert!(within as f64 <= most, "{} in a second at {}", within, max_per_second);
            }
        }

        #[test]
        fn no_numbers_overflow(tat: u64, now: u64, max_per_second: u32) {
            if let Some(next) = admit(tat, now, max_per_second) {
                prop_assert!(next >= now);
            }
        }
    }
}
