//! How fast new streams are let in. Pure: time is an argument.
//!
//! After an outage all proxies reconnect at once, and each may need everything. Served all at the same time, each would be
//! done only when all are; let in one after the other, the first are done early, and what has to be kept for those under way
//! is bounded. Nobody is refused: a stream waits for its turn.

use std::time::{Duration, Instant};

/// A token bucket that hands out turns: the generic cell rate algorithm, with queueing in place of refusal.
#[derive(Debug)]
pub(super) struct Pace {
    /// Between two turns.
    interval: Duration,
    /// How far turns may be ahead of that: what is let in at once after a quiet time.
    burst: Duration,
    /// When the bucket will be full again.
    full_at: Option<Instant>,
}

impl Pace {
    /// So many streams a second, so many at once after a quiet time; 0 a second stands for no limit.
    pub(super) fn new(per_second: u32, at_once: u32) -> Self {
        let interval = if per_second == 0 {
            Duration::ZERO
        } else {
            Duration::from_secs(1) / per_second
        };
        Self {
            interval,
            burst: interval * at_once,
            full_at: None,
        }
    }

    /// The turn of a stream that comes now.
    pub(super) fn turn(&mut self, now: Instant) -> Instant {
        let full_at = self.full_at.map_or(now, |full_at| full_at.max(now)) + self.interval;
        self.full_at = Some(full_at);
        full_at.checked_sub(self.burst).map_or(now, |turn| turn.max(now))
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    #[test]
    fn a_storm_is_let_in_at_the_rate_and_the_first_of_it_at_once() {
        let (mut pace, now) = (Pace::new(100, 10), Instant::now());
        let turns: Vec<Duration> = (0..30).map(|_| pace.turn(now).duration_since(now)).collect();
        assert!(turns[..10].iter().all(Duration::is_zero));
        assert_eq!(turns[10], Duration::from_millis(10));
        assert_eq!(turns[29], Duration::from_millis(200));
    }

    #[test]
    fn after_a_quiet_time_there_is_room_for_a_burst_again_and_no_more() {
        let (mut pace, now) = (Pace::new(100, 10), Instant::now());
        for _ in 0..30 {
            pace.turn(now);
        }
        let later = now + Duration::from_secs(60);
        let at_once = (0..30).filter(|_| pace.turn(later) == later).count();
        assert_eq!(at_once, 10);
    }

    #[test]
    fn without_a_limit_everyone_is_let_in_at_once() {
        let (mut pace, now) = (Pace::new(0, 0), Instant::now());
        assert!((0..1000).all(|_| pace.turn(now) == now));
    }

    proptest! {
        #[test]
        fn turns_never_go_back_and_never_exceed_rate_and_burst(
            rate in 1u32..1000, at_once in 1u32..100, gaps in proptest::collection::vec(0u64..50, 1..200),
        ) {
            let (mut pace, start) = (Pace::new(rate, at_once), Instant::now());
            let (mut now, mut turns) = (start, Vec::new());
            for gap in gaps {
                now += Duration::from_millis(gap);
                let turn = pace.turn(now);
                prop_assert!(turn >= now);
                prop_assert!(turns.last().is_none_or(|last| turn >= *last));
                turns.push(turn);
            }
            // In any stretch of time: at most the burst, and what the rate gives.
            for (place, turn) in turns.iter().enumerate() {
                let within = turns[place..].iter().take_while(|later| **later <= *turn + Duration::from_secs(1)).count();
                prop_assert!(within as u64 <= u64::from(rate) + u64::from(at_once) + 1);
            }
        }
    }
}
