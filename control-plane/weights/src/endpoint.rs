//! One endpoint over time: where its weight is heading, how far it has got, and whether it is ill.

use crate::MAX_WEIGHT;
use crate::capacity::{Measured, SNAP, Sample};
use crate::card::Card;
use crate::factor::{self, Factor};
use crate::fault::{self, Code, Fault};
use crate::fleet::Subject;
use crate::locality::Locality;
use crate::params::{Constants, Smoothing};
use kilocard_registry::telemetry::Telemetry;
use std::sync::Arc;
use std::time::Duration;

/// Below this no weight goes: what remains is the one request now and then that tells whether it has recovered.
const LEAST: f64 = 1.0;
/// A measured capacity is not believed to be less than this part of the prior.
const LEAST_OF_PRIOR: f64 = 0.1;
/// Time constant of the busy fraction by which pools spill over.
const BUSY_OVER: Duration = Duration::from_secs(5);

/// What a proxy is told of an endpoint.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct Weighed {
    /// In `1..=MAX_WEIGHT`, also of one that is drained.
    pub weight: u32,
    /// Whether it takes requests.
    pub standing: Standing,
    /// The memory factor of the last report, in `[0,1]`.
    pub memory: f64,
}

/// Whether an endpoint takes requests.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum Standing {
    /// It does.
    #[default]
    Serving,
    /// It gets no new ones.
    Drained(Code),
    /// It ought to be drained, and the rest of its pool could not bear it.
    Held(Code),
}

#[derive(Clone, Debug)]
pub(crate) struct Endpoint {
    pub(crate) card: String,
    /// Whether the inventory has the card, or there is none.
    is_listed: bool,
    /// Where it is, at the level that counts.
    pub(crate) locality: Arc<Locality>,
    pub(crate) simulated: bool,
    pub(crate) prior: f64,
    /// The prior, or what was measured, on the prior's scale.
    pub(crate) capacity: f64,
    pub(crate) factors: Vec<Factor>,
    pub(crate) report: Option<Report>,
    pub(crate) illness: Option<Illness>,
    pub(crate) standing: Standing,
    /// Since when it takes up its share, while it does.
    pub(crate) ramp: Option<Duration>,
    pub(crate) smoothed: f64,
    pub(crate) published: u32,
    measured: Measured,
    busy: Option<f64>,
    /// As of when all this is.
    at: Duration,
}

/// When the last report came.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Report {
    sequence: u64,
    pub(crate) received: Duration,
    /// From when on it is stale; `None` for never.
    pub(crate) stale_from: Option<Duration>,
}

/// A fault that is there, or was a short while ago.
#[derive(Clone, Debug)]
pub(crate) struct Illness {
    pub(crate) fault: Fault,
    pub(crate) since: Duration,
    gone_since: Option<Duration>,
}

impl Endpoint {
    /// One that is seen for the first time. It begins at its target, or slowly if it joins others that are at work.
    pub(crate) fn new(subject: &Subject<'_>, constants: &Constants, at: Duration, joins: bool) -> Self {
        let mut endpoint = Self {
            card: String::new(),
            is_listed: false,
            locality: Arc::default(),
            simulated: false,
            prior: 0.0,
            capacity: 0.0,
            factors: Vec::new(),
            report: None,
            illness: None,
            standing: Standing::Serving,
            ramp: (joins && !constants.slow_start.over.is_zero()).then_some(at),
            smoothed: 0.0,
            published: 0,
            measured: Measured::default(),
            busy: None,
            at,
        };
        endpoint.observe(subject, constants, at);
        endpoint.capacity = endpoint.prior;
        endpoint.smoothed = endpoint.target(at, constants);
        endpoint
    }

    /// Takes in what is known of it now; whether its card has come to be known, and its weight with it.
    pub(crate) fn observe(&mut self, subject: &Subject<'_>, constants: &Constants, at: Duration) -> bool {
        let (before, was) = (self.at, self.smoothed);
        let rested = was == self.target(before, constants);
        self.advance(at, constants);
        // What has rested for a while makes its first step at once, not a second later.
        if rested && self.smoothed == was {
            self.at = before.max(at.saturating_sub(constants.publication.interval));
        }
        let telemetry = subject.telemetry;
        let was_listed = std::mem::replace(&mut self.is_listed, !matches!(subject.card, Card::Unlisted(_)));
        let locality = subject.locality.at(constants.locality);
        if *self.locality != locality {
            self.locality = Arc::new(locality);
        }
        let memory = telemetry.map(|telemetry| telemetry.memory_total_bytes);
        self.card = subject.card.name();
        self.prior = subject.card.prior(memory.filter(|bytes| *bytes > 0), &constants.cards);
        self.simulated = subject.card.is_simulated() || telemetry.is_some_and(|telemetry| telemetry.simulated);
        self.factors = telemetry.map_or_else(Vec::new, |telemetry| factor::factors(telemetry, constants));
        self.diagnose(
            telemetry.and_then(|telemetry| fault::detect(telemetry, &constants.faults)),
            at,
        );
        match telemetry {
            Some(telemetry) => self.receive(telemetry, constants, at),
            None => self.report = None,
        }
        // The weight of a card that was not in the inventory was a guess: there is nothing to follow slowly.
        let is_news = self.is_listed && !was_listed;
        if is_news {
            self.capacity = self.prior;
            self.smoothed = self.target(at, constants);
        }
        is_news
    }

    /// A report that came before, and only stands in a record that was written again, tells nothing new.
    fn receive(&mut self, telemetry: &Telemetry, constants: &Constants, at: Duration) {
        if self.report.is_some_and(|last| last.sequence == telemetry.sequence) {
            return;
        }
        let promise = telemetry.refresh_ms.map(|millis| Duration::from_millis(millis.into()));
        let since = self
            .report
            .map_or(Duration::ZERO, |last| at.saturating_sub(last.received));
        let over = promise.map_or(Duration::ZERO, |promise| since.min(promise * 2));
        let stale = &constants.staleness;
        self.report = Some(Report {
            sequence: telemetry.sequence,
            received: at,
            stale_from: promise.map(|promise| at + stale.after.max(promise * stale.promises)),
        });
        let engine = &telemetry.engine;
        let told = engine.busy_fraction.filter(|busy| (0.0..=1.0).contains(busy));
        if told.is_none() {
            self.busy = None;
        }
        if let Some(busy) = told {
            let share = 1.0 - (-since.as_secs_f64() / BUSY_OVER.as_secs_f64()).exp();
            self.busy = Some(self.busy.map_or(busy, |before| before + share * (busy - before)));
            // A throttled card is not measured: the thermal factor already takes that away.
            if let Some(tokens) = engine
                .tokens_per_second
                .filter(|_| factor::distress(&telemetry.gpu).is_none())
            {
                let sample = Sample {
                    tokens_per_second: tokens,
                    busy,
                    over,
                };
                self.measured.observe(&sample, at, &constants.capacity);
            }
        }
    }

    /// A fault is there at once, and gone once it has not been seen for a while.
    fn diagnose(&mut self, found: Option<Fault>, at: Duration) {
        match (found, &mut self.illness) {
            (Some(fault), Some(illness)) => {
                if illness.fault.code != fault.code {
                    illness.since = at;
                }
                (illness.fault, illness.gone_since) = (fault, None);
            }
            (Some(fault), None) => {
                self.illness = Some(Illness {
                    fault,
                    since: at,
                    gone_since: None,
                });
            }
            (None, Some(illness)) => drop(illness.gone_since.get_or_insert(at)),
            (None, None) => {}
        }
    }

    /// Moves on to `now`.
    pub(crate) fn advance(&mut self, now: Duration, constants: &Constants) {
        let cleared = |illness: &Illness| {
            let inferred = !illness.fault.code.is_fact() && self.staleness(now, constants) >= 1.0;
            inferred
                || illness
                    .gone_since
                    .is_some_and(|since| now >= since + constants.faults.clear)
        };
        if self.illness.as_ref().is_some_and(cleared) {
            self.illness = None;
        }
        if self.ramp_value(now, constants) >= 1.0 {
            self.ramp = None;
        }
        let seconds = now.saturating_sub(self.at).as_secs_f64();
        self.at = self.at.max(now);
        if seconds > 0.0 {
            let target = self.target(now, constants);
            self.smoothed = follow(self.smoothed, target, seconds, &constants.smoothing);
        }
    }

    /// Begins the slow start of one that comes back.
    pub(crate) fn come_back(&mut self, now: Duration, constants: &Constants) {
        self.ramp = (!constants.slow_start.over.is_zero()).then_some(now);
        self.smoothed = self.target(now, constants);
    }

    /// Tokens per busy second and the prior that they compare to, once measured.
    pub(crate) fn rate(&self, constants: &Constants) -> Option<(f64, f64)> {
        Some((self.measured.rate(self.at, &constants.capacity)?, self.prior))
    }

    /// Counts with what was measured, `scale` prior units a token, or with the prior.
    pub(crate) fn calibrate(&mut self, scale: Option<f64>, constants: &Constants) {
        let measured = self.measured.rate(self.at, &constants.capacity).zip(scale);
        self.capacity = measured.map_or(self.prior, |(rate, scale)| {
            (rate * scale).clamp(self.prior * LEAST_OF_PRIOR, self.prior * constants.capacity.claim)
        });
    }

    /// Where the weight is heading.
    pub(crate) fn target(&self, now: Duration, constants: &Constants) -> f64 {
        let product: f64 = self.factors.iter().map(|factor| factor.value).product();
        let (told, stale) = (self.capacity * product, self.staleness(now, constants));
        let suspect = match self.standing {
            Standing::Held(code) if !code.is_fact() => constants.faults.suspect,
            _ => 1.0,
        };
        let target = (told + (self.prior - told) * stale) * suspect * self.ramp_value(now, constants);
        target.clamp(LEAST, f64::from(MAX_WEIGHT))
    }

    /// How far the report has lost its worth: 0 while it is fresh, 1 when nothing is left of it.
    pub(crate) fn staleness(&self, now: Duration, constants: &Constants) -> f64 {
        let Some(from) = self.report.and_then(|report| report.stale_from) else {
            return 0.0;
        };
        let (over, decay) = (now.saturating_sub(from), constants.staleness.decay);
        if over.is_zero() {
            0.0
        } else if decay.is_zero() {
            1.0
        } else {
            (over.as_secs_f64() / decay.as_secs_f64()).min(1.0)
        }
    }

    /// The part of its share that a slow start leaves it.
    pub(crate) fn ramp_value(&self, now: Duration, constants: &Constants) -> f64 {
        let Some(since) = self.ramp else { return 1.0 };
        let slow = &constants.slow_start;
        let done = now.saturating_sub(since).as_secs_f64() / slow.over.as_secs_f64().max(f64::MIN_POSITIVE);
        slow.from + (1.0 - slow.from) * done.min(1.0)
    }

    /// The weight on the grid, as it would be published now.
    pub(crate) fn candidate(&self, constants: &Constants) -> u32 {
        on_grid(self.smoothed, self.prior, constants.publication.grid)
    }

    /// Whether the published weight is off by more than a step of the grid.
    pub(crate) fn is_off(&self, constants: &Constants) -> bool {
        let published = f64::from(self.published);
        self.candidate(constants) != self.published
            && (self.smoothed - published).abs() > constants.publication.grid * published
    }

    /// When it has to be looked at again though nothing is observed, `step` from now at the earliest while it moves.
    pub(crate) fn due(&self, now: Duration, constants: &Constants) -> Option<Duration> {
        let stale_from = self.report.and_then(|report| report.stale_from);
        let decays = stale_from.is_some_and(|from| from <= now) && self.staleness(now, constants) < 1.0;
        let moves = self.smoothed != self.target(now, constants) || self.ramp.is_some() || decays;
        let gone = self.illness.as_ref().and_then(|illness| illness.gone_since);
        let moves = moves && !matches!(self.standing, Standing::Drained(_));
        [
            moves.then(|| now + constants.publication.interval),
            gone.map(|since| since + constants.faults.clear),
            stale_from.filter(|from| *from > now),
            // An inference ends with the report that it rests on.
            self.illness
                .as_ref()
                .and(stale_from)
                .map(|from| from + constants.staleness.decay),
        ]
        .into_iter()
        .flatten()
        .filter(|due| *due > now)
        .min()
    }

    pub(crate) fn weighed(&self) -> Weighed {
        let memory = self.factors.iter().find(|factor| factor.name == "memory");
        Weighed {
            weight: self.published.max(1),
            standing: self.standing,
            memory: memory.map_or(1.0, |factor| factor.value),
        }
    }

    /// The fraction of it that is in use, smoothed over some seconds; `None` when no report tells, or only one that is old.
    pub(crate) fn busy(&self, now: Duration, constants: &Constants) -> Option<f64> {
        self.busy
            .filter(|_| self.report.is_some() && self.staleness(now, constants) <= 0.0)
    }
}

/// Where something is after `seconds` on its way to `target`. Exact for any `seconds`: two halves of a way make the whole.
fn follow(from: f64, target: f64, seconds: f64, smoothing: &Smoothing) -> f64 {
    let a = if target < from { smoothing.down } else { smoothing.up };
    let to = target + (from - target) * (1.0 - a).powf(seconds);
    let bounded = to.clamp(
        from * smoothing.max_down.powf(seconds),
        from * smoothing.max_up.powf(seconds),
    );
    if (bounded - target).abs() <= SNAP * target {
        target
    } else {
        bounded
    }
}

/// The nearest of `prior × (1 + step)^k`, as an integer weight.
fn on_grid(value: f64, prior: f64, step: f64) -> u32 {
    let steps = ((value / prior).ln() / step.ln_1p()).round();
    let weight = prior * (steps * step.ln_1p()).exp();
    // Within the bounds after the clamp, so the cast cannot truncate.
    weight.round().clamp(1.0, f64::from(MAX_WEIGHT)) as u32
}
