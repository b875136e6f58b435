//! How long requests take, and what befalls them.

/// A distribution of latencies.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Law {
    /// Median 80 ms, σ = 0.6.
    Lognormal,
    /// From 50 ms, α = 1.5: one in a thousand takes 5 s.
    Pareto,
    /// Nine in ten about 50 ms, one in ten about 500 ms.
    Bimodal,
}

impl Law {
    pub(crate) const ALL: [Self; 3] = [Self::Lognormal, Self::Pareto, Self::Bimodal];

    /// A latency in seconds.
    pub(crate) fn draw(self, rng: &mut fastrand::Rng) -> f64 {
        match self {
            Self::Lognormal => 0.08 * (0.6 * normal(rng)).exp(),
            Self::Pareto => 0.05 * (1.0 - rng.f64()).powf(-1.0 / 1.5),
            Self::Bimodal => {
                let median = if rng.f64() < 0.9 { 0.05 } else { 0.5 };
                median * (0.3 * normal(rng)).exp()
            }
        }
    }

    /// What one in a thousand exceeds, seconds.
    pub(crate) fn p999(self) -> f64 {
        match self {
            Self::Lognormal => 0.08 * (0.6_f64 * 3.0902).exp(),
            Self::Pareto => 0.05 * 100.0,
            // One in a hundred of the slow tenth.
            Self::Bimodal => 0.5 * (0.3_f64 * 2.3263).exp(),
        }
    }
}

/// By Box and Muller.
fn normal(rng: &mut fastrand::Rng) -> f64 {
    (-2.0 * (1.0 - rng.f64()).ln()).sqrt() * (std::f64::consts::TAU * rng.f64()).cos()
}

/// What befalls endpoints for a time.
#[derive(Clone, Copy, Debug, PartialEq)]
pub(crate) enum Event {
    /// All latencies are so many times longer, everywhere: that is what is usual now, and no fault.
    Slowdown(f64),
    /// The first endpoint answers nothing; what it holds goes on afterwards.
    Hang,
    /// The latencies of the first endpoint are so many times longer.
    Grey(f64),
    /// Every endpoint answers at once that it is unavailable.
    Outage,
}

/// What is simulated.
#[derive(Clone, Debug)]
pub(crate) struct Scenario {
    pub(crate) law: Law,
    pub(crate) endpoints: usize,
    /// Requests a second for each endpoint.
    pub(crate) rate: f64,
    /// Seconds.
    pub(crate) lasts: f64,
    /// What happens, from when until when, in seconds.
    pub(crate) event: Option<(Event, f64, f64)>,
    /// Load factor at a time; latencies grow with it.
    pub(crate) load: fn(f64) -> f64,
    pub(crate) seed: u64,
}

/// A load that does not change.
pub(crate) fn even(_: f64) -> f64 {
    0.3
}

/// A load that swings between a tenth and seven tenths, once in ten minutes.
#[allow(dead_code, reason = "the tests have no swing")]
pub(crate) fn swing(at: f64) -> f64 {
    0.4 - 0.3 * (at * std::f64::consts::TAU / 600.0).cos()
}

impl Scenario {
    /// Whether an event is under way.
    pub(crate) fn is(&self, wanted: Event, at: f64) -> bool {
        self.event
            .is_some_and(|(event, from, until)| event == wanted && (from..until).contains(&at))
    }

    /// Whether an endpoint is at fault at any time between two.
    pub(crate) fn is_at_fault(&self, endpoint: usize, from: f64, to: f64) -> bool {
        self.event.is_some_and(|(event, begin, end)| {
            let is_fault = matches!(event, Event::Hang | Event::Grey(_)) && endpoint == 0 || event == Event::Outage;
            is_fault && from < end && to >= begin
        })
    }

    /// When a request that begins is answered, by its drawn latency; and whether that is a failure.
    pub(crate) fn answered(&self, endpoint: usize, begins: f64, drawn: f64) -> (f64, bool) {
        if self.is(Event::Outage, begins) {
            return (begins + 0.001, true);
        }
        let mut takes = drawn * (1.0 + 0.5 * (self.load)(begins));
        takes *= match self.event {
            Some((Event::Slowdown(factor), from, until)) if (from..until).contains(&begins) => factor,
            Some((Event::Grey(factor), from, until)) if endpoint == 0 && (from..until).contains(&begins) => factor,
            _ => 1.0,
        };
        let ends = begins + takes;
        match self.event {
            Some((Event::Hang, from, until)) if endpoint == 0 && begins < until && ends >= from => {
                (until + ends - begins.max(from), false)
            }
            _ => (ends, false),
        }
    }
}
