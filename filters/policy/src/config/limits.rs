//! Bounds on what is accepted, so that a document can neither exhaust the filter's memory nor flood its log.

/// Longest document, in bytes of JSON.
pub const MAX_DOCUMENT_BYTES: usize = 256 * 1024;
/// Longest configuration of the filter, in bytes of JSON.
pub const MAX_FILTER_CONFIG_BYTES: usize = 16 * 1024 * 1024;
/// Most documents in one configuration of the filter.
pub const MAX_DOCUMENTS: usize = 4096;
/// Most versions in one RoutingPolicy.
pub const MAX_VERSIONS: usize = 64;
/// Most violations reported for one document; what is beyond is counted.
pub(super) const MAX_VIOLATIONS: usize = 64;
/// Longest salt. Keeps `salt ‖ 0x00 ‖ key` in a small buffer on the stack.
pub(super) const MAX_SALT_BYTES: usize = 128;
/// Longest revision of a filter configuration.
pub(super) const MAX_REVISION_BYTES: usize = 256;
