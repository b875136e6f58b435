//! Policy documents: JSON → parse → validate.
//!
//! A [`Document`] exists only if it is valid by itself. Whatever is wrong with one is reported at once, each
//! [`Violation`] with the path of the offending value, because an operator who gets one error a try gives up early.
//! Documents are walked as [`serde_json::Value`] by a small typed reader rather than by `serde` derive, which stops at
//! the first error and does not know the path.
//!
//! Writing is `serde`: a document serialises to its canonical JSON, all defaults spelled out, so that a later change of
//! a default never changes the meaning of what is already stored.

mod document;
mod filter;
mod limits;
mod name;
mod reader;
mod routing_policy;
#[cfg(test)]
mod tests;
mod unique_keys;
mod validation_policy;
mod violation;
mod weight;

pub use document::{Document, Kind, Spec, UnknownKind, parse, parse_bytes};
pub use filter::FilterConfig;
pub use limits::{
    HEADER_VALUE_BYTES, HEADERS, HEADERS_TOTAL_BYTES, MAX_DOCUMENT_BYTES, MAX_DOCUMENTS, MAX_FILTER_CONFIG_BYTES,
    MAX_VERSIONS,
};
pub use name::is_name;
pub use routing_policy::{RoutingPolicy, VersionWeight};
pub use validation_policy::{HeaderLimits, ValidationPolicy};
pub use violation::Violation;
pub use weight::Weight;
