//! `kind: ScalePolicy`: how many replicas a version shall have for its load. No filter reads it; the control plane reckons by
//! it, and an autoscaler is told the result. What each constant does is told in `docs/autoscaling.md`.
//!
//! The constants and their defaults are those of Kubernetes' HorizontalPodAutoscaler
//! (<https://kubernetes.io/docs/tasks/run-application/horizontal-pod-autoscale/>), so that whoever knows the one knows the
//! other.

use std::ops::RangeInclusive;

use serde::Serialize;

use super::name;
use super::reader::Node;
use super::section::section;
use super::violation::Violations;

mod rate;

pub use rate::RequestRate;

/// What `min_replicas` may be.
const MIN_REPLICAS: RangeInclusive<u32> = 0..=10_000;
/// What `max_replicas` may be.
const MAX_REPLICAS: RangeInclusive<u32> = 1..=10_000;

/// How many replicas the versions of a model shall have, each by itself.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
#[cfg_attr(test, derive(schemars::JsonSchema))]
#[cfg_attr(test, schemars(deny_unknown_fields))]
#[non_exhaustive]
pub struct ScalePolicy {
    /// The model.
    #[cfg_attr(test, schemars(regex(pattern = r"^[a-z0-9][a-z0-9._-]{0,62}$")))]
    pub model: String,
    /// The version; absent for every version that has no policy of its own, each by itself.
    #[serde(skip_serializing_if = "Option::is_none")]
    #[cfg_attr(
        test,
        schemars(with = "String", default, regex(pattern = r"^[a-z0-9]+([._-][a-z0-9]+)*$"))
    )]
    pub version: Option<String>,
    /// Never fewer than these.
    #[cfg_attr(test, schemars(default = "default_min_replicas", range(min = 0, max = 10_000)))]
    pub min_replicas: u32,
    /// Never more than these.
    #[cfg_attr(test, schemars(range(min = 1, max = 10_000)))]
    pub max_replicas: u32,
    /// What a replica shall bear. Each asks for replicas by itself, and the most counts.
    pub targets: ScaleTargets,
    /// What is within so many percent of what the replicas shall bear changes nothing.
    #[cfg_attr(test, schemars(default = "default_tolerance_percent", range(min = 0, max = 50)))]
    pub tolerance_percent: u32,
    /// How fast there become more.
    #[cfg_attr(test, schemars(default))]
    pub scale_up: ScaleUp,
    /// How fast there become fewer.
    #[cfg_attr(test, schemars(default))]
    pub scale_down: ScaleDown,
}

/// What a replica shall bear, at least one of them.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
#[cfg_attr(test, derive(schemars::JsonSchema))]
#[cfg_attr(test, schemars(deny_unknown_fields, extend("minProperties" = 1)))]
#[non_exhaustive]
pub struct ScaleTargets {
    /// Requests per second.
    #[serde(skip_serializing_if = "Option::is_none")]
    #[cfg_attr(test, schemars(with = "f64", default, range(min = 0.01, max = 1_000_000)))]
    pub qps_per_replica: Option<RequestRate>,
    /// Memory in use, percent: of the KV cache where there is one, else of the card.
    #[serde(skip_serializing_if = "Option::is_none")]
    #[cfg_attr(test, schemars(with = "u32", default, range(min = 1, max = 100)))]
    pub memory_percent: Option<u32>,
    /// Sequences that wait.
    #[serde(skip_serializing_if = "Option::is_none")]
    #[cfg_attr(test, schemars(with = "u32", default, range(min = 1, max = 100_000)))]
    pub queue_per_replica: Option<u32>,
}

section! {
    /// How fast there become more replicas.
    pub struct ScaleUp {
        /// So long has the load to ask for more, seconds.
        stabilization_s: 0..=3600, default 0;
        /// At most so many more in a period, percent …
        max_percent: 0..=1000, default 100;
        /// … or so many, if that is more.
        max_replicas: 0..=10_000, default 4;
        /// The period, seconds.
        period_s: 1..=1800, default 15;
    }
}

section! {
    /// How fast there become fewer replicas.
    pub struct ScaleDown {
        /// So long has the load to ask for fewer, seconds.
        stabilization_s: 0..=3600, default 300;
        /// At most so many fewer in a period, percent …
        max_percent: 0..=100, default 100;
        /// … or so many, if that is more.
        max_replicas: 0..=10_000, default 0;
        /// The period, seconds.
        period_s: 1..=1800, default 15;
    }
}

const FIELDS: &[&str] = &[
    "model",
    "version",
    "min_replicas",
    "max_replicas",
    "targets",
    "tolerance_percent",
    "scale_up",
    "scale_down",
];

const fn default_min_replicas() -> u32 {
    1
}

const fn default_tolerance_percent() -> u32 {
    10
}

pub(super) fn read(spec: &Node<'_>, out: &mut Violations) -> Option<ScalePolicy> {
    let spec = spec.object(FIELDS, out)?;
    let model = spec.must("model", out, name::name);
    let version = spec.maybe("version", out, name::version);
    let min_replicas = spec.maybe("min_replicas", out, |node, out| node.integer(MIN_REPLICAS, out));
    let max_replicas = spec.must("max_replicas", out, |node, out| node.integer(MAX_REPLICAS, out));
    let targets = spec.must("targets", out, read_targets);
    let tolerance = spec.maybe("tolerance_percent", out, |node, out| node.integer(0..=50, out));
    let scale_up = spec.or_default("scale_up", out, |node, out| {
        let up = ScaleUp::read(node, out)?;
        check_pace(node, up.max_percent, up.max_replicas, out);
        Some(up)
    });
    let scale_down = spec.or_default("scale_down", out, |node, out| {
        let down = ScaleDown::read(node, out)?;
        check_pace(node, down.max_percent, down.max_replicas, out);
        Some(down)
    });
    let min_replicas = min_replicas?.unwrap_or_else(default_min_replicas);
    let max_replicas = max_replicas?;
    if max_replicas < min_replicas {
        let message = format!("is {max_replicas}, less than min_replicas, {min_replicas}");
        out.add(format!("{}.max_replicas", spec.path()), message);
    }
    Some(ScalePolicy {
        model: model?,
        version: version?,
        min_replicas,
        max_replicas,
        targets: targets?,
        tolerance_percent: tolerance?.unwrap_or_else(default_tolerance_percent),
        scale_up: scale_up?,
        scale_down: scale_down?,
    })
}

fn read_targets(node: &Node<'_>, out: &mut Violations) -> Option<ScaleTargets> {
    let targets = node.object(&["qps_per_replica", "memory_percent", "queue_per_replica"], out)?;
    let qps = targets.maybe("qps_per_replica", out, RequestRate::read);
    let memory = targets.maybe("memory_percent", out, |node, out| node.integer(1..=100, out));
    let queue = targets.maybe("queue_per_replica", out, |node, out| node.integer(1..=100_000, out));
    let targets = ScaleTargets {
        qps_per_replica: qps?,
        memory_percent: memory?,
        queue_per_replica: queue?,
    };
    let (qps, memory, queue) = (
        targets.qps_per_replica,
        targets.memory_percent,
        targets.queue_per_replica,
    );
    if qps.is_none() && memory.is_none() && queue.is_none() {
        let message = "names no target: give qps_per_replica, memory_percent or queue_per_replica";
        out.add(node.path(), message);
        return None;
    }
    Some(targets)
}

/// Where neither a part nor a number of replicas may come or go, none ever does.
fn check_pace(node: &Node<'_>, max_percent: u32, max_replicas: u32, out: &mut Violations) {
    if max_percent == 0 && max_replicas == 0 {
        let message = "has max_percent and max_replicas 0, so nothing would ever change: give one of them";
        out.add(node.path(), message);
    }
}
