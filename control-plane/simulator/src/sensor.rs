//! What a simulated card's driver reads out: rates since the last reading, memory, clock, temperature, all with noise.

use crate::card::{Card, Done};
use crate::chance::normal;
use crate::control::Report;
use crate::moment::Moment;
use fastrand::Rng;

/// A busy card at its ordinary clock, °C.
const WARM_C: f64 = 66.0;
/// A card that throttles, °C: beyond the slow-down threshold of data-centre cards.
const HOT_C: f64 = 92.0;
/// Heat comes and goes with this time constant, seconds; the clock changes at once.
const HEAT_S: f64 = 4.0;
/// Memory that the model itself takes.
const MODEL: f64 = 0.3;
/// Memory that requests take when all slots are full.
const REQUESTS: f64 = 0.68;

/// The instruments of one card.
#[derive(Debug)]
pub struct Sensor {
    last: (Moment, Done),
    clock: f64,
    changed: Moment,
    temperature_then: f64,
}

impl Default for Sensor {
    fn default() -> Self {
        Self {
            last: (Moment::default(), Done::default()),
            clock: 1.0,
            changed: Moment::default(),
            temperature_then: WARM_C,
        }
    }
}

impl Sensor {
    /// The card runs at this part of its clock from now on.
    pub fn set_clock(&mut self, now: Moment, clock: f64) {
        self.temperature_then = self.temperature(now);
        self.changed = now;
        self.clock = clock;
    }

    fn temperature(&self, now: Moment) -> f64 {
        let target = if self.clock < 1.0 { HOT_C } else { WARM_C };
        target + (self.temperature_then - target) * (-(now - self.changed) / HEAT_S).exp()
    }

    /// A reading; each quantity is off by a factor with the relative standard deviation `noise`. The card's index and
    /// whether it has failed are for the caller to fill in.
    pub fn read(&mut self, now: Moment, card: &mut Card, noise: f64, rng: &mut Rng) -> Report {
        let mut noisy = |value: f64| (value * (1.0 + noise * normal(rng))).max(0.0);
        let done = card.done(now);
        let (then, before) = std::mem::replace(&mut self.last, (now, done));
        let passed = (now - then).max(f64::MIN_POSITIVE);
        let filled = card.running() as f64 / card.slots() as f64;
        Report {
            card: 0,
            failed: false,
            read: now,
            running: card.running(),
            waiting: card.waiting(),
            slots: card.slots(),
            work_rate: noisy((done.work - before.work) / passed),
            busy: ((done.busy_s - before.busy_s) / passed).clamp(0.0, 1.0),
            request_rate: noisy((done.requests - before.requests) as f64 / passed),
            memory_free: noisy(1.0 - MODEL - REQUESTS * filled).min(1.0),
            clock: self.clock,
            throttled: self.clock < 1.0,
            temperature_c: self.temperature(now),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::card::Job;

    #[test]
    fn a_reading_tells_rates_since_the_last_and_the_heat_of_a_throttled_card() {
        let mut card = Card::new(2.0, 10);
        let mut sensor = Sensor::default();
        let mut rng = Rng::with_seed(1);
        let job = Job {
            arrived: Moment::default(),
            gateway: 0,
            work: 100.0,
        };
        card.take(Moment::at_secs(1.0), job);
        let first = sensor.read(Moment::at_secs(2.0), &mut card, 0.0, &mut rng);
        assert!(
            (first.work_rate - 1.0).abs() < 1e-9 && (first.busy - 0.5).abs() < 1e-9,
            "{first:?}"
        );
        assert!((first.memory_free - 0.632).abs() < 1e-9 && !first.throttled);
        sensor.set_clock(Moment::at_secs(2.0), 0.35);
        let hot = sensor.read(Moment::at_secs(14.0), &mut card, 0.0, &mut rng);
        assert!(hot.throttled && hot.temperature_c > 90.0 && hot.busy == 1.0, "{hot:?}");
    }
}
