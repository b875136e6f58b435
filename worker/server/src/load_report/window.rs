//! What has been seen of the engine since the last report. Pure.

use crate::meter::Totals;
use kilocard_registry::telemetry::EngineLoad;
use std::time::Duration;

/// After this time, half of the requests that were counted for the error rate are forgotten.
const HALF_LIFE: Duration = Duration::from_secs(5);
/// So many good requests are supposed beside those counted: one failure of a worker at rest is not a rate of 100 %.
const SUPPOSED: f64 = 4.0;

/// Samples and counters since the last report.
#[derive(Debug)]
pub(super) struct Window {
    begun: Totals,
    samples: u32,
    queue: f64,
    in_flight: f64,
    /// Requests that failed and ended, older ones counted less.
    failed: f64,
    ended: f64,
    /// As of when those are.
    counted: Totals,
}

impl Window {
    pub(super) fn new(begun: Totals) -> Self {
        Self {
            begun,
            samples: 0,
            queue: 0.0,
            in_flight: 0.0,
            failed: 0.0,
            ended: 0.0,
            counted: begun,
        }
    }

    /// So much waits and is in flight at this moment.
    pub(super) fn sample(&mut self, queue: usize, in_flight: u64) {
        self.samples += 1;
        self.queue += queue as f64;
        self.in_flight += in_flight as f64;
    }

    /// What it comes to, `elapsed` after it began.
    pub(super) fn load(&mut self, now: &Totals, elapsed: Duration) -> EngineLoad {
        self.count(now);
        let samples = f64::from(self.samples.max(1));
        let seconds = elapsed.as_secs_f64();
        let rate = |amount: f64| (seconds > 0.0).then(|| amount / seconds);
        let ended = now.ended.saturating_sub(self.begun.ended) as f64;
        let tokens = now.tokens.saturating_sub(self.begun.tokens) as f64;
        let compute = now.compute.saturating_sub(self.begun.compute).as_secs_f64();
        EngineLoad {
            queue: Some(rounded(self.queue / samples)),
            in_flight: Some(rounded(self.in_flight / samples)),
            requests_per_second: rate(ended).map(rounded),
            tokens_per_second: rate(tokens).map(rounded),
            busy_fraction: rate(compute).map(|busy| rounded(busy.min(1.0))),
            error_rate: Some(rounded(self.failed / (self.ended + SUPPOSED))),
            ..EngineLoad::default()
        }
    }

    /// The next report begins.
    pub(super) fn reset(&mut self, now: Totals) {
        self.begun = now;
        (self.samples, self.queue, self.in_flight) = (0, 0.0, 0.0);
    }

    /// Lets time pass over what was counted for the error rate.
    pub(super) fn fade(&mut self, over: Duration) {
        let share = 0.5_f64.powf(over.as_secs_f64() / HALF_LIFE.as_secs_f64());
        (self.failed, self.ended) = (self.failed * share, self.ended * share);
    }

    fn count(&mut self, now: &Totals) {
        self.failed += now.failed.saturating_sub(self.counted.failed) as f64;
        self.ended += now.ended.saturating_sub(self.counted.ended) as f64;
        self.counted = *now;
    }
}

/// To three digits after the point: more would only be bytes.
fn rounded(value: f64) -> f64 {
    (value * 1000.0).round() / 1000.0
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn rates_are_of_the_time_since_the_last_report_and_levels_are_means() {
        let mut window = Window::new(Totals::default());
        window.sample(2, 4);
        window.sample(4, 8);
        let now = Totals {
            ended: 16,
            failed: 5,
            tokens: 4000,
            compute: Duration::from_secs(1),
        };
        let load = window.load(&now, Duration::from_secs(2));
        assert_eq!((load.queue, load.in_flight), (Some(3.0), Some(6.0)));
        assert_eq!((load.tokens_per_second, load.busy_fraction), (Some(2000.0), Some(0.5)));
        assert_eq!(load.requests_per_second, Some(8.0), "those that failed are demand too");
        assert_eq!(load.error_rate, Some(0.25));
        window.reset(now);
        let load = window.load(&now, Duration::from_secs(2));
        assert_eq!((load.queue, load.tokens_per_second), (Some(0.0), Some(0.0)));
        assert_eq!(load.requests_per_second, Some(0.0));
    }

    #[test]
    fn failures_fade_when_nothing_fails_any_more() {
        let mut window = Window::new(Totals::default());
        let now = Totals {
            ended: 96,
            failed: 96,
            ..Totals::default()
        };
        assert_eq!(window.load(&now, Duration::from_secs(1)).error_rate, Some(0.96));
        window.fade(Duration::from_secs(50));
        assert!(window.load(&now, Duration::from_secs(1)).error_rate.unwrap() < 0.03);
    }
}
