//! One model of a policy: its versions, and which of them a bucket belongs to.

use super::split::Split;
use crate::cohort::{Allocation, Salt};
use crate::config::{RoutingPolicy, Weight};

/// One model, compiled.
#[derive(Clone, Debug)]
pub struct ModelRouting {
    name: String,
    salt: String,
    salted: Salt,
    is_default: bool,
    honours_canary_weight: bool,
    stable: VersionRouting,
    /// Stable first, as declared.
    versions: Vec<VersionRouting>,
    split: Split,
}

impl ModelRouting {
    pub(super) fn compile(policy: &RoutingPolicy) -> Self {
        let versions: Vec<_> = policy
            .versions
            .iter()
            .map(|version| VersionRouting {
                route_key: format!("{}/{}", policy.model, version.version),
                name: version.version.clone(),
                weight: version.weight,
            })
            .collect();
        let position = |name: &str| versions.iter().position(|version| version.name == name);
        let split = Split::compile(&Allocation::of_policy(policy), position);
        let stable = versions.first().cloned().unwrap_or_default();
        Self {
            name: policy.model.clone(),
            salted: Salt::new(&policy.salt),
            salt: policy.salt.clone(),
            is_default: policy.default,
            honours_canary_weight: !policy.canary_override.is_empty(),
            stable,
            versions,
            split,
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

    /// Whether `x-canary-weight` counts for anybody.
    pub fn honours_canary_weight(&self) -> bool {
        self.honours_canary_weight
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

    /// The version that a bucket belongs to.
    pub fn at(&self, bucket: u16) -> &VersionRouting {
        self.versions.get(self.split.at(bucket)).unwrap_or(&self.stable)
    }

    /// The same, were the canary's share this many percent.
    pub fn at_canary_percent(&self, bucket: u16, percent: u16) -> &VersionRouting {
        match self.versions.get(1) {
            Some(canary) if bucket < percent.saturating_mul(100) => canary,
            _ => &self.stable,
        }
    }
}

/// One version of a model, compiled.
#[derive(Clone, Debug, Default)]
pub struct VersionRouting {
    name: String,
    route_key: String,
    weight: Weight,
}

impl VersionRouting {
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
}
