//! The constants, all of them. `kind: WeightPolicy` overrides any of them, for the mesh or for one model.

use crate::card::CardPrior;
use crate::locality::Level;
use std::collections::BTreeMap;
use std::sync::Arc;
use std::time::Duration;

/// The constants of every model.
#[derive(Clone, Debug, Default, PartialEq)]
pub struct Params {
    default: Arc<Constants>,
    models: BTreeMap<String, Arc<Constants>>,
}

impl Params {
    /// Constants for the mesh, and others for some models.
    pub fn new(default: Constants, models: impl IntoIterator<Item = (String, Constants)>) -> Self {
        let models = models
            .into_iter()
            .map(|(model, constants)| (model, Arc::new(constants)));
        Self {
            default: Arc::new(default),
            models: models.collect(),
        }
    }

    /// Those of one model.
    pub fn of(&self, model: &str) -> &Arc<Constants> {
        self.models.get(model).unwrap_or(&self.default)
    }
}

/// The constants of one model. The defaults are where each is documented.
#[derive(Clone, Debug, PartialEq)]
pub struct Constants {
    /// When free memory counts.
    pub memory: MemoryRamp,
    /// Sequences in the queue at which the factor is a half. The default is 4.
    pub queue_half: f64,
    /// When heat counts.
    pub thermal: ThermalRamp,
    /// The factor is `1 / (1 + penalty × error rate)`. The default is 5: an endpoint that fails every request fast, and so
    /// seems idle, keeps a sixth.
    pub error_penalty: f64,
    /// What is left to a tensor-parallel endpoint that has lost NVLink. The default is 70 %.
    pub nvlink_lost: f64,
    /// What is left to one whose RDMA is down and whose tensors go by the second-best transport. The default is 70 %.
    pub rdma_fallback: f64,
    /// How fast a weight follows.
    pub smoothing: Smoothing,
    /// What becomes of old reports.
    pub staleness: Staleness,
    /// When weights are published.
    pub publication: Publication,
    /// How an endpoint that comes, or comes back, takes up its share.
    pub slow_start: SlowStart,
    /// When capacity is measured, and how far it is believed.
    pub capacity: MeasuredCapacity,
    /// For what an endpoint is drained.
    pub faults: FaultRules,
    /// What counts as a locality. The default is each zone.
    pub locality: Level,
    /// When a locality sends requests elsewhere.
    pub spillover: Spillover,
    /// Priors that go before the built-in table, the first that fits.
    pub cards: Vec<CardPrior>,
}

impl Default for Constants {
    fn default() -> Self {
        Self {
            memory: MemoryRamp::default(),
            queue_half: 4.0,
            thermal: ThermalRamp::default(),
            error_penalty: 5.0,
            nvlink_lost: 0.7,
            rdma_fallback: 0.7,
            smoothing: Smoothing::default(),
            staleness: Staleness::default(),
            publication: Publication::default(),
            slow_start: SlowStart::default(),
            capacity: MeasuredCapacity::default(),
            faults: FaultRules::default(),
            locality: Level::default(),
            spillover: Spillover::default(),
            cards: Vec::new(),
        }
    }
}

/// The memory factor: 0 up to `floor` free, 1 from `ample` free, a smooth step between. The defaults are 5 % and 25 %.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct MemoryRamp {
    /// Free fraction at and below which the factor is 0.
    pub floor: f64,
    /// Free fraction at and above which it is 1.
    pub ample: f64,
}

impl Default for MemoryRamp {
    fn default() -> Self {
        Self {
            floor: 0.05,
            ample: 0.25,
        }
    }
}

/// The thermal factor before the card slows itself down: from 1 at `below_c` under the slowdown temperature down to `floor`
/// at it. The defaults are 8 °C and 50 %.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct ThermalRamp {
    /// Degrees below the slowdown temperature at which it begins.
    pub below_c: f64,
    /// The factor at the slowdown temperature.
    pub floor: f64,
}

impl Default for ThermalRamp {
    fn default() -> Self {
        Self {
            below_c: 8.0,
            floor: 0.5,
        }
    }
}

/// How a weight follows its target: each second it covers the fraction `up` or `down` of the way, and changes by no more than
/// the factors `max_up` and `max_down`. Fast down, slow up: too much traffic hurts more than too little. The defaults are
/// 0.15, 0.5, 1.25 and 0.5: time constants of 6 s and 1.5 s.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct Smoothing {
    /// Upwards, in `(0,1]`.
    pub up: f64,
    /// Downwards, in `(0,1]`.
    pub down: f64,
    /// Most by which a weight is multiplied in a second, above 1.
    pub max_up: f64,
    /// Least, in `(0,1)`.
    pub max_down: f64,
}

impl Default for Smoothing {
    fn default() -> Self {
        Self {
            up: 0.15,
            down: 0.5,
            max_up: 1.25,
            max_down: 0.5,
        }
    }
}

/// A report is stale once it is older than `after` and than `promises` times what its worker promised. From then on the
/// weight goes to the card's prior within `decay`, and never to zero: missing telemetry is not missing capacity. The
/// defaults are 3 s, 3 and 30 s.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Staleness {
    /// The least age.
    pub after: Duration,
    /// The least age in promised intervals.
    pub promises: u32,
    /// How long the way to the prior takes.
    pub decay: Duration,
}

impl Default for Staleness {
    fn default() -> Self {
        Self {
            after: Duration::from_secs(3),
            promises: 3,
            decay: Duration::from_secs(30),
        }
    }
}

/// Published weights stand on a geometric grid from the card's prior. A pool's weights are published at most once in
/// `interval`: when one of them has moved by more than a step, or after `settle` when any differs. Each time proxies rebuild
/// their schedules. The defaults are 5 %, 1 s and 10 s.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct Publication {
    /// The step of the grid, above 0.
    pub grid: f64,
    /// The least time between two.
    pub interval: Duration,
    /// The most time for which a difference below a step is left.
    pub settle: Duration,
}

impl Default for Publication {
    fn default() -> Self {
        Self {
            grid: 0.05,
            interval: Duration::from_secs(1),
            settle: Duration::from_secs(10),
        }
    }
}

/// An endpoint that joins a pool at work, or comes back from a drain, begins at the fraction `from` and has its full share
/// after `over`. The defaults are 10 % and 45 s.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct SlowStart {
    /// How long it takes; none at zero.
    pub over: Duration,
    /// The fraction at its beginning, in `(0,1]`.
    pub from: f64,
}

impl Default for SlowStart {
    fn default() -> Self {
        Self {
            over: Duration::from_secs(45),
            from: 0.1,
        }
    }
}

/// Capacity is measured as tokens per busy second, averaged over `average`; it replaces the prior once there is `least` of
/// it, taken while the engine was busy for at least the fraction `busy`. A claim counts up to `claim` times the prior: a
/// worker that lies, or that answers errors fast, must not draw the traffic. What has not been measured for twice `average`
/// gives way to the prior again. The defaults are 5 min, 60 s, 0.2 and 1.5.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct MeasuredCapacity {
    /// Time constant of the average.
    pub average: Duration,
    /// Busy time before the measurement counts.
    pub least: Duration,
    /// The least busy fraction of a report that tells something.
    pub busy: f64,
    /// The most of the prior that is believed.
    pub claim: f64,
}

impl Default for MeasuredCapacity {
    fn default() -> Self {
        Self {
            average: Duration::from_secs(300),
            least: Duration::from_secs(60),
            busy: 0.2,
            claim: 1.5,
        }
    }
}

/// For what an endpoint is drained, and how it comes back. The defaults are [`FATAL_XIDS`](crate::fault::FATAL_XIDS), 10 s,
/// 50 % and 25 %.
#[derive(Clone, Debug, PartialEq)]
pub struct FaultRules {
    /// XID codes after which nothing can be expected of the card, or of the worker on it, until it is reset.
    pub fatal_xids: Vec<u32>,
    /// How long a fault has to be gone before the endpoint comes back.
    pub clear: Duration,
    /// The most of a pool's capacity that is drained by inference alone.
    pub max_ejected: f64,
    /// What is left to one that would be drained if more could be.
    pub suspect: f64,
}

impl Default for FaultRules {
    fn default() -> Self {
        Self {
            fatal_xids: crate::fault::FATAL_XIDS.to_vec(),
            clear: Duration::from_secs(10),
            max_ejected: 0.5,
            suspect: 0.25,
        }
    }
}

/// A locality sends requests elsewhere while its own endpoints would be busier than `engage` with them, and takes them back
/// once they would stay below `release`. The share changes by at most `step` a second and up to `most`, and the direction at
/// most once in `hold`. The defaults are 85 %, 75 %, 5 % of all requests, 90 % and 5 s.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct Spillover {
    /// Busy fraction above which requests go elsewhere.
    pub engage: f64,
    /// Busy fraction below which they come back; below `engage`.
    pub release: f64,
    /// Most by which the share changes in a second, a fraction of all requests.
    pub step: f64,
    /// The largest share; none ever goes elsewhere at 0.
    pub most: f64,
    /// The least time before a change in the other direction.
    pub hold: Duration,
}

impl Default for Spillover {
    fn default() -> Self {
        Self {
            engage: 0.85,
            release: 0.75,
            step: 0.05,
            most: 0.9,
            hold: Duration::from_secs(5),
        }
    }
}
