//! Which requests a pool takes.

use serde::Serialize;

use crate::config::limits::{MAX_LIST, MAX_LONG_LIST};
use crate::config::name;
use crate::config::reader::Node;
use crate::config::traffic_class::{ModelType, Priority};
use crate::config::violation::Violations;

/// Which requests a pool takes: those for which all holds that is given. Of two pools that would take a request, the one
/// counts that names the model, then the type of the model, then the SLA, then the priority.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize)]
#[cfg_attr(test, derive(schemars::JsonSchema))]
#[cfg_attr(test, schemars(deny_unknown_fields, extend("minProperties" = 1)))]
#[non_exhaustive]
pub struct PoolMatch {
    /// The model is one of these.
    #[serde(skip_serializing_if = "Vec::is_empty")]
    #[cfg_attr(
        test,
        schemars(
            default,
            length(min = 1, max = 1024),
            inner(regex(pattern = r"^[a-z0-9][a-z0-9._-]{0,62}$"))
        )
    )]
    pub models: Vec<String>,
    /// The model's RoutingPolicy says one of these as its `model_type`. Not together with `models`.
    #[serde(skip_serializing_if = "Vec::is_empty")]
    #[cfg_attr(test, schemars(default, length(min = 1, max = 3)))]
    pub model_types: Vec<ModelType>,
    /// `x-sla` is one of these.
    #[serde(skip_serializing_if = "Vec::is_empty")]
    #[cfg_attr(
        test,
        schemars(
            default,
            length(min = 1, max = 64),
            inner(regex(pattern = r"^[a-z0-9][a-z0-9._-]{0,62}$"))
        )
    )]
    pub sla: Vec<String>,
    /// The priority, by `x-priority` within what the RoutingPolicy allows, is one of these.
    #[serde(skip_serializing_if = "Vec::is_empty")]
    #[cfg_attr(test, schemars(default, length(min = 1, max = 3)))]
    pub priorities: Vec<Priority>,
}

impl PoolMatch {
    /// Whether it may take requests of a model at all.
    pub fn concerns(&self, model: &str, model_type: Option<ModelType>) -> bool {
        let by_name = self.models.is_empty() || self.models.iter().any(|name| name == model);
        let by_type = self.model_types.is_empty() || model_type.is_some_and(|of| self.model_types.contains(&of));
        by_name && by_type
    }

    /// Whether it takes requests of this priority and SLA, the model being one that it [concerns](Self::concerns).
    pub(crate) fn takes(&self, priority: Priority, sla: Option<&[u8]>) -> bool {
        let by_sla = || self.sla.is_empty() || sla.is_some_and(|sla| self.sla.iter().any(|one| one.as_bytes() == sla));
        (self.priorities.is_empty() || self.priorities.contains(&priority)) && by_sla()
    }

    /// How much it says: of two that would take a request, the greater counts.
    pub(crate) fn rank(&self) -> u8 {
        let given = [
            !self.priorities.is_empty(),
            !self.sla.is_empty(),
            !self.model_types.is_empty(),
            !self.models.is_empty(),
        ];
        given
            .into_iter()
            .enumerate()
            .map(|(place, given)| u8::from(given) << place)
            .sum()
    }

    /// Whether both would take some request, and neither says more than the other.
    pub(crate) fn contradicts(&self, other: &Self) -> bool {
        fn meet<T: PartialEq>(one: &[T], other: &[T]) -> bool {
            one.is_empty() || one.iter().any(|value| other.contains(value))
        }
        self.rank() == other.rank()
            && meet(&self.models, &other.models)
            && meet(&self.model_types, &other.model_types)
            && meet(&self.sla, &other.sla)
            && meet(&self.priorities, &other.priorities)
    }

    pub(super) fn read(node: &Node<'_>, out: &mut Violations) -> Option<Self> {
        let fields = node.object(&["models", "model_types", "sla", "priorities"], out)?;
        let models = fields.or_default("models", out, |node, out| node.set(1..=MAX_LONG_LIST, out, name::name));
        let model_types = fields.or_default("model_types", out, |node, out| {
            node.set(1..=ModelType::ALL.len(), out, ModelType::read)
        });
        let sla = fields.or_default("sla", out, |node, out| node.set(1..=MAX_LIST, out, name::name));
        let priorities = fields.or_default("priorities", out, |node, out| {
            node.set(1..=Priority::ALL.len(), out, Priority::read)
        });
        let found = Self {
            models: models?,
            model_types: model_types?,
            sla: sla?,
            priorities: priorities?,
        };
        if found == Self::default() {
            let message = "matches nothing in particular: give models, model_types, sla or priorities";
            out.add(fields.path(), message);
            return None;
        }
        if !found.models.is_empty() && !found.model_types.is_empty() {
            let message = "names models already, whose types are known; give either models or model_types";
            out.add(format!("{}.model_types", fields.path()), message);
            return None;
        }
        Some(found)
    }
}
