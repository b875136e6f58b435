//! `kind: TimeoutPolicy`: how long requests of a model may take, as is learnt from what they take.
//!
//! A policy gives bounds and a first guess. What holds in between is learnt (`docs/timeouts.md`).

use serde::Serialize;

use super::limits::MAX_LONG_LIST;
use super::method::MethodPattern;
use super::name;
use super::reader::Node;
use super::section::section;
use super::violation::Violations;

/// How long requests of one model may take.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
#[cfg_attr(test, derive(schemars::JsonSchema))]
#[cfg_attr(test, schemars(deny_unknown_fields))]
#[non_exhaustive]
pub struct TimeoutPolicy {
    /// The model.
    #[cfg_attr(test, schemars(regex(pattern = r"^[a-z0-9][a-z0-9._-]{0,62}$")))]
    pub model: String,
    /// Of unary calls, from the request to the end of the answer.
    #[cfg_attr(test, schemars(default))]
    pub unary: UnaryTimeout,
    /// Of streams, from the request to the first message.
    #[cfg_attr(test, schemars(default))]
    pub first_message: FirstMessageTimeout,
    /// Of streams, from one message to the next.
    #[cfg_attr(test, schemars(default))]
    pub gap: GapTimeout,
    /// Methods whose answers are streams, besides those of our own APIs: they have no timeout for the whole.
    #[serde(skip_serializing_if = "Vec::is_empty")]
    #[cfg_attr(test, schemars(default, length(min = 1, max = 1024)))]
    pub streams: Vec<MethodPattern>,
    /// Of so many percent of the requests nothing is cut before the ceiling, so that there is something to learn from beyond the timeout.
    #[cfg_attr(test, schemars(default = "default_probe_percent", range(max = 20)))]
    pub probe_percent: u32,
    /// Counts what would be cut, and cuts nothing.
    #[cfg_attr(test, schemars(default))]
    pub shadow: bool,
}

section! {
    /// Bounds of the timeout of unary calls.
    pub struct UnaryTimeout {
        /// What 99.9 % of them are taken not to exceed before anything is learnt, milliseconds.
        initial_p999_ms: 1..=3_600_000, default 5000;
        /// No timeout is shorter, milliseconds.
        floor_ms: 1..=3_600_000, default 50;
        /// No timeout is longer, milliseconds.
        ceiling_ms: 1..=3_600_000, default 60_000;
    }
}

section! {
    /// Bounds of the timeout of the first message.
    pub struct FirstMessageTimeout {
        /// What 99.9 % are taken not to exceed before anything is learnt, milliseconds.
        initial_p999_ms: 1..=3_600_000, default 5000;
        /// No timeout is shorter, milliseconds.
        floor_ms: 1..=3_600_000, default 100;
        /// No timeout is longer, milliseconds.
        ceiling_ms: 1..=3_600_000, default 60_000;
    }
}

section! {
    /// Bounds of the timeout between two messages.
    pub struct GapTimeout {
        /// What 99.9 % are taken not to exceed before anything is learnt, milliseconds.
        initial_p999_ms: 1..=3_600_000, default 2000;
        /// No timeout is shorter, milliseconds.
        floor_ms: 1..=3_600_000, default 250;
        /// No timeout is longer, milliseconds.
        ceiling_ms: 1..=3_600_000, default 30_000;
    }
}

const FIELDS: &[&str] = &[
    "model",
    "unary",
    "first_message",
    "gap",
    "streams",
    "probe_percent",
    "shadow",
];

const fn default_probe_percent() -> u32 {
    2
}

pub(super) fn read(spec: &Node<'_>, out: &mut Violations) -> Option<TimeoutPolicy> {
    let spec = spec.object(FIELDS, out)?;
    let model = spec.must("model", out, name::name);
    let unary = spec.or_default("unary", out, |node, out| {
        let found = UnaryTimeout::read(node, out)?;
        check(node, (found.initial_p999_ms, found.floor_ms, found.ceiling_ms), out);
        Some(found)
    });
    let first_message = spec.or_default("first_message", out, |node, out| {
        let found = FirstMessageTimeout::read(node, out)?;
        check(node, (found.initial_p999_ms, found.floor_ms, found.ceiling_ms), out);
        Some(found)
    });
    let gap = spec.or_default("gap", out, |node, out| {
        let found = GapTimeout::read(node, out)?;
        check(node, (found.initial_p999_ms, found.floor_ms, found.ceiling_ms), out);
        Some(found)
    });
    let streams = spec.or_default("streams", out, |node, out| {
        node.set(1..=MAX_LONG_LIST, out, MethodPattern::read)
    });
    let probe = spec.maybe("probe_percent", out, |node, out| node.integer(0..=20, out));
    let shadow = spec.or_default("shadow", out, Node::boolean);
    Some(TimeoutPolicy {
        model: model?,
        unary: unary?,
        first_message: first_message?,
        gap: gap?,
        streams: streams?,
        probe_percent: probe?.unwrap_or_else(default_probe_percent),
        shadow: shadow?,
    })
}

fn check(node: &Node<'_>, (initial, floor, ceiling): (u32, u32, u32), out: &mut Violations) {
    if floor > ceiling {
        let message = format!("floor_ms, {floor}, is more than ceiling_ms, {ceiling}");
        out.add(node.path(), message);
    } else if !(floor..=ceiling).contains(&initial) {
        let message =
            format!("initial_p999_ms, {initial}, is not within floor_ms and ceiling_ms, {floor} to {ceiling}");
        out.add(node.path(), message);
    }
}
