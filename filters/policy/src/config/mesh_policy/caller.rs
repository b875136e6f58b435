//! Groups of callers.

use serde::Serialize;

use super::{Cidr, SpiffePattern};
use crate::config::limits::{MAX_LIST, MAX_LONG_LIST};
use crate::config::name;
use crate::config::reader::Node;
use crate::config::violation::Violations;

/// The group that everybody is in, whoever they are.
pub const ANYONE: &str = "anyone";

/// Callers that other documents name together: whoever has one of the identities, or one of the addresses.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
#[cfg_attr(test, derive(schemars::JsonSchema))]
#[cfg_attr(test, schemars(deny_unknown_fields, extend("anyOf" = [{"required": ["spiffe"]}, {"required": ["addresses"]}])))]
#[non_exhaustive]
pub struct CallerGroup {
    /// By which others name it; unique in the mesh.
    #[cfg_attr(test, schemars(regex(pattern = r"^[a-z0-9][a-z0-9._-]{0,62}$"), extend("not" = {"const": "anyone"})))]
    pub name: String,
    /// Identities that the caller's certificate proves, as URI SANs.
    #[cfg_attr(test, schemars(default, length(max = 1024)))]
    pub spiffe: Vec<SpiffePattern>,
    /// Addresses of the direct peer: of a proxy in front, not of who is behind it.
    #[cfg_attr(test, schemars(default, length(max = 1024)))]
    pub addresses: Vec<Cidr>,
}

impl CallerGroup {
    pub(super) fn read(node: &Node<'_>, out: &mut Violations) -> Option<Self> {
        let group = node.object(&["name", "spiffe", "addresses"], out)?;
        let name = group.must("name", out, |node, out| {
            let path = node.path();
            let name = name::name(node, out)?;
            if name == ANYONE {
                out.add(path, "`anyone` is built in: everybody is in it; use another name");
                return None;
            }
            Some(name)
        });
        let spiffe = group.or_default("spiffe", out, |node, out| {
            node.set(0..=MAX_LONG_LIST, out, SpiffePattern::read)
        });
        let addresses = group.or_default("addresses", out, |node, out| {
            node.set(0..=MAX_LONG_LIST, out, Cidr::read)
        });
        let (spiffe, addresses) = (spiffe?, addresses?);
        if spiffe.is_empty() && addresses.is_empty() {
            out.add(group.path(), "has no members: give spiffe, addresses or both");
            return None;
        }
        Some(Self {
            name: name?,
            spiffe,
            addresses,
        })
    }
}

/// The groups that a document refers to. Whether they are there is for the documents together to say.
pub(in crate::config) fn read_names(node: &Node<'_>, out: &mut Violations) -> Option<Vec<String>> {
    let path = node.path();
    let names = node.set(0..=MAX_LIST, out, name::name)?;
    if names.len() > 1 && names.iter().any(|name| name == ANYONE) {
        out.add(
            path,
            "has `anyone` and others: everybody is in `anyone`, so leave the others out",
        );
        return None;
    }
    Some(names)
}
