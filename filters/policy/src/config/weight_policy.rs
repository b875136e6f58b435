//! `kind: WeightPolicy`: the constants of the weights that the control plane gives to endpoints. No filter reads it; what
//! each constant does is told in `docs/weights.md`.

use serde::Serialize;

use super::limits::{MAX_DECLARED, MAX_LONG_LIST};
use super::name;
use super::reader::{Key, Node};
use super::section::section;
use super::violation::Violations;
use super::word::words;

/// The constants of one model, or of every model that has no policy of its own. A section that is absent is taken from the
/// policy of all models, and if it is absent there too, from the built-in defaults.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize)]
#[cfg_attr(test, derive(schemars::JsonSchema))]
#[cfg_attr(test, schemars(deny_unknown_fields))]
#[non_exhaustive]
pub struct WeightPolicy {
    /// The model; absent for all models.
    #[serde(skip_serializing_if = "Option::is_none")]
    #[cfg_attr(
        test,
        schemars(with = "String", default, regex(pattern = r"^[a-z0-9][a-z0-9._-]{0,62}$"))
    )]
    pub model: Option<String>,
    /// When free memory counts.
    #[serde(skip_serializing_if = "Option::is_none")]
    #[cfg_attr(test, schemars(with = "MemoryConstants", default))]
    pub memory: Option<MemoryConstants>,
    /// When queue and errors count.
    #[serde(skip_serializing_if = "Option::is_none")]
    #[cfg_attr(test, schemars(with = "LoadConstants", default))]
    pub load: Option<LoadConstants>,
    /// When heat counts.
    #[serde(skip_serializing_if = "Option::is_none")]
    #[cfg_attr(test, schemars(with = "ThermalConstants", default))]
    pub thermal: Option<ThermalConstants>,
    /// What lost links leave.
    #[serde(skip_serializing_if = "Option::is_none")]
    #[cfg_attr(test, schemars(with = "LinkConstants", default))]
    pub links: Option<LinkConstants>,
    /// How fast a weight follows.
    #[serde(skip_serializing_if = "Option::is_none")]
    #[cfg_attr(test, schemars(with = "SmoothingConstants", default))]
    pub smoothing: Option<SmoothingConstants>,
    /// What becomes of old reports.
    #[serde(skip_serializing_if = "Option::is_none")]
    #[cfg_attr(test, schemars(with = "StalenessConstants", default))]
    pub staleness: Option<StalenessConstants>,
    /// When weights are published.
    #[serde(skip_serializing_if = "Option::is_none")]
    #[cfg_attr(test, schemars(with = "PublicationConstants", default))]
    pub publication: Option<PublicationConstants>,
    /// How an endpoint takes up its share.
    #[serde(skip_serializing_if = "Option::is_none")]
    #[cfg_attr(test, schemars(with = "SlowStartConstants", default))]
    pub slow_start: Option<SlowStartConstants>,
    /// When capacity is measured, and how far it is believed.
    #[serde(skip_serializing_if = "Option::is_none")]
    #[cfg_attr(test, schemars(with = "CapacityConstants", default))]
    pub capacity: Option<CapacityConstants>,
    /// How faults drain.
    #[serde(skip_serializing_if = "Option::is_none")]
    #[cfg_attr(test, schemars(with = "FaultConstants", default))]
    pub faults: Option<FaultConstants>,
    /// What counts as a locality.
    #[serde(skip_serializing_if = "Option::is_none")]
    #[cfg_attr(test, schemars(with = "LocalityLevel", default))]
    pub locality: Option<LocalityLevel>,
    /// When requests go to other localities.
    #[serde(skip_serializing_if = "Option::is_none")]
    #[cfg_attr(test, schemars(with = "SpilloverConstants", default))]
    pub spillover: Option<SpilloverConstants>,
    /// XID codes that drain, instead of the built-in list.
    #[serde(skip_serializing_if = "Option::is_none")]
    #[cfg_attr(
        test,
        schemars(with = "Vec<u32>", default, length(max = 1024), inner(range(min = 1, max = 65_535)))
    )]
    pub fatal_xids: Option<Vec<u32>>,
    /// Expected capacities that go before the built-in table.
    #[serde(skip_serializing_if = "Option::is_none")]
    #[cfg_attr(test, schemars(with = "Vec<CardCapacity>", default, length(max = 256)))]
    pub cards: Option<Vec<CardCapacity>>,
}

words! {
    /// What counts as a locality, whose proxies prefer its own endpoints.
    pub enum LocalityLevel {
        /// Nothing: all endpoints are as good for every proxy.
        None = "none",
        /// Each zone.
        Zone = "zone",
        /// Each rack of each zone.
        Rack = "rack",
    }
}

/// What is expected of a card or of a slice of one.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
#[cfg_attr(test, derive(schemars::JsonSchema))]
#[cfg_attr(test, schemars(deny_unknown_fields))]
#[non_exhaustive]
pub struct CardCapacity {
    /// Words that follow one another in the product name as NVML gives it: `H100`, `A100 SXM4 80GB`; `cpu` for no card.
    #[cfg_attr(test, schemars(length(min = 1, max = 128)))]
    pub product: String,
    /// The profile of the slice (MIG), as `3g.40gb`; absent for whole cards.
    #[serde(skip_serializing_if = "Option::is_none")]
    #[cfg_attr(test, schemars(with = "String", default, length(min = 1, max = 32)))]
    pub mig: Option<String>,
    /// Relative capacity: an H100 has 400, unless told otherwise.
    #[cfg_attr(test, schemars(range(min = 1, max = 1000)))]
    pub capacity: u32,
}

section! {
    /// The memory factor: 0 up to the floor, 1 from ample on, a smooth step between.
    pub struct MemoryConstants {
        /// Free memory at and below which the factor is 0, percent.
        floor_percent: 0..=95, default 5;
        /// Free memory at and above which it is 1, percent.
        ample_percent: 1..=100, default 25;
    }
}

section! {
    /// The factors of queue and errors.
    pub struct LoadConstants {
        /// Waiting sequences at which the factor is a half.
        queue_half: 1..=100_000, default 4;
        /// The factor of errors is `1 / (1 + penalty × error rate)`.
        error_penalty: 0..=1000, default 5;
    }
}

section! {
    /// The thermal factor before a card slows itself down.
    pub struct ThermalConstants {
        /// Degrees below the slowdown temperature at which it begins.
        below_c: 1..=50, default 8;
        /// The factor at the slowdown temperature, percent.
        floor_percent: 1..=100, default 50;
    }
}

section! {
    /// What is left to an endpoint that has lost links.
    pub struct LinkConstants {
        /// To a tensor-parallel one without NVLink, percent.
        nvlink_lost_percent: 1..=100, default 70;
        /// To one that has fallen back from RDMA, percent.
        rdma_fallback_percent: 1..=100, default 70;
    }
}

section! {
    /// How a weight follows its target.
    pub struct SmoothingConstants {
        /// The part of the way that it covers in a second upwards, percent.
        up_percent: 1..=100, default 15;
        /// The same downwards.
        down_percent: 1..=100, default 50;
        /// The most that it is multiplied by in a second, percent.
        max_up_percent: 101..=1000, default 125;
        /// The least, percent.
        max_down_percent: 1..=99, default 50;
    }
}

section! {
    /// When a load report is stale, and how its weight goes to the card's prior.
    pub struct StalenessConstants {
        /// The least age, milliseconds.
        after_ms: 100..=600_000, default 3000;
        /// The least age in intervals that the worker promised.
        promises: 1..=100, default 3;
        /// How long the way to the prior takes, milliseconds.
        decay_ms: 0..=3_600_000, default 30_000;
    }
}

section! {
    /// When weights are published.
    pub struct PublicationConstants {
        /// The step of the grid, percent.
        grid_percent: 1..=50, default 5;
        /// The least time between two publications of a cluster, milliseconds.
        interval_ms: 100..=60_000, default 1000;
        /// The most time for which a difference below a step is left, milliseconds.
        settle_ms: 1000..=600_000, default 10_000;
    }
}

section! {
    /// How an endpoint that joins or comes back takes up its share.
    pub struct SlowStartConstants {
        /// How long it takes, milliseconds; 0 for at once.
        over_ms: 0..=600_000, default 45_000;
        /// Where it begins, percent.
        from_percent: 1..=100, default 10;
    }
}

section! {
    /// When capacity is measured.
    pub struct CapacityConstants {
        /// Time constant of the average, milliseconds.
        average_ms: 1000..=86_400_000, default 300_000;
        /// How much of it there has to be before it counts, milliseconds.
        least_ms: 0..=86_400_000, default 60_000;
        /// The least busy fraction of a report that tells something, percent.
        busy_percent: 1..=100, default 20;
        /// The most of the prior that is believed, percent.
        claim_percent: 100..=1000, default 150;
    }
}

section! {
    /// How faults drain.
    pub struct FaultConstants {
        /// How long a fault has to be gone, milliseconds.
        clear_ms: 0..=3_600_000, default 10_000;
        /// The most of a pool's capacity that is drained by inference, percent.
        max_ejected_percent: 0..=50, default 50;
        /// What is left to an endpoint that would be drained if more could be, percent.
        suspect_percent: 1..=100, default 25;
    }
}

section! {
    /// When the proxies of a locality send requests to others.
    pub struct SpilloverConstants {
        /// Busy fraction of the own endpoints above which requests go elsewhere, percent.
        engage_percent: 2..=100, default 85;
        /// Below which they come back, percent.
        release_percent: 1..=99, default 75;
        /// The most by which the share changes in a second, percent of all requests.
        step_percent: 1..=100, default 5;
        /// The largest share, percent; 0 for no spill-over.
        most_percent: 0..=90, default 90;
        /// The least time before a change in the other direction, milliseconds.
        hold_ms: 0..=600_000, default 5000;
    }
}

const FIELDS: &[&str] = &[
    "model",
    "memory",
    "load",
    "thermal",
    "links",
    "smoothing",
    "staleness",
    "publication",
    "slow_start",
    "capacity",
    "faults",
    "locality",
    "spillover",
    "fatal_xids",
    "cards",
];

pub(super) fn read(spec: &Node<'_>, out: &mut Violations) -> Option<WeightPolicy> {
    let spec = spec.object(FIELDS, out)?;
    let model = spec.maybe("model", out, name::name);
    let memory = spec.maybe("memory", out, read_memory);
    let load = spec.maybe("load", out, LoadConstants::read);
    let thermal = spec.maybe("thermal", out, ThermalConstants::read);
    let links = spec.maybe("links", out, LinkConstants::read);
    let smoothing = spec.maybe("smoothing", out, SmoothingConstants::read);
    let staleness = spec.maybe("staleness", out, StalenessConstants::read);
    let publication = spec.maybe("publication", out, read_publication);
    let slow_start = spec.maybe("slow_start", out, SlowStartConstants::read);
    let capacity = spec.maybe("capacity", out, CapacityConstants::read);
    let faults = spec.maybe("faults", out, FaultConstants::read);
    let locality = spec.maybe("locality", out, LocalityLevel::read);
    let spillover = spec.maybe("spillover", out, read_spillover);
    let fatal_xids = spec.maybe("fatal_xids", out, |node, out| {
        node.set(0..=MAX_LONG_LIST, out, |node, out| node.integer(1..=65_535, out))
    });
    let cards = spec.maybe("cards", out, |node, out| {
        let key = Key {
            field: ".product",
            of: |card: &CardCapacity| match &card.mig {
                Some(mig) => format!("{} {mig}", card.product),
                None => card.product.clone(),
            },
        };
        node.distinct(0..=MAX_DECLARED, &key, out, read_card)
    });
    Some(WeightPolicy {
        model: model?,
        memory: memory?,
        load: load?,
        thermal: thermal?,
        links: links?,
        smoothing: smoothing?,
        staleness: staleness?,
        publication: publication?,
        slow_start: slow_start?,
        capacity: capacity?,
        faults: faults?,
        locality: locality?,
        spillover: spillover?,
        fatal_xids: fatal_xids?,
        cards: cards?,
    })
}

fn read_memory(node: &Node<'_>, out: &mut Violations) -> Option<MemoryConstants> {
    let memory = MemoryConstants::read(node, out)?;
    if memory.floor_percent >= memory.ample_percent {
        let message = format!(
            "is {}, but must be above floor_percent, {}: between them the factor goes from 0 to 1",
            memory.ample_percent, memory.floor_percent
        );
        out.add(format!("{}.ample_percent", node.path()), message);
    }
    Some(memory)
}

fn read_publication(node: &Node<'_>, out: &mut Violations) -> Option<PublicationConstants> {
    let publication = PublicationConstants::read(node, out)?;
    if publication.settle_ms < publication.interval_ms {
        let message = format!(
            "is {}, less than interval_ms, {}: nothing is published more often than that",
            publication.settle_ms, publication.interval_ms
        );
        out.add(format!("{}.settle_ms", node.path()), message);
    }
    Some(publication)
}

fn read_spillover(node: &Node<'_>, out: &mut Violations) -> Option<SpilloverConstants> {
    let spillover = SpilloverConstants::read(node, out)?;
    if spillover.release_percent >= spillover.engage_percent {
        let message = format!(
            "is {}, but must be below engage_percent, {}: between them nothing moves",
            spillover.release_percent, spillover.engage_percent
        );
        out.add(format!("{}.release_percent", node.path()), message);
    }
    Some(spillover)
}

fn read_card(node: &Node<'_>, out: &mut Violations) -> Option<CardCapacity> {
    let card = node.object(&["product", "mig", "capacity"], out)?;
    let product = card.must("product", out, |node, out| name::text(node, 1..=128, out));
    let mig = card.maybe("mig", out, |node, out| name::text(node, 1..=32, out));
    let capacity = card.must("capacity", out, |node, out| node.integer(1..=1000, out));
    Some(CardCapacity {
        product: product?,
        mig: mig?,
        capacity: capacity?,
    })
}
