//! How long a request may take, by the baseline of its kind.
//!
//! `timeout = P99.9 × (1 + load factor) + jitter`, with what makes that hold: the load factor has a floor, since a timeout at
//! its own P99.9 cuts its own tail and creeps down; it moves in bounded steps; and a few requests are left to run, so that
//! there is something to learn from beyond it.

use std::time::Duration;

/// The constants of the law, and the policy's bounds.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct Settings {
    /// No timeout is shorter.
    pub floor: Duration,
    /// No timeout is longer; what holds before anything is known.
    pub ceiling: Duration,
    /// Least load factor that counts: without any, false timeouts were some per cent within hours.
    pub least_load: f64,
    /// Most load factor that counts.
    pub most_load: f64,
    /// Jitter, as a part of the base: from none to this.
    pub jitter: f64,
    /// A step down goes no further than to this part.
    pub step_down: f64,
    /// A step up goes no further than to this multiple.
    pub step_up: f64,
    /// Part of the requests whose upstream call is left to run beyond the timeout.
    pub probes: f64,
    /// None are left to run above this saturation of the pool.
    pub probes_below: f64,
    /// What the answer needs to reach the client before its deadline.
    pub margin: Duration,
}

impl Default for Settings {
    fn default() -> Self {
        Self {
            floor: Duration::from_millis(10),
            ceiling: Duration::from_secs(60),
            least_load: 0.15,
            most_load: 1.0,
            jitter: 0.05,
            step_down: 0.8,
            step_up: 1.5,
            probes: 0.02,
            probes_below: 0.8,
            margin: Duration::from_millis(5),
        }
    }
}

impl Settings {
    /// Within the policy's bounds. A floor above the ceiling is the ceiling.
    pub fn bound(&self, timeout: Duration) -> Duration {
        timeout.max(self.floor).min(self.ceiling)
    }

    /// The load factor as it counts; what is no number counts as none.
    fn load(&self, load: f64) -> f64 {
        let load = if load.is_nan() { 0.0 } else { load };
        load.max(self.least_load).min(self.most_load)
    }

    /// The timeout after a step of the slow loop: towards `base × (1 + load)`, no further than a step goes from the one
    /// before. The first one goes where it will.
    pub fn step(&self, before: Option<Duration>, base: Duration, load: f64) -> Duration {
        let wanted = base.mul_f64(1.0 + self.load(load)).min(Duration::from_secs(86_400));
        let stepped = before.map_or(wanted, |before| {
            let before = before.min(self.ceiling);
            wanted
                .max(before.mul_f64(self.step_down))
                .min(before.mul_f64(self.step_up))
        });
        self.bound(stepped)
    }

    /// One step up, between the times of the slow loop.
    pub fn raise(&self, before: Duration) -> Duration {
        self.bound(before.min(self.ceiling).mul_f64(self.step_up))
    }

    /// What holds for one request: with jitter by a draw of 0 … 1, so that those that began together do not end together;
    /// within the ceiling, and never past what the client has left.
    pub fn apply(&self, timeout: Duration, base: Duration, draw: f64, remaining: Option<Duration>) -> Applied {
        let jitter = base.min(self.ceiling).mul_f64(self.jitter * unit(draw));
        let own = self.bound(timeout.saturating_add(jitter));
        match remaining.map(|remaining| remaining.saturating_sub(self.margin)) {
            Some(left) if left < own => Applied {
                timeout: left,
                bound: Bound::Client,
            },
            _ => Applied {
                timeout: own,
                bound: Bound::Learned,
            },
        }
    }

    /// Whether the upstream call of a request is left to run up to the ceiling, by a draw of 0 … 1. The client gets its
    /// answer at the timeout all the same.
    pub fn is_probe(&self, draw: f64, saturation: f64) -> bool {
        unit(draw) < self.probes && saturation <= self.probes_below
    }
}

/// What binds a request.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Bound {
    /// The learnt timeout.
    Learned,
    /// The client's own deadline.
    Client,
}

/// The timeout of one request.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Applied {
    /// How long it may take; nothing, if the client's deadline is over.
    pub timeout: Duration,
    /// Whose it is.
    pub bound: Bound,
}

fn unit(draw: f64) -> f64 {
    if draw.is_nan() { 0.0 } else { draw.clamp(0.0, 1.0) }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    const fn ms(value: u64) -> Duration {
        Duration::from_millis(value)
    }

    #[test]
    fn the_load_factor_has_a_floor_and_a_cap() {
        let settings = Settings::default();
        let first = |load| settings.step(None, ms(1000), load);
        assert_eq!(first(0.0), ms(1150));
        assert_eq!(first(0.4), ms(1400));
        assert_eq!(first(7.0), ms(2000));
        assert_eq!(first(f64::NAN), ms(1150));
    }

    #[test]
    fn a_step_goes_no_further_than_a_fifth_down_or_a_half_up() {
        let settings = Settings::default();
        assert_eq!(settings.step(Some(ms(1000)), ms(10), 0.2), ms(800));
        assert_eq!(settings.step(Some(ms(1000)), ms(9000), 0.2), ms(1500));
        assert_eq!(
            settings.step(Some(ms(50_000)), ms(90_000), 0.2),
            ms(60_000),
            "the ceiling"
        );
    }

    #[test]
    fn the_clients_deadline_binds_less_what_the_answer_needs() {
        let settings = Settings::default();
        let applied = settings.apply(ms(1000), ms(900), 0.0, Some(ms(400)));
        assert_eq!((applied.timeout, applied.bound), (ms(395), Bound::Client));
        let applied = settings.apply(ms(1000), ms(1000), 1.0, Some(ms(4000)));
        assert_eq!((applied.timeout, applied.bound), (ms(1050), Bound::Learned));
        assert_eq!(
            settings.apply(ms(1000), ms(900), 0.5, Some(ms(3))).timeout,
            Duration::ZERO
        );
    }

    #[test]
    fn two_in_a_hundred_are_left_to_run_unless_the_pool_is_full() {
        let settings = Settings::default();
        let probes = (0..1000).filter(|draw| settings.is_probe(f64::from(*draw) / 1000.0, 0.5));
        assert_eq!(probes.count(), 20);
        assert!(!settings.is_probe(0.0, 0.81));
        assert!(!settings.is_probe(0.0, f64::NAN));
    }

    proptest! {
        #[test]
        fn a_timeout_is_within_the_policys_bounds_whatever_comes(
            before in proptest::option::of(any::<u64>()),
            base: u64,
            load: f64,
            draw: f64,
            floor: u32,
            ceiling: u32,
        ) {
            let settings = Settings {
                floor: Duration::from_micros(floor.into()),
                ceiling: Duration::from_micros(ceiling.into()),
                ..Settings::default()
            };
            let base = Duration::from_micros(base);
            let timeout = settings.step(before.map(Duration::from_micros), base, load);
            for timeout in [timeout, settings.raise(timeout), settings.apply(timeout, base, draw, None).timeout] {
                prop_assert!(timeout <= settings.ceiling);
                prop_assert!(timeout >= settings.floor.min(settings.ceiling));
            }
        }
    }
}
