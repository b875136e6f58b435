//! `kind: RoutingPolicy`: how the traffic of one model is split between its versions.

use std::collections::HashMap;

use serde::Serialize;

use super::limits::{MAX_SALT_BYTES, MAX_VERSIONS};
use super::name;
use super::reader::{Node, Object};
use super::violation::{Violations, quote};
use super::weight::Weight;

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
    /// Goes into the cohort hash; another salt re-draws every cohort. Without it, the name of the document.
    #[cfg_attr(
        test,
        schemars(default, skip_serializing_if = "String::is_empty", length(min = 1, max = 128))
    )]
    pub salt: String,
    /// Whether `x-canary-weight` replaces the canary's weight for the request that carries it. Needs exactly two
    /// versions; the second is the canary.
    #[cfg_attr(test, schemars(default))]
    pub honour_canary_weight: bool,
    /// At least one. The first is the stable one: it takes what the others leave. Weights sum to 100 percent.
    #[cfg_attr(test, schemars(length(min = 1, max = 64)))]
    pub versions: Vec<VersionWeight>,
}

/// A version and its share of the traffic.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
#[cfg_attr(test, derive(schemars::JsonSchema))]
#[cfg_attr(test, schemars(deny_unknown_fields))]
#[non_exhaustive]
pub struct VersionWeight {
    /// As in `x-model-version`.
    #[cfg_attr(test, schemars(regex(pattern = r"^[a-z0-9][a-z0-9._-]{0,62}$")))]
    pub version: String,
    /// Percent, at most two decimals. 0 is served by pin only.
    #[cfg_attr(test, schemars(with = "f64", range(min = 0, max = 100)))]
    pub weight: Weight,
}

const FIELDS: &[&str] = &["model", "default", "salt", "honour_canary_weight", "versions"];

pub(super) fn read(spec: Node<'_>, document_name: Option<&str>, out: &mut Violations) -> Option<RoutingPolicy> {
    let spec = spec.object(FIELDS, out)?;
    let model = spec.required("model", out).and_then(|node| name::name(&node, out));
    let default = read_flag(&spec, "default", out);
    let salt = match spec.optional("salt") {
        Some(node) => name::text(&node, 1..=MAX_SALT_BYTES, out),
        None => document_name.map(str::to_owned),
    };
    let honour_canary_weight = read_flag(&spec, "honour_canary_weight", out);
    let versions = spec.required("versions", out).and_then(|node| read_versions(node, out));

    if let (Some(true), Some(versions)) = (honour_canary_weight, &versions)
        && versions.len() != 2
    {
        let message = format!(
            "needs exactly two versions, the second being the canary; there are {}",
            versions.len()
        );
        out.add("spec.honour_canary_weight", message);
    }
    Some(RoutingPolicy {
        model: model?,
        default: default?,
        salt: salt?,
        honour_canary_weight: honour_canary_weight?,
        versions: versions?,
    })
}

fn read_flag(spec: &Object<'_>, field: &'static str, out: &mut Violations) -> Option<bool> {
    match spec.optional(field) {
        Some(node) => node.boolean(out),
        None => Some(false),
    }
}

/// `None` if any of the versions is wrong: a sum over the remaining ones would be reported as a second, false error.
fn read_versions(node: Node<'_>, out: &mut Violations) -> Option<Vec<VersionWeight>> {
    let path = node.path().to_owned();
    let elements = node.array(1..=MAX_VERSIONS, out)?;
    let count = elements.len();
    let mut versions = Vec::with_capacity(count);
    let mut first_at = HashMap::with_capacity(count);
    for (index, element) in elements.into_iter().enumerate() {
        if let Some(version) = read_version(element, out) {
            let first = *first_at.entry(version.version.clone()).or_insert(index);
            if first != index {
                let message = format!("{} is already in {path}[{first}]", quote(&version.version));
                out.add(format!("{path}[{index}].version"), message);
            }
            versions.push(version);
        }
    }
    if versions.len() < count {
        return None;
    }
    let sum: u32 = versions
        .iter()
        .map(|version| u32::from(version.weight.basis_points()))
        .sum();
    if sum != u32::from(Weight::FULL.basis_points()) {
        out.add(
            path,
            format!(
                "the weights sum to {}; they must sum to exactly 100",
                f64::from(sum) / 100.0
            ),
        );
    }
    Some(versions)
}

fn read_version(element: Node<'_>, out: &mut Violations) -> Option<VersionWeight> {
    let element = element.object(&["version", "weight"], out)?;
    let version = element.required("version", out).and_then(|node| name::name(&node, out));
    let weight = element
        .required("weight", out)
        .and_then(|node| Weight::read(&node, out));
    Some(VersionWeight {
        version: version?,
        weight: weight?,
    })
}
