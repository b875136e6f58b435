//! Which requests a limit is about.

use serde::Serialize;

use crate::config::limits::MAX_LONG_LIST;
use crate::config::method::MethodPattern;
use crate::config::name;
use crate::config::reader::Node;
use crate::config::traffic_class::Priority;
use crate::config::violation::Violations;

/// Which requests: those for which all holds that is given.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize)]
#[cfg_attr(test, derive(schemars::JsonSchema))]
#[cfg_attr(test, schemars(deny_unknown_fields, extend("minProperties" = 1)))]
#[non_exhaustive]
pub struct LimitMatch {
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
    /// The version that serves is one of these.
    #[serde(skip_serializing_if = "Vec::is_empty")]
    #[cfg_attr(
        test,
        schemars(
            default,
            length(min = 1, max = 1024),
            inner(regex(pattern = r"^[a-z0-9]+([._-][a-z0-9]+)*$"), length(max = 63))
        )
    )]
    pub versions: Vec<String>,
    /// The method is one of these.
    #[serde(skip_serializing_if = "Vec::is_empty")]
    #[cfg_attr(test, schemars(default, length(min = 1, max = 1024)))]
    pub methods: Vec<MethodPattern>,
    /// `x-tenant-id` is one of these.
    #[serde(skip_serializing_if = "Vec::is_empty")]
    #[cfg_attr(
        test,
        schemars(
            default,
            length(min = 1, max = 1024),
            inner(regex(pattern = r"^[A-Za-z0-9._@:+/=-]{1,128}$"))
        )
    )]
    pub tenants: Vec<String>,
    /// The priority is one of these.
    #[serde(skip_serializing_if = "Vec::is_empty")]
    #[cfg_attr(test, schemars(default, length(min = 1, max = 3)))]
    pub priorities: Vec<Priority>,
}

impl LimitMatch {
    pub(super) fn read(node: &Node<'_>, out: &mut Violations) -> Option<Self> {
        let fields = node.object(&["models", "versions", "methods", "tenants", "priorities"], out)?;
        let models = fields.or_default("models", out, |node, out| node.set(1..=MAX_LONG_LIST, out, name::name));
        let versions = fields.or_default("versions", out, |node, out| {
            node.set(1..=MAX_LONG_LIST, out, name::version)
        });
        let methods = fields.or_default("methods", out, |node, out| {
            node.set(1..=MAX_LONG_LIST, out, MethodPattern::read)
        });
        let tenants = fields.or_default("tenants", out, |node, out| {
            node.set(1..=MAX_LONG_LIST, out, name::tenant)
        });
        let priorities = fields.or_default("priorities", out, |node, out| {
            node.set(1..=Priority::ALL.len(), out, Priority::read)
        });
        let found = Self {
            models: models?,
            versions: versions?,
            methods: methods?,
            tenants: tenants?,
            priorities: priorities?,
        };
        if found == Self::default() {
            let message = "matches nothing in particular: give models, versions, methods, tenants or priorities, or leave \
                           it out for all requests";
            out.add(fields.path(), message);
            return None;
        }
        Some(found)
    }
}
