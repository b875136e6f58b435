//! How streams end when the process does: spread over a while, so that another replica does not get all of them at once.

use std::time::Duration;

/// Streams that end a second, on average: as many as a replica takes without falling behind.
const STREAMS_A_SECOND: u32 = 200;

/// The longest window over which streams end. Within it they go on being served.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Drain {
    window: Duration,
}

impl Default for Drain {
    fn default() -> Self {
        Self::within(Duration::from_secs(5))
    }
}

impl Drain {
    /// At most so long.
    pub const fn within(window: Duration) -> Self {
        Self { window }
    }

    /// At most so long.
    pub const fn window(self) -> Duration {
        self.window
    }

    /// When one of `streams` ends, `chance` in `[0,1)` being drawn for it alone: a few end at once, many one after another,
    /// all of them within the window.
    pub fn delay(self, streams: usize, chance: f64) -> Duration {
        let streams = u32::try_from(streams.saturating_sub(1)).unwrap_or(u32::MAX);
        let span = (Duration::from_secs(1) / STREAMS_A_SECOND).saturating_mul(streams);
        span.min(self.window).mul_f64(chance.clamp(0.0, 1.0))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_last_stream_goes_at_once_and_a_thousand_go_within_the_window() {
        let drain = Drain::within(Duration::from_secs(4));
        assert_eq!(drain.delay(1, 0.99), Duration::ZERO);
        assert_eq!(drain.delay(201, 0.5), Duration::from_millis(500));
        assert_eq!(drain.delay(1_000_000, 0.5), Duration::from_secs(2));
        assert_eq!(Drain::within(Duration::ZERO).delay(1000, 0.9), Duration::ZERO);
    }

    #[test]
    fn no_tenth_of_the_window_sees_more_than_a_fifth_of_the_streams() {
        let (drain, mut random) = (Drain::default(), fastrand::Rng::with_seed(7));
        let mut tenths = [0_u32; 10];
        for _ in 0..1000 {
            let delay = drain.delay(1000, random.f64()).as_secs_f64();
            let tenth = (delay / drain.window().as_secs_f64() * 10.0).floor();
            tenths
                .iter_mut()
                .zip(0..)
                .for_each(|(count, index)| *count += u32::from(f64::from(index) == tenth));
        }
        assert_eq!(tenths.iter().sum::<u32>(), 1000);
        assert!(tenths.iter().all(|count| *count < 200), "{tenths:?}");
    }
}
