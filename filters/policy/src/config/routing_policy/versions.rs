//! The versions of a split and their weights.

use serde::Serialize;

use crate::config::limits::MAX_VERSIONS;
use crate::config::name;
use crate::config::reader::{Key, Node};
use crate::config::violation::{Violations, quote};
use crate::config::weight::Weight;

/// A version and its share of the traffic.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
#[cfg_attr(test, derive(schemars::JsonSchema))]
#[cfg_attr(test, schemars(deny_unknown_fields))]
#[non_exhaustive]
pub struct VersionWeight {
    /// As in `x-model-version`.
    #[cfg_attr(test, schemars(regex(pattern = r"^[a-z0-9]+([._-][a-z0-9]+)*$"), length(max = 63)))]
    pub version: String,
    /// Percent, at most two decimals. 0 is served by pin only.
    #[cfg_attr(test, schemars(with = "f64", range(min = 0, max = 100)))]
    pub weight: Weight,
    /// Versions tried in this order while this one has no ready endpoint; theirs are not tried in turn. Without it, none for
    /// the first version and the first version for the others.
    #[cfg_attr(
        test,
        schemars(
            default,
            skip_serializing_if = "Vec::is_empty",
            length(max = 63),
            inner(regex(pattern = r"^[a-z0-9]+([._-][a-z0-9]+)*$"), length(max = 63))
        )
    )]
    pub fallback: Vec<String>,
}

/// A version as it is read: a fallback that is not given depends on the first version.
struct Given {
    version: String,
    weight: Weight,
    fallback: Option<Vec<String>>,
}

/// `None` if any of the versions is wrong: a sum over the remaining ones would be reported as a second, false error.
pub(super) fn read(node: &Node<'_>, out: &mut Violations) -> Option<Vec<VersionWeight>> {
    let path = node.path();
    let key = Key {
        field: ".version",
        of: |given: &Given| given.version.clone(),
    };
    let given = node.distinct(1..=MAX_VERSIONS, &key, out, read_one)?;
    check_sum(path, given.iter().map(|given| given.weight), out);
    let first = given.first().map(|given| given.version.clone());
    let versions: Vec<_> = given
        .into_iter()
        .enumerate()
        .map(|(index, given)| VersionWeight {
            version: given.version,
            weight: given.weight,
            fallback: match given.fallback {
                Some(fallback) => fallback,
                None if index == 0 => Vec::new(),
                None => first.iter().cloned().collect(),
            },
        })
        .collect();
    for (index, version) in versions.iter().enumerate() {
        check_fallback(&format!("{path}[{index}]"), version, &versions, out);
    }
    Some(versions)
}

fn read_one(element: &Node<'_>, out: &mut Violations) -> Option<Given> {
    let element = element.object(&["version", "weight", "fallback"], out)?;
    let version = element.must("version", out, name::version);
    let weight = element.must("weight", out, Weight::read);
    let fallback = element.maybe("fallback", out, |node, out| {
        node.set(0..=MAX_VERSIONS - 1, out, name::version)
    });
    Some(Given {
        version: version?,
        weight: weight?,
        fallback: fallback?,
    })
}

fn check_fallback(path: &str, version: &VersionWeight, versions: &[VersionWeight], out: &mut Violations) {
    for (position, fallback) in version.fallback.iter().enumerate() {
        let message = if *fallback == version.version {
            "is the version itself; name others to try instead".to_owned()
        } else if declares(versions, fallback) {
            continue;
        } else {
            undeclared(versions, fallback)
        };
        out.add(format!("{path}.fallback[{position}]"), message);
    }
}

pub(super) fn check_sum(path: &str, weights: impl Iterator<Item = Weight>, out: &mut Violations) {
    let sum: u32 = weights.map(|weight| u32::from(weight.basis_points())).sum();
    if sum != u32::from(Weight::FULL.basis_points()) {
        let sum = f64::from(sum) / 100.0;
        out.add(path, format!("the weights sum to {sum}; they must sum to exactly 100"));
    }
}

pub(super) fn declares(versions: &[VersionWeight], name: &str) -> bool {
    versions.iter().any(|version| version.version == name)
}

/// What to say about a version that the policy does not have.
pub(super) fn undeclared(versions: &[VersionWeight], name: &str) -> String {
    let declared: Vec<_> = versions.iter().map(|version| version.version.as_str()).collect();
    format!(
        "there is no version {}; spec.versions has {}",
        quote(name),
        declared.join(", ")
    )
}
