//! `kind: RoutingPolicy`: how the traffic of one model is split between its versions.

use serde::Serialize;

use super::cohorts::Cohorts;
use super::limits::{MAX_RULES, MAX_SALT_BYTES, SHADOWS_PER_SECOND};
use super::mesh_policy::read_caller_names;
use super::name;
use super::reader::{Key, Node, Object};
use super::traffic_class::{ModelType, Urgency};
use super::violation::Violations;
use super::weight::Weight;
use super::word::words;

mod rule;
mod versions;

pub use rule::{HeaderCondition, HeaderMatch, RoutingMatch, RoutingRule, RuleVersion};
pub use versions::VersionWeight;

/// How the traffic of one model is split between its versions.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
#[cfg_attr(test, derive(schemars::JsonSchema))]
#[cfg_attr(test, schemars(deny_unknown_fields))]
#[non_exhaustive]
pub struct RoutingPolicy {
    /// The model, as in `x-model`.
    #[cfg_attr(test, schemars(regex(pattern = r"^[a-z0-9][a-z0-9._-]{0,62}$")))]
    pub model: String,
    /// Serves the requests that name no model. At most one in the mesh.
    #[cfg_attr(test, schemars(default))]
    pub default: bool,
    /// What the model does, by which PoolPolicies may name it.
    #[serde(skip_serializing_if = "Option::is_none")]
    #[cfg_attr(test, schemars(with = "ModelType", default))]
    pub model_type: Option<ModelType>,
    /// How urgent its requests are. Without it, P0 unless they say something else.
    #[serde(skip_serializing_if = "Option::is_none")]
    #[cfg_attr(test, schemars(with = "Urgency", default))]
    pub priority: Option<Urgency>,
    /// Goes into the cohort hash; another salt re-draws every cohort. Without it, the name of the document.
    #[cfg_attr(
        test,
        schemars(default, skip_serializing_if = "String::is_empty", length(min = 1, max = 128))
    )]
    pub salt: String,
    /// By what a caller stays on a version: the first of these that a request has. None: every request is drawn anew.
    #[cfg_attr(test, schemars(default = "default_sticky_by", length(max = 3)))]
    pub sticky_by: Vec<StickyKey>,
    /// Groups of callers whose `x-canary-weight` replaces the canary's weight for the request that carries it; `anyone` is
    /// everybody. Needs exactly two versions; the second is the canary.
    #[cfg_attr(
        test,
        schemars(default, length(max = 64), inner(regex(pattern = r"^[a-z0-9][a-z0-9._-]{0,62}$")))
    )]
    pub canary_override: Vec<String>,
    /// Whether a request that pins a version may fall back too.
    #[cfg_attr(test, schemars(default))]
    pub pinned_fallback: bool,
    /// The GPU class of the requests that ask for none.
    #[serde(skip_serializing_if = "Option::is_none")]
    #[cfg_attr(test, schemars(with = "GpuRequest", default))]
    pub gpu: Option<GpuRequest>,
    /// The version that gets copies of some requests.
    #[serde(skip_serializing_if = "Option::is_none")]
    #[cfg_attr(test, schemars(with = "Shadow", default))]
    pub shadow: Option<Shadow>,
    /// At least one. The first is the stable one: it takes what the others leave. Weights sum to 100 percent.
    #[cfg_attr(test, schemars(length(min = 1, max = 64)))]
    pub versions: Vec<VersionWeight>,
    /// The buckets that each version had, so that nobody moves who need not. `kilocard apply` writes it.
    #[serde(skip_serializing_if = "Option::is_none")]
    #[cfg_attr(test, schemars(with = "Cohorts", default))]
    pub cohorts: Option<Cohorts>,
    /// Splits, GPU classes and priorities of their own for some requests; the first rule that matches counts.
    #[cfg_attr(test, schemars(default, length(max = 4096)))]
    pub rules: Vec<RoutingRule>,
}

words! {
    /// Who stays together on a version.
    pub enum StickyKey {
        /// A user, by `x-user-id`.
        User = "user",
        /// A tenant, by `x-tenant-id`.
        Tenant = "tenant",
        /// A session, by `x-session-id`.
        Session = "session",
    }
}

fn default_sticky_by() -> Vec<StickyKey> {
    vec![StickyKey::User]
}

/// The class of GPUs that requests are for.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
#[cfg_attr(test, derive(schemars::JsonSchema))]
#[cfg_attr(test, schemars(deny_unknown_fields))]
#[non_exhaustive]
pub struct GpuRequest {
    /// One that a MeshPolicy declares.
    #[cfg_attr(test, schemars(regex(pattern = r"^[a-z0-9][a-z0-9._-]{0,62}$")))]
    pub class: String,
}

/// Copies of requests to a version whose answers nobody sees.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
#[cfg_attr(test, derive(schemars::JsonSchema))]
#[cfg_attr(test, schemars(deny_unknown_fields))]
#[non_exhaustive]
pub struct Shadow {
    /// One that the policy declares.
    #[cfg_attr(test, schemars(regex(pattern = r"^[a-z0-9]+([._-][a-z0-9]+)*$")))]
    pub version: String,
    /// How many of the requests, in percent with at most two decimals; more than 0.
    #[cfg_attr(test, schemars(with = "f64", range(min = 0.01, max = 100)))]
    pub percent: Weight,
    /// At most so many copies a second from each proxy.
    #[cfg_attr(test, schemars(range(min = 1, max = 100_000)))]
    pub max_per_second: u32,
}

const FIELDS: &[&str] = &[
    "model",
    "default",
    "model_type",
    "priority",
    "salt",
    "sticky_by",
    "canary_override",
    "pinned_fallback",
    "gpu",
    "shadow",
    "versions",
    "cohorts",
    "rules",
];

pub(super) fn read(spec: &Node<'_>, document_name: Option<&str>, out: &mut Violations) -> Option<RoutingPolicy> {
    let spec = spec.object(FIELDS, out)?;
    let model = spec.must("model", out, name::name);
    let default = spec.or_default("default", out, Node::boolean);
    let model_type = spec.maybe("model_type", out, ModelType::read);
    let priority = spec.maybe("priority", out, Urgency::read);
    let salt = match spec.optional("salt") {
        Some(node) => name::text(&node, 1..=MAX_SALT_BYTES, out),
        None => document_name.map(str::to_owned),
    };
    let sticky_by = spec.maybe("sticky_by", out, |node, out| {
        node.set(0..=StickyKey::ALL.len(), out, StickyKey::read)
    });
    let canary_override = spec.or_default("canary_override", out, read_caller_names);
    let pinned_fallback = spec.or_default("pinned_fallback", out, Node::boolean);
    let gpu = spec.maybe("gpu", out, read_gpu);
    let shadow = spec.maybe("shadow", out, read_shadow);
    let versions = spec.must("versions", out, versions::read);
    let cohorts = spec.maybe("cohorts", out, Cohorts::read);
    let rules = spec.or_default("rules", out, |node, out| {
        let key = Key {
            field: ".name",
            of: |rule: &RoutingRule| rule.name.clone(),
        };
        node.distinct(0..=MAX_RULES, &key, out, |node, out| {
            rule::read(node, versions.as_deref(), out)
        })
    });
    if let Some(versions) = &versions {
        check_override(&spec, canary_override.as_deref(), versions.len(), out);
        check_shadow(&spec, shadow.as_ref(), versions, out);
    }
    Some(RoutingPolicy {
        model: model?,
        default: default?,
        model_type: model_type?,
        priority: priority?,
        salt: salt?,
        sticky_by: sticky_by?.unwrap_or_else(default_sticky_by),
        canary_override: canary_override?,
        pinned_fallback: pinned_fallback?,
        gpu: gpu?,
        shadow: shadow?,
        versions: versions?,
        cohorts: cohorts?,
        rules: rules?,
    })
}

fn check_override(spec: &Object<'_>, callers: Option<&[String]>, versions: usize, out: &mut Violations) {
    if versions != 2 && callers.is_some_and(|callers| !callers.is_empty()) {
        let message = format!("needs exactly two versions, the second being the canary; there are {versions}");
        out.add(format!("{}.canary_override", spec.path()), message);
    }
}

fn check_shadow(spec: &Object<'_>, shadow: Option<&Option<Shadow>>, versions: &[VersionWeight], out: &mut Violations) {
    if let Some(Some(shadow)) = shadow
        && !versions::declares(versions, &shadow.version)
    {
        let path = format!("{}.shadow.version", spec.path());
        out.add(path, versions::undeclared(versions, &shadow.version));
    }
}

fn read_gpu(node: &Node<'_>, out: &mut Violations) -> Option<GpuRequest> {
    let gpu = node.object(&["class"], out)?;
    let class = gpu.must("class", out, name::name)?;
    Some(GpuRequest { class })
}

fn read_shadow(node: &Node<'_>, out: &mut Violations) -> Option<Shadow> {
    let shadow = node.object(&["version", "percent", "max_per_second"], out)?;
    let version = shadow.must("version", out, name::version);
    let percent = shadow.must("percent", out, |node, out| {
        let path = node.path();
        let percent = Weight::read(node, out)?;
        if percent == Weight::default() {
            out.add(path, "must be more than 0; leave `shadow` out for no copies");
            return None;
        }
        Some(percent)
    });
    let max_per_second = shadow.must("max_per_second", out, |node, out| node.integer(SHADOWS_PER_SECOND, out));
    Some(Shadow {
        version: version?,
        percent: percent?,
        max_per_second: max_per_second?,
    })
}
