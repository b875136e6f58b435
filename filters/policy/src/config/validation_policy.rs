//! `kind: ValidationPolicy`: bounds on the headers of a request.

use serde::Serialize;

use super::limits::{HEADER_VALUE_BYTES, HEADERS, HEADERS_TOTAL_BYTES};
use super::reader::{Node, Object};
use super::violation::Violations;

/// What a request must satisfy.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize)]
#[cfg_attr(test, derive(schemars::JsonSchema))]
#[cfg_attr(test, schemars(deny_unknown_fields))]
#[non_exhaustive]
pub struct ValidationPolicy {
    /// Bounds on the headers.
    #[cfg_attr(test, schemars(default))]
    pub limits: HeaderLimits,
}

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

pub(super) fn read(spec: Node<'_>, out: &mut Violations) -> Option<ValidationPolicy> {
    let spec = spec.object(&["limits"], out)?;
    let limits = match spec.optional("limits") {
        Some(node) => read_limits(node, out)?,
        None => HeaderLimits::default(),
    };
    Some(ValidationPolicy { limits })
}

fn read_limits(node: Node<'_>, out: &mut Violations) -> Option<HeaderLimits> {
    let defaults = HeaderLimits::default();
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
        out.add("spec.limits.max_headers_total_bytes", message);
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
    match limits.optional(field) {
        Some(node) => node.integer(range, out),
        None => Some(default),
    }
}
