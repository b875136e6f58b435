//! Bounds on the headers of a request.

use serde::Serialize;

use crate::config::limits::{HEADER_VALUE_BYTES, HEADERS, HEADERS_TOTAL_BYTES};
use crate::config::reader::{Node, Object};
use crate::config::violation::Violations;

/// Bounds on the headers of a request as the filter sees it: with pseudo-headers, and with those that Envoy adds before
/// the filter, such as `x-forwarded-for`, `x-forwarded-proto` and `x-request-id`. Envoy's own limits come earlier and are
/// wider.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
#[cfg_attr(test, derive(schemars::JsonSchema))]
#[cfg_attr(test, schemars(deny_unknown_fields, default))]
#[non_exhaustive]
pub struct HeaderLimits {
    /// Longest value, in bytes.
    #[cfg_attr(test, schemars(range(min = *HEADER_VALUE_BYTES.start(), max = *HEADER_VALUE_BYTES.end())))]
    pub max_header_value_bytes: u32,
    /// Most headers.
    #[cfg_attr(test, schemars(range(min = *HEADERS.start(), max = *HEADERS.end())))]
    pub max_headers: u32,
    /// Most bytes of all names and values.
    #[cfg_attr(test, schemars(range(min = *HEADERS_TOTAL_BYTES.start(), max = *HEADERS_TOTAL_BYTES.end())))]
    pub max_headers_total_bytes: u32,
}

impl Default for HeaderLimits {
    fn default() -> Self {
        Self {
            max_header_value_bytes: 4096,
            max_headers: 100,
            max_headers_total_bytes: 32 * 1024,
        }
    }
}

const LIMITS: &[&str] = &["max_header_value_bytes", "max_headers", "max_headers_total_bytes"];

pub(super) fn read(node: &Node<'_>, out: &mut Violations) -> Option<HeaderLimits> {
    let defaults = HeaderLimits::default();
    let path = node.path();
    let limits = node.object(LIMITS, out)?;
    let value = read_limit(
        &limits,
        "max_header_value_bytes",
        HEADER_VALUE_BYTES,
        defaults.max_header_value_bytes,
        out,
    );
    let count = read_limit(&limits, "max_headers", HEADERS, defaults.max_headers, out);
    let total = read_limit(
        &limits,
        "max_headers_total_bytes",
        HEADERS_TOTAL_BYTES,
        defaults.max_headers_total_bytes,
        out,
    );
    let limits = HeaderLimits {
        max_header_value_bytes: value?,
        max_headers: count?,
        max_headers_total_bytes: total?,
    };
    if limits.max_headers_total_bytes < limits.max_header_value_bytes {
        let message = format!(
            "is {}, less than max_header_value_bytes, {}: no header could be that long",
            limits.max_headers_total_bytes, limits.max_header_value_bytes
        );
        out.add(format!("{path}.max_headers_total_bytes"), message);
    }
    Some(limits)
}

fn read_limit(
    limits: &Object<'_>,
    field: &'static str,
    range: std::ops::RangeInclusive<u32>,
    default: u32,
    out: &mut Violations,
) -> Option<u32> {
    let limit = limits.maybe(field, out, |node, out| node.integer(range, out))?;
    Some(limit.unwrap_or(default))
}
