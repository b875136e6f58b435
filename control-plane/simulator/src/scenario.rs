//! What is simulated: cards, gateways, traffic, faults, and how well the control plane sees.

use crate::moment::Moment;
use std::time::Duration;

/// After a change of capacity a mesh has this long to settle before its shares are held against the capacities.
pub const SETTLING: Duration = Duration::from_secs(10);
/// A card that is gone leaves the registry when its worker's lease runs out.
pub const LEASE: Duration = Duration::from_secs(10);
/// How often the control plane computes weights.
pub const TICK: Duration = Duration::from_secs(1);

/// Everything that is given. The same scenario and seed give the same simulation, to the last request.
#[derive(Clone, Debug, PartialEq)]
pub struct Scenario {
    /// The cards.
    pub cards: Vec<CardSpec>,
    /// Gateways, each with in-flight counts of its own.
    pub gateways: usize,
    /// Worker threads of a gateway, each with a balancer of its own.
    pub threads: usize,
    /// Offered work over the capacity of all cards that are there at the beginning, in `(0, 1)`.
    pub load: f64,
    /// Time before measuring begins: queues fill, capacities are learnt.
    pub warm_up: Duration,
    /// Time over which is measured.
    pub measured: Duration,
    /// The requests.
    pub traffic: Traffic,
    /// What happens to cards; times count from the end of the warm-up.
    pub faults: Vec<Fault>,
    /// How the cards report.
    pub telemetry: TelemetrySpec,
    /// From the control plane's decision to a gateway's taking it in, half of it fixed and half by chance.
    pub push_delay: Duration,
}

/// A card.
#[derive(Clone, Debug, PartialEq)]
pub struct CardSpec {
    /// Product name, as in the inventory.
    pub model: String,
    /// The profile of the slice that it is (MIG), as in `3g.20gb`; `None` for a whole card.
    pub slice: Option<String>,
    /// Weight that its model is believed to deserve, in `1..=1000`: what static weights use.
    pub prior: u32,
    /// What it truly does: seconds of work a second, where a card of speed 1 needs a request's work for it.
    pub speed: f64,
    /// Most requests at once.
    pub slots: usize,
    /// Memory, GiB.
    pub memory_gib: f64,
}

/// The requests.
#[derive(Clone, Debug, PartialEq)]
pub struct Traffic {
    /// Mean work of a request: its time alone on a card of speed 1.
    pub work: Duration,
    /// Standard deviation of the work's logarithm; its distribution is lognormal.
    pub sigma: f64,
    /// How they arrive. Nobody waits for answers: the loop is open.
    pub arrivals: Arrivals,
}

/// How requests arrive.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Arrivals {
    /// As a Poisson process.
    Poisson,
    /// In spells of half as many and of half again as many, each a second long in the mean.
    Bursty,
}

/// Something that happens to a card.
#[derive(Clone, Debug, PartialEq)]
pub struct Fault {
    /// Its index.
    pub card: usize,
    /// When, after the end of the warm-up.
    pub at: Duration,
    /// What.
    pub kind: FaultKind,
}

/// What happens.
#[derive(Clone, Copy, Debug, PartialEq)]
pub enum FaultKind {
    /// It gets hot and runs at `factor` of its clock for so long.
    Throttle {
        /// Of its speed.
        factor: f64,
        /// How long.
        lasts: Duration,
    },
    /// A fatal XID: what it holds is lost, what comes is refused. Its worker's lease runs out after [`LEASE`].
    Fail,
    /// It was not there before.
    Join,
}

/// How the cards report.
#[derive(Clone, Debug, PartialEq)]
pub struct TelemetrySpec {
    /// A card reports this often.
    pub interval: Duration,
    /// From the reading to the control plane.
    pub delay: Duration,
    /// Relative standard deviation of readings.
    pub noise: f64,
    /// From when, after the warm-up, and for how long nothing arrives.
    pub outage: Option<(Duration, Duration)>,
}

/// A scenario that means nothing.
#[derive(Clone, Debug, PartialEq, thiserror::Error)]
pub enum InvalidScenario {
    /// Too few or too many cards.
    #[error("there are {0} cards; the simulator takes 1 to 10000")]
    Cards(usize),
    /// A card with a speed, a prior or a memory that no card has.
    #[error("card {index} ({model}) must have a speed and a memory above 0 and a prior of 1 to 1000")]
    Card {
        /// Which.
        index: usize,
        /// Its model.
        model: String,
    },
    /// No gateway, or more than make sense.
    #[error("there are {gateways} gateways of {threads} threads; take 1 to 1000 gateways and 1 to 64 threads")]
    Gateways {
        /// Given.
        gateways: usize,
        /// Given.
        threads: usize,
    },
    /// A load at which queues are empty or grow for ever.
    #[error("the load is {0}; it must be above 0 and below 1: at 1 and more every queue grows without end")]
    Load(f64),
    /// A time that is no time.
    #[error("{what} must be above 0 and at most {most:?}")]
    Time {
        /// Which.
        what: &'static str,
        /// Its bound.
        most: Duration,
    },
    /// A number out of its range.
    #[error("{what} is {given}; it must be within {range}")]
    Range {
        /// Which.
        what: &'static str,
        /// Given.
        given: f64,
        /// What is possible.
        range: &'static str,
    },
    /// A fault of a card that there is not.
    #[error("a fault names card {card}, but there are only {cards}, counted from 0")]
    FaultCard {
        /// Given.
        card: usize,
        /// There are.
        cards: usize,
    },
    /// A fault after everything is over.
    #[error("a fault at {at:?} comes after the end: {measured:?} are measured")]
    FaultTime {
        /// Given.
        at: Duration,
        /// The end.
        measured: Duration,
    },
}

/// A change of a card's true state.
#[derive(Clone, Copy, Debug, PartialEq)]
pub(crate) enum Change {
    /// It runs at this part of its speed.
    Speed(f64),
    /// It fails.
    Fail,
    /// Its worker is in the registry, or not any more.
    Member(bool),
}

/// A stretch of time in which capacities have stood still for [`SETTLING`].
#[derive(Clone, Debug, PartialEq)]
pub struct Settled {
    /// From.
    pub from: Moment,
    /// To.
    pub to: Moment,
    /// True speed by card, 0 for what is not there.
    pub capacity: Vec<f64>,
}

impl Scenario {
    /// When measuring begins.
    pub fn begin(&self) -> Moment {
        Moment::at(self.warm_up)
    }

    /// When the last request arrives.
    pub fn end(&self) -> Moment {
        self.begin().after(self.measured)
    }

    /// Whether the card is there from the beginning.
    pub(crate) fn is_there_at_first(&self, card: usize) -> bool {
        let joins = |fault: &Fault| fault.card == card && fault.kind == FaultKind::Join;
        !self.faults.iter().any(joins)
    }

    /// Requests a second.
    pub fn rate(&self) -> f64 {
        let cards = self.cards.iter().enumerate();
        let capacity: f64 = cards
            .filter(|(index, _)| self.is_there_at_first(*index))
            .map(|(_, card)| card.speed)
            .sum();
        self.load * capacity / self.traffic.work.as_secs_f64()
    }

    /// All changes in order of time.
    pub(crate) fn changes(&self) -> Vec<(Moment, usize, Change)> {
        let mut changes = Vec::new();
        for Fault { card, at, kind } in &self.faults {
            let at = self.begin().after(*at);
            match *kind {
                FaultKind::Throttle { factor, lasts } => {
                    changes.push((at, *card, Change::Speed(factor)));
                    changes.push((at.after(lasts), *card, Change::Speed(1.0)));
                }
                FaultKind::Fail => {
                    changes.push((at, *card, Change::Fail));
                    changes.push((at.after(LEASE), *card, Change::Member(false)));
                }
                FaultKind::Join => changes.push((at, *card, Change::Member(true))),
            }
        }
        changes.sort_by_key(|(at, card, _)| (*at, *card));
        changes
    }

    /// The stretches over which shares are measured: between changes, [`SETTLING`] after each, and after the beginning.
    pub fn settled(&self) -> Vec<Settled> {
        let mut capacity: Vec<f64> = self.cards.iter().map(|card| card.speed).collect();
        for (index, speed) in capacity.iter_mut().enumerate() {
            if !self.is_there_at_first(index) {
                *speed = 0.0;
            }
        }
        let mut settled = Vec::new();
        let mut from = self.begin();
        let mut close = |from: Moment, to: Moment, capacity: &[f64]| {
            if from < to {
                settled.push(Settled {
                    from,
                    to,
                    capacity: capacity.to_vec(),
                });
            }
        };
        from = from.after(SETTLING.saturating_sub(self.warm_up));
        for (at, card, change) in self.changes() {
            close(from, at.min(self.end()), &capacity);
            from = at.after(SETTLING);
            let own = self.cards.get(card).map_or(0.0, |card| card.speed);
            if let Some(speed) = capacity.get_mut(card) {
                match change {
                    Change::Speed(factor) => *speed = own * factor,
                    Change::Fail | Change::Member(false) => *speed = 0.0,
                    Change::Member(true) => *speed = own,
                }
            }
        }
        close(from, self.end(), &capacity);
        settled
    }

    /// Checks that the scenario means something.
    ///
    /// # Errors
    /// The first thing that is wrong.
    pub fn check(&self) -> Result<(), InvalidScenario> {
        if !(1..=10_000).contains(&self.cards.len()) {
            return Err(InvalidScenario::Cards(self.cards.len()));
        }
        for (index, card) in self.cards.iter().enumerate() {
            let sound = is_positive(card.speed) && is_positive(card.memory_gib) && (1..=1000).contains(&card.prior);
            if !sound {
                let model = card.model.clone();
                return Err(InvalidScenario::Card { index, model });
            }
        }
        let (gateways, threads) = (self.gateways, self.threads);
        if !(1..=1000).contains(&gateways) || !(1..=64).contains(&threads) {
            return Err(InvalidScenario::Gateways { gateways, threads });
        }
        if !(self.load > 0.0 && self.load < 1.0) {
            return Err(InvalidScenario::Load(self.load));
        }
        self.check_times()?;
        in_range(
            "the spread of the work (sigma)",
            self.traffic.sigma,
            0.0..=3.0,
            "0 to 3",
        )?;
        in_range("the telemetry's noise", self.telemetry.noise, 0.0..=1.0, "0 to 1")?;
        self.faults.iter().try_for_each(|fault| self.check_fault(fault))
    }

    fn check_times(&self) -> Result<(), InvalidScenario> {
        let times = [
            ("the time measured", self.measured, Duration::from_secs(3600)),
            ("the mean work", self.traffic.work, Duration::from_secs(60)),
            (
                "the telemetry's interval",
                self.telemetry.interval,
                Duration::from_secs(60),
            ),
        ];
        for (what, given, most) in times {
            if given.is_zero() || given > most {
                return Err(InvalidScenario::Time { what, most });
            }
        }
        Ok(())
    }

    fn check_fault(&self, fault: &Fault) -> Result<(), InvalidScenario> {
        let cards = self.cards.len();
        if fault.card >= cards {
            let card = fault.card;
            return Err(InvalidScenario::FaultCard { card, cards });
        }
        if fault.at >= self.measured {
            let (at, measured) = (fault.at, self.measured);
            return Err(InvalidScenario::FaultTime { at, measured });
        }
        match fault.kind {
            FaultKind::Throttle { factor, .. } => in_range("the throttled speed", factor, 0.01..=1.0, "0.01 to 1"),
            FaultKind::Fail | FaultKind::Join => Ok(()),
        }
    }
}

fn is_positive(value: f64) -> bool {
    value.is_finite() && value > 0.0
}

fn in_range(
    what: &'static str,
    given: f64,
    bounds: std::ops::RangeInclusive<f64>,
    range: &'static str,
) -> Result<(), InvalidScenario> {
    if bounds.contains(&given) {
        Ok(())
    } else {
        Err(InvalidScenario::Range { what, given, range })
    }
}

#[cfg(test)]
pub(crate) mod tests {
    use super::*;

    pub(crate) fn card(prior: u32, speed: f64) -> CardSpec {
        CardSpec {
            model: "NVIDIA A100-SXM4-80GB".to_owned(),
            slice: None,
            prior,
            speed,
            slots: 64,
            memory_gib: 80.0,
        }
    }

    /// Three unlike cards under a load of 0.7 for 20 s.
    pub(crate) fn scenario() -> Scenario {
        Scenario {
            cards: vec![card(400, 2.0), card(200, 1.0), card(100, 0.5)],
            gateways: 2,
            threads: 2,
            load: 0.7,
            warm_up: Duration::from_secs(5),
            measured: Duration::from_secs(20),
            traffic: Traffic {
                work: Duration::from_millis(20),
                sigma: 0.8,
                arrivals: Arrivals::Poisson,
            },
            faults: Vec::new(),
            telemetry: TelemetrySpec {
                interval: Duration::from_secs(1),
                delay: Duration::from_millis(200),
                noise: 0.05,
                outage: None,
            },
            push_delay: Duration::from_millis(50),
        }
    }

    fn throttle(card: usize, at: u64) -> Fault {
        Fault {
            card,
            at: Duration::from_secs(at),
            kind: FaultKind::Throttle {
                factor: 0.5,
                lasts: Duration::from_secs(20),
            },
        }
    }

    #[test]
    fn shares_are_measured_ten_seconds_after_every_change() {
        let mut scenario = scenario();
        scenario.measured = Duration::from_secs(60);
        scenario.faults = vec![throttle(0, 20)];
        let settled: Vec<(f64, f64, f64)> = scenario
            .settled()
            .iter()
            .map(|s| (s.from.as_secs(), s.to.as_secs(), s.capacity[0]))
            .collect();
        assert_eq!(settled, [(10.0, 25.0, 2.0), (35.0, 45.0, 1.0), (55.0, 65.0, 2.0)]);
    }

    #[test]
    fn what_means_nothing_is_refused_with_what_would() {
        type Wrong = (&'static str, fn(&mut Scenario));
        let wrong: [Wrong; 8] = [
            ("1 to 10000", |s| s.cards.clear()),
            ("speed and a memory above 0", |s| s.cards[1].speed = f64::NAN),
            ("1 to 1000 gateways", |s| s.gateways = 0),
            ("below 1", |s| s.load = 1.0),
            ("the time measured", |s| s.measured = Duration::ZERO),
            ("0 to 3", |s| s.traffic.sigma = -1.0),
            ("there are only 3", |s| s.faults = vec![throttle(3, 1)]),
            ("comes after the end", |s| s.faults = vec![throttle(0, 20)]),
        ];
        assert_eq!(scenario().check(), Ok(()));
        for (expected, spoil) in wrong {
            let mut scenario = scenario();
            spoil(&mut scenario);
            let error = scenario.check().unwrap_err().to_string();
            assert!(error.contains(expected), "{error}");
        }
    }
}
