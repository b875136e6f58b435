//! Documents compiled together: immutable, and cheap to ask.

use std::collections::HashMap;
use std::ops::BitOr;
use std::time::Duration;

use crate::caller::CallerGroups;
use crate::config::{Capture, DecisionRecord, Document, FilterConfig, HeaderLimits, MeshState, Violation};
use crate::deadline::ModelDeadlines;
use crate::decision::{Decision, Verdict};
use crate::gpu::Class;
use crate::limit::{CostModel, Table};
use crate::request::RequestView;
use crate::routing;
use crate::validation::{Checked, Outcome, Validation};

mod model;
mod pools;
mod rules;
mod split;
#[cfg(test)]
mod tests;
mod together;

pub use model::{ModelRouting, VersionRouting};
pub(crate) use rules::Rule;
pub(crate) use together::{DeclaredRule, Together};

/// Which stages of the decision run.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Stages(u8);

impl Stages {
    /// Headers and limits.
    pub const VALIDATION: Self = Self(1);
    /// Model and version.
    pub const ROUTING: Self = Self(2);
    /// How much may be asked for.
    pub const LIMITS: Self = Self(4);
    /// How long it may take.
    pub const TIMEOUTS: Self = Self(8);
    /// Every stage that this release has.
    pub const ALL: Self = Self(15);

    /// No stage.
    pub const fn empty() -> Self {
        Self(0)
    }

    /// Whether there is no stage.
    pub const fn is_empty(self) -> bool {
        self.0 == 0
    }

    /// Whether all of `other`'s stages are in.
    pub const fn contains(self, other: Self) -> bool {
        self.0 & other.0 == other.0
    }
}

impl BitOr for Stages {
    type Output = Self;

    fn bitor(self, other: Self) -> Self {
        Self(self.0 | other.0)
    }
}

/// All documents in force, ready to decide.
#[derive(Clone, Debug)]
pub struct Policy {
    revision: String,
    validation: Validation,
    /// By name.
    models: Vec<ModelRouting>,
    default_model: Option<usize>,
    gpu_classes: Vec<Class>,
    decision_record: DecisionRecord,
    capture: Option<Capture>,
    rate_limits: Vec<Table>,
    /// By model.
    cost_models: HashMap<String, CostModel>,
    /// By model.
    deadlines: HashMap<String, ModelDeadlines>,
}

impl Policy {
    /// Compiles documents together, for a mesh in which every version is ready. Where two of them contradict, the later
    /// one is blamed.
    ///
    /// # Errors
    /// Every contradiction: a document twice, two policies for one model, two defaults, a section twice, a name that no
    /// document declares. Paths begin with `Kind/name: `.
    pub fn compile<'a>(
        revision: &str,
        documents: impl IntoIterator<Item = &'a Document>,
    ) -> Result<Self, Vec<Violation>> {
        Self::compile_in(&MeshState::default(), revision, documents)
    }

    /// Compiles what the control plane gives to filters.
    ///
    /// # Errors
    /// As [`compile`](Self::compile).
    pub fn of(config: &FilterConfig) -> Result<Self, Vec<Violation>> {
        Self::compile_in(&config.state, &config.revision, &config.documents)
    }

    /// As [`compile`](Self::compile), for a mesh in this state.
    ///
    /// # Errors
    /// The same.
    pub fn compile_in<'a>(
        state: &MeshState,
        revision: &str,
        documents: impl IntoIterator<Item = &'a Document>,
    ) -> Result<Self, Vec<Violation>> {
        let together = Together::of(documents)?;
        let callers = CallerGroups::new(together.callers.get().into_iter().flatten());
        let validation = Validation::compile(&together, &callers);
        let gpu_classes: Vec<_> = together
            .gpu_classes
            .get()
            .into_iter()
            .flatten()
            .map(Class::compile)
            .collect();
        let shared = model::Shared {
            classes: &gpu_classes,
            callers: &callers,
            state,
            pools: &together.pools,
        };
        // A BTreeMap's order is the order that the look-up by name wants.
        let models: Vec<_> = together
            .models
            .values()
            .map(|declared| ModelRouting::compile(declared.policy, &shared))
            .collect();
        Ok(Self {
            revision: revision.to_owned(),
            validation,
            default_model: models.iter().position(ModelRouting::is_default),
            models,
            gpu_classes,
            decision_record: together.decision_record.get().cloned().unwrap_or_default(),
            capture: together.capture.get().cloned(),
            cost_models: together
                .admissions
                .iter()
                .map(|(model, (_, policy))| ((*model).to_owned(), CostModel::new(policy)))
                .collect(),
            deadlines: together
                .timeouts
                .iter()
                .map(|(model, (_, policy))| ((*model).to_owned(), ModelDeadlines::compile(policy)))
                .collect(),
            rate_limits: together
                .rate_limits
                .iter()
                .map(|declared| Table::compile(declared.document.name(), declared.policy))
                .collect(),
        })
    }

    /// Runs every stage. `random` is uniform over all of `u64`; it decides the version of a request that neither pins one
    /// nor says who asks, and which requests are copied to a shadow.
    pub fn decide<'p>(&'p self, request: &RequestView<'_>, random: u64) -> Decision<'p> {
        self.decide_stages(Stages::ALL, request, random)
    }

    /// Runs some of the stages, for a filter that holds only those. Without the validation stage, routing still checks
    /// the headers it reads.
    pub fn decide_stages<'p>(&'p self, stages: Stages, request: &RequestView<'_>, random: u64) -> Decision<'p> {
        let Some(checked) = self.check(stages, request) else {
            return Decision {
                verdict: Verdict::Pass,
                findings: Vec::new(),
            };
        };
        let routes = stages.contains(Stages::ROUTING);
        let verdict = match checked.outcome {
            Outcome::Refuse(refusal) => Verdict::Refuse(refusal),
            Outcome::Proceed(known) if routes => match routing::route(self, request, &known, random) {
                Ok(route) => Verdict::Route(route),
                Err(refusal) => Verdict::Refuse(*refusal),
            },
            Outcome::Proceed(_) | Outcome::Pass => Verdict::Pass,
        };
        Decision {
            verdict,
            findings: checked.reported,
        }
    }

    /// What the headers are worth; nothing, if no stage is to run.
    fn check<'a, 'p>(&'p self, stages: Stages, request: &RequestView<'a>) -> Option<Checked<'a, 'p>> {
        let routes = stages.contains(Stages::ROUTING);
        if stages.contains(Stages::VALIDATION) {
            let default_model = self.default_model().map(ModelRouting::name);
            return Some(self.validation.check(request, default_model, routes));
        }
        routes.then(|| self.validation.check_for_routing(request))
    }

    /// Whether this request is in the sample that is captured for a replay. `random` as in [`decide`](Self::decide).
    pub fn captures(&self, random: u64) -> bool {
        let capture = self.capture.as_ref();
        capture.is_some_and(|capture| routing::captures(random, capture.percent))
    }

    /// Which requests are captured, if any, and what of them is kept as it is.
    pub fn capture(&self) -> Option<&Capture> {
        self.capture.as_ref()
    }

    /// Whether responses carry the decision record.
    pub fn shows_record(&self) -> bool {
        self.decision_record.response_header
    }

    pub(crate) fn gpu_classes(&self) -> &[Class] {
        &self.gpu_classes
    }

    /// The revision it was compiled from.
    pub fn revision(&self) -> &str {
        &self.revision
    }

    /// The limits that the validation stage holds requests to.
    pub fn limits(&self) -> &HeaderLimits {
        self.validation.limits()
    }

    /// What the [labels](crate::RuleId::label) of rules stand for, by label: `<policy>.<rule>`, or `other` for the last one
    /// if there are more rules than labels.
    pub fn rule_labels(&self) -> &[String] {
        self.validation.rule_labels()
    }

    /// What requests of a model cost: as its AdmissionPolicy says, or by the defaults.
    pub fn cost_model(&self, model: Option<&[u8]>) -> CostModel {
        let model = model.and_then(|model| std::str::from_utf8(model).ok());
        model
            .and_then(|model| self.cost_models.get(model))
            .copied()
            .unwrap_or_default()
    }

    /// How long requests of a model may take, if a TimeoutPolicy says so.
    pub fn deadlines(&self, model: Option<&[u8]>) -> Option<&ModelDeadlines> {
        let model = model.and_then(|model| std::str::from_utf8(model).ok())?;
        self.deadlines.get(model)
    }

    /// Whether requests of any model have timeouts.
    pub fn has_deadlines(&self) -> bool {
        !self.deadlines.is_empty()
    }

    /// Whether memory is a condition for any model.
    pub fn admits_by_memory(&self) -> bool {
        self.cost_models.values().any(|model| model.terms().is_some())
    }

    /// For how long a request waits for memory where it waits longest.
    pub fn longest_wait(&self) -> Duration {
        self.cost_models.values().map(CostModel::wait).max().unwrap_or_default()
    }

    /// The RateLimitPolicies, in the order of documents.
    pub fn rate_limits(&self) -> &[Table] {
        &self.rate_limits
    }

    /// All models, by name.
    pub fn models(&self) -> impl ExactSizeIterator<Item = &ModelRouting> {
        self.models.iter()
    }

    /// The model of that name.
    pub fn model(&self, name: &[u8]) -> Option<&ModelRouting> {
        let index = self
            .models
            .binary_search_by(|model| model.name().as_bytes().cmp(name))
            .ok()?;
        self.models.get(index)
    }

    /// The model of the requests that name none.
    pub fn default_model(&self) -> Option<&ModelRouting> {
        self.default_model.and_then(|index| self.models.get(index))
    }
}
