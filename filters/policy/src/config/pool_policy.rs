//! `kind: PoolPolicy`: connections, breakers and HTTP/2 settings of their own for some requests.
//!
//! A document is a pool, and its name the pool's. Limits count in each proxy by itself, for each model version.

use serde::Serialize;

use super::reader::Node;
use super::violation::Violations;

mod requests;
mod settings;

pub use requests::PoolMatch;
pub use settings::{Keepalive, PoolConnections, PoolLimits};

/// The pool of the requests that no other takes. Its document has no `match`.
pub const DEFAULT_POOL: &str = "default";
/// The pool of the requests less urgent than P0 that no other takes. Built in: a quarter of the default pool's limits.
pub const BULK_POOL: &str = "bulk";

/// Connections of their own for some requests.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize)]
#[cfg_attr(test, derive(schemars::JsonSchema))]
#[cfg_attr(test, schemars(deny_unknown_fields))]
#[non_exhaustive]
pub struct PoolPolicy {
    /// Which requests. Required, but for the pool named `default`, which takes what the others leave.
    #[serde(rename = "match", skip_serializing_if = "Option::is_none")]
    #[cfg_attr(test, schemars(with = "PoolMatch", default))]
    pub match_: Option<PoolMatch>,
    /// How much may be under way; what is beyond is refused at once.
    #[cfg_attr(test, schemars(default))]
    pub limits: PoolLimits,
    /// What its connections are like.
    #[cfg_attr(test, schemars(default))]
    pub connections: PoolConnections,
}

pub(super) fn read(spec: &Node<'_>, name: Option<&str>, out: &mut Violations) -> Option<PoolPolicy> {
    let spec = spec.object(&["match", "limits", "connections"], out)?;
    let match_ = spec.maybe("match", out, PoolMatch::read);
    let limits = spec.or_default("limits", out, PoolLimits::read);
    let connections = spec.or_default("connections", out, PoolConnections::read);
    match (name, spec.has("match")) {
        (Some(BULK_POOL), _) => {
            let message = format!(
                "`{BULK_POOL}` is built in; to give the less urgent requests a pool of your own, declare one under another \
                 name with `match: {{priorities: [P1, P2]}}`"
            );
            out.add("metadata.name", message);
        }
        (Some(DEFAULT_POOL), true) => {
            let path = format!("{}.match", spec.path());
            let message =
                format!("the pool `{DEFAULT_POOL}` takes what the others leave: leave it out, or rename the pool");
            out.add(path, message);
        }
        (Some(DEFAULT_POOL) | None, _) | (Some(_), true) => {}
        (Some(_), false) => {
            let message = format!("is required; only the pool `{DEFAULT_POOL}` has none");
            out.add(format!("{}.match", spec.path()), message);
        }
    }
    Some(PoolPolicy {
        match_: match_?,
        limits: limits?,
        connections: connections?,
    })
}
