//! One model of a policy: its versions, and which of them a request may go to.

use super::pools::Pools;
use super::rules::Rules;
use super::split::Split;
use super::together::DeclaredPool;
use crate::caller::{CallerGroups, Callers};
use crate::cohort::{Allocation, Salt};
use crate::config::{MeshState, RoutingPolicy, StickyKey, Urgency, VersionWeight, Weight};
use crate::gpu::Class;

/// What models share.
pub(super) struct Shared<'s> {
    pub(super) classes: &'s [Class],
    pub(super) callers: &'s CallerGroups,
    pub(super) state: &'s MeshState,
    pub(super) pools: &'s [DeclaredPool<'s>],
}

impl Shared<'_> {
    /// The position of a GPU class. Compiling has refused one that is not declared.
    pub(super) fn class(&self, name: &str) -> Option<usize> {
        self.classes.iter().position(|class| class.name() == name)
    }
}

/// One model, compiled.
#[derive(Clone, Debug)]
pub struct ModelRouting {
    name: String,
    salt: String,
    salted: Salt,
    is_default: bool,
    sticky_by: Vec<StickyKey>,
    /// Whose `x-canary-weight` counts.
    override_by: Callers,
    honours_canary_weight: bool,
    pinned_fallback: bool,
    /// The position of the class of requests that ask for none.
    gpu: Option<usize>,
    shadow: Option<Shadowing>,
    stable: VersionRouting,
    /// Stable first, as declared.
    versions: Vec<VersionRouting>,
    split: Split,
    rules: Rules,
    urgency: Urgency,
    pools: Pools,
}

/// Copies to another version, compiled.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Shadowing {
    /// The position of the version.
    pub(crate) version: usize,
    pub(crate) percent: Weight,
    pub(crate) max_per_second: u32,
}

impl ModelRouting {
    pub(super) fn compile(policy: &RoutingPolicy, shared: &Shared<'_>) -> Self {
        let position = |name: &str| policy.versions.iter().position(|version| version.version == name);
        let versions: Vec<_> = policy
            .versions
            .iter()
            .map(|version| VersionRouting::compile(&policy.model, version, shared.state, &position))
            .collect();
        let shadow = policy.shadow.as_ref().and_then(|shadow| {
            Some(Shadowing {
                version: position(&shadow.version)?,
                percent: shadow.percent,
                max_per_second: shadow.max_per_second,
            })
        });
        Self {
            name: policy.model.clone(),
            salted: Salt::new(&policy.salt),
            salt: policy.salt.clone(),
            is_default: policy.default,
            sticky_by: policy.sticky_by.clone(),
            override_by: shared.callers.named(&policy.canary_override),
            honours_canary_weight: !policy.canary_override.is_empty(),
            pinned_fallback: policy.pinned_fallback,
            gpu: policy.gpu.as_ref().and_then(|gpu| shared.class(&gpu.class)),
            shadow,
            stable: versions.first().cloned().unwrap_or_default(),
            versions,
            split: Split::compile(&Allocation::of_policy(policy), position),
            rules: Rules::compile(&policy.rules, shared, position),
            urgency: policy.priority.unwrap_or_default(),
            pools: Pools::compile(shared.pools, &policy.model, policy.model_type),
        }
    }

    /// The model, as in `x-model`.
    pub fn name(&self) -> &str {
        &self.name
    }

    /// Goes into the cohort hash.
    pub fn salt(&self) -> &str {
        &self.salt
    }

    /// The same, as the hash wants it.
    pub fn salted(&self) -> Salt {
        self.salted
    }

    /// Whether it serves the requests that name no model.
    pub fn is_default(&self) -> bool {
        self.is_default
    }

    /// By what a caller stays on a version: the first of these that a request has.
    pub fn sticky_by(&self) -> &[StickyKey] {
        &self.sticky_by
    }

    /// Whether `x-canary-weight` counts for anybody.
    pub fn honours_canary_weight(&self) -> bool {
        self.honours_canary_weight
    }

    pub(crate) fn override_by(&self) -> &Callers {
        &self.override_by
    }

    /// Whether a request that pins a version may fall back.
    pub fn pinned_fallback(&self) -> bool {
        self.pinned_fallback
    }

    pub(crate) fn gpu(&self) -> Option<usize> {
        self.gpu
    }

    pub(crate) fn shadow(&self) -> Option<Shadowing> {
        self.shadow
    }

    pub(crate) fn rules(&self) -> &Rules {
        &self.rules
    }

    /// How urgent its requests are where no rule says otherwise.
    pub(crate) fn urgency(&self) -> Urgency {
        self.urgency
    }

    pub(crate) fn pools(&self) -> &Pools {
        &self.pools
    }

    /// At least one; the first is the stable one.
    pub fn versions(&self) -> &[VersionRouting] {
        &self.versions
    }

    pub(crate) fn stable(&self) -> &VersionRouting {
        &self.stable
    }

    pub(crate) fn version(&self, name: &[u8]) -> Option<&VersionRouting> {
        self.versions.iter().find(|version| version.name.as_bytes() == name)
    }

    /// The version that a bucket belongs to, where no rule says otherwise.
    pub fn at(&self, bucket: u16) -> &VersionRouting {
        self.at_split(&self.split, bucket)
    }

    pub(crate) fn at_split(&self, split: &Split, bucket: u16) -> &VersionRouting {
        self.versions.get(split.at(bucket)).unwrap_or(&self.stable)
    }

    /// The same, were the canary's share this many percent.
    pub fn at_canary_percent(&self, bucket: u16, percent: u16) -> &VersionRouting {
        match self.versions.get(1) {
            Some(canary) if bucket < percent.saturating_mul(100) => canary,
            _ => &self.stable,
        }
    }

    /// The first fallback of a version that is ready.
    pub(crate) fn fallback_of(&self, wanted: &VersionRouting) -> Option<&VersionRouting> {
        let fallbacks = wanted.fallback.iter();
        fallbacks
            .filter_map(|position| self.versions.get(*position))
            .find(|version| version.is_ready)
    }

    /// The names of the fallbacks of a version, in order.
    pub(crate) fn fallbacks_of(&self, wanted: &VersionRouting) -> Vec<&str> {
        let fallbacks = wanted.fallback.iter();
        fallbacks
            .filter_map(|position| self.versions.get(*position))
            .map(VersionRouting::name)
            .collect()
    }
}

/// One version of a model, compiled.
#[derive(Clone, Debug, Default)]
pub struct VersionRouting {
    name: String,
    route_key: String,
    weight: Weight,
    /// Positions of other versions.
    fallback: Vec<usize>,
    is_ready: bool,
    is_saturated: bool,
}

impl VersionRouting {
    fn compile(
        model: &str,
        version: &VersionWeight,
        state: &MeshState,
        position: &dyn Fn(&str) -> Option<usize>,
    ) -> Self {
        let route_key = format!("{model}/{}", version.version);
        let is_in = |keys: &[String]| keys.binary_search(&route_key).is_ok();
        Self {
            is_ready: !is_in(&state.unready),
            is_saturated: is_in(&state.saturated),
            name: version.version.clone(),
            weight: version.weight,
            fallback: version.fallback.iter().filter_map(|name| position(name)).collect(),
            route_key,
        }
    }

    /// The version, as in `x-model-version`.
    pub fn name(&self) -> &str {
        &self.name
    }

    /// `<model>/<version>`.
    pub fn route_key(&self) -> &str {
        &self.route_key
    }

    /// Its share of the traffic that is not pinned.
    pub fn weight(&self) -> Weight {
        self.weight
    }

    /// Whether an endpoint can serve it.
    pub fn is_ready(&self) -> bool {
        self.is_ready
    }

    /// Whether its endpoints have no room for copies.
    pub fn is_saturated(&self) -> bool {
        self.is_saturated
    }
}
