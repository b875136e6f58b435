//! Classes of GPUs.

use serde::Serialize;

use crate::config::limits::{GPU_MEMORY_GB, MAX_DECLARED, MAX_LIST};
use crate::config::name;
use crate::config::reader::{Key, Node};
use crate::config::violation::{Violations, quote};
use crate::config::word::words;

/// A class of GPUs that requests can ask for, and what they get where there is none.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
#[cfg_attr(test, derive(schemars::JsonSchema))]
#[cfg_attr(test, schemars(deny_unknown_fields))]
#[non_exhaustive]
pub struct GpuClass {
    /// As in `x-gpu-class`; unique in the mesh.
    #[cfg_attr(test, schemars(regex(pattern = r"^[a-z0-9][a-z0-9._-]{0,62}$")))]
    pub name: String,
    /// Which GPUs are in it.
    pub select: GpuSelector,
    /// Classes tried in this order where none is ready; theirs are not tried in turn.
    #[cfg_attr(
        test,
        schemars(default, length(max = 64), inner(regex(pattern = r"^[a-z0-9][a-z0-9._-]{0,62}$")))
    )]
    pub fallback: Vec<String>,
    /// What happens where none of those is ready either.
    #[cfg_attr(test, schemars(default))]
    pub otherwise: Otherwise,
}

words! {
    /// What happens to a request whose GPU class and its fallbacks have nothing ready.
    #[derive(Default)]
    pub enum Otherwise {
        /// Any endpoint serves it.
        #[default]
        Any = "any",
        /// It is UNAVAILABLE.
        Unavailable = "unavailable",
    }
}

/// Which GPUs: those for which all holds that is given.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize)]
#[cfg_attr(test, derive(schemars::JsonSchema))]
#[cfg_attr(test, schemars(deny_unknown_fields, extend("minProperties" = 1)))]
#[non_exhaustive]
pub struct GpuSelector {
    /// One of these words is in the name of the product, as NVML gives it: `h100`.
    #[serde(skip_serializing_if = "Vec::is_empty")]
    #[cfg_attr(
        test,
        schemars(
            default,
            length(min = 1, max = 64),
            inner(regex(pattern = r"^[a-z0-9][a-z0-9._-]{0,62}$"))
        )
    )]
    pub products: Vec<String>,
    /// The architecture is one of these: `hopper`.
    #[serde(skip_serializing_if = "Vec::is_empty")]
    #[cfg_attr(
        test,
        schemars(
            default,
            length(min = 1, max = 64),
            inner(regex(pattern = r"^[a-z0-9][a-z0-9._-]{0,62}$"))
        )
    )]
    pub archs: Vec<String>,
    /// It has at least so much memory, in GB (10⁹ bytes).
    #[serde(skip_serializing_if = "Option::is_none")]
    #[cfg_attr(test, schemars(with = "u32", default, range(min = 1, max = 4096)))]
    pub min_memory_gb: Option<u32>,
    /// Whether it has NVLink to its neighbours.
    #[serde(skip_serializing_if = "Option::is_none")]
    #[cfg_attr(test, schemars(with = "bool", default))]
    pub nvlink: Option<bool>,
    /// It stands in one of these zones.
    #[serde(skip_serializing_if = "Vec::is_empty")]
    #[cfg_attr(test, schemars(default, length(min = 1, max = 64), inner(length(min = 1, max = 63))))]
    pub zones: Vec<String>,
}

/// All classes of a document. A mesh has them all in one document, so whether a fallback is there can be said here.
pub(super) fn read_all(node: &Node<'_>, out: &mut Violations) -> Option<Vec<GpuClass>> {
    let path = node.path();
    let key = Key {
        field: ".name",
        of: |class: &GpuClass| class.name.clone(),
    };
    let classes = node.distinct(0..=MAX_DECLARED, &key, out, read)?;
    let names: std::collections::HashSet<&str> = classes.iter().map(|class| class.name.as_str()).collect();
    for (index, class) in classes.iter().enumerate() {
        for (position, fallback) in class.fallback.iter().enumerate() {
            let message = if *fallback == class.name {
                "is the class itself; name others to try instead".to_owned()
            } else if names.contains(fallback.as_str()) {
                continue;
            } else {
                format!("there is no class {}", quote(fallback))
            };
            out.add(format!("{path}[{index}].fallback[{position}]"), message);
        }
    }
    Some(classes)
}

fn read(node: &Node<'_>, out: &mut Violations) -> Option<GpuClass> {
    let class = node.object(&["name", "select", "fallback", "otherwise"], out)?;
    let name = class.must("name", out, name::name);
    let select = class.must("select", out, read_selector);
    let fallback = class.or_default("fallback", out, |node, out| node.set(0..=MAX_LIST, out, name::name));
    let otherwise = class.or_default("otherwise", out, Otherwise::read);
    Some(GpuClass {
        name: name?,
        select: select?,
        fallback: fallback?,
        otherwise: otherwise?,
    })
}

fn read_selector(node: &Node<'_>, out: &mut Violations) -> Option<GpuSelector> {
    let select = node.object(&["products", "archs", "min_memory_gb", "nvlink", "zones"], out)?;
    let products = select.or_default("products", out, |node, out| node.set(1..=MAX_LIST, out, name::name));
    let archs = select.or_default("archs", out, |node, out| node.set(1..=MAX_LIST, out, name::name));
    let min_memory_gb = select.maybe("min_memory_gb", out, |node, out| node.integer(GPU_MEMORY_GB, out));
    let nvlink = select.maybe("nvlink", out, Node::boolean);
    let zones = select.or_default("zones", out, |node, out| {
        node.set(1..=MAX_LIST, out, |node, out| name::text(node, 1..=63, out))
    });
    let selector = GpuSelector {
        products: products?,
        archs: archs?,
        min_memory_gb: min_memory_gb?,
        nvlink: nvlink?,
        zones: zones?,
    };
    if selector == GpuSelector::default() {
        out.add(
            select.path(),
            "selects nothing: give products, archs, min_memory_gb, nvlink or zones",
        );
        return None;
    }
    Some(selector)
}
