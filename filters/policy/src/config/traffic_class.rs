//! By what traffic is kept apart: what a model does, and how urgent a request is.

use serde::Serialize;

use super::reader::Node;
use super::violation::Violations;
use super::word::words;

words! {
    /// What a model does, hence what its requests are like.
    #[derive(PartialOrd, Ord)]
    pub enum ModelType {
        /// Generates text: long streams, few at a time.
        Llm = "llm",
        /// Turns texts into vectors: short requests, often in bursts.
        Embedding = "embedding",
        /// Scores texts against a query: short requests that somebody waits for.
        Rerank = "rerank",
    }
}

words! {
    /// How urgent a request is, the most urgent first.
    #[derive(Default, PartialOrd, Ord)]
    pub enum Priority {
        /// Somebody waits for it.
        #[default]
        P0 = "P0",
        /// A batch that is to be done soon.
        P1 = "P1",
        /// Work that may wait for the others.
        P2 = "P2",
    }
}

impl Priority {
    /// What `x-priority` says; nothing, if it is not one of the priorities.
    pub fn from_header(value: &[u8]) -> Option<Self> {
        Self::ALL
            .iter()
            .copied()
            .find(|priority| priority.as_str().as_bytes() == value)
    }
}

/// How urgent requests are that do not say so, and may be at most.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize)]
#[cfg_attr(test, derive(schemars::JsonSchema))]
#[cfg_attr(test, schemars(deny_unknown_fields))]
#[non_exhaustive]
pub struct Urgency {
    /// Of a request without `x-priority`.
    #[cfg_attr(test, schemars(default))]
    pub default: Priority,
    /// The most urgent that `x-priority` may ask for; what asks for more gets this.
    #[cfg_attr(test, schemars(default))]
    pub highest: Priority,
}

impl Urgency {
    /// The priority of a request with this `x-priority`. One that is none, where validation lets such a value through, counts
    /// as not given.
    pub fn of(self, asked: Option<&[u8]>) -> Priority {
        let asked = asked.and_then(Priority::from_header);
        asked.unwrap_or(self.default).max(self.highest)
    }

    pub(super) fn read(node: &Node<'_>, out: &mut Violations) -> Option<Self> {
        let urgency = node.object(&["default", "highest"], out)?;
        let default = urgency.maybe("default", out, Priority::read);
        let highest = urgency.or_default("highest", out, Priority::read);
        let (default, highest) = (default?, highest?);
        let default = default.unwrap_or(highest);
        if default < highest {
            let message = format!("{default} is more urgent than {highest}, the highest that requests may have");
            out.add(format!("{}.default", urgency.path()), message);
            return None;
        }
        Some(Self { default, highest })
    }
}
