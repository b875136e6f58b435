//! Bounds on what is accepted, so that a document can neither exhaust the filter's memory nor flood its log.
//!
//! The ranges of header limits keep within what stands around them. Above: Envoy's own limits, which its configuration sets
//! to 192 KiB and 1000 headers, and its HPACK decoder, which takes no name or value over 64 KiB. What exceeds those ends in
//! the codec, without a word about which header it was. Below: what a stock gRPC client with tracing sends through Envoy,
//! which adds headers of its own before the filter. A policy under that would refuse everything.

use std::ops::RangeInclusive;

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
/// What `max_header_value_bytes` may be.
pub const HEADER_VALUE_BYTES: RangeInclusive<u32> = 256..=32 * 1024;
/// What `max_headers` may be.
pub const HEADERS: RangeInclusive<u32> = 32..=500;
/// What `max_headers_total_bytes` may be.
pub const HEADERS_TOTAL_BYTES: RangeInclusive<u32> = 4096..=128 * 1024;

/// Most rules in one RoutingPolicy or ValidationPolicy.
pub const MAX_RULES: usize = 4096;
/// Most different patterns in all documents together.
pub(crate) const MAX_PATTERNS: usize = 4096;
/// Most elements of the short lists in a document: conditions, callers, fallbacks.
pub(super) const MAX_LIST: usize = 64;
/// Most elements of the long lists in a document: methods, tenants, values, addresses.
pub(super) const MAX_LONG_LIST: usize = 1024;
/// Most keys of the runtime section.
pub(super) const MAX_RUNTIME_KEYS: usize = 256;
/// Longest key of the runtime section.
pub(super) const MAX_RUNTIME_KEY_BYTES: usize = 128;
/// Longest text of the runtime section.
pub(super) const MAX_RUNTIME_TEXT_BYTES: usize = 1024;
/// Most groups of callers, and most GPU classes.
pub(super) const MAX_DECLARED: usize = 256;
/// Longest name of a header in a rule.
pub(super) const MAX_HEADER_NAME_BYTES: usize = 128;
/// Longest value that a rule can list.
pub(super) const MAX_LISTED_VALUE_BYTES: usize = 1024;
/// Longest method in a rule.
pub(super) const MAX_METHOD_BYTES: usize = 256;
/// Longest SPIFFE ID (SPIFFE-ID, section 2.3).
pub(super) const MAX_SPIFFE_BYTES: usize = 2048;
/// What `length` of a header rule may hold: the longest value is that of the widest limit.
pub(super) const RULE_LENGTH: RangeInclusive<u32> = 0..=32 * 1024;
/// What `min_memory_gb` of a GPU class may be.
pub(super) const GPU_MEMORY_GB: RangeInclusive<u32> = 1..=4096;
/// What `max_per_second` of a shadow may be.
pub(super) const SHADOWS_PER_SECOND: RangeInclusive<u32> = 1..=100_000;
/// Most PoolPolicies of a mesh. Each may be a cluster more for every model version.
pub(crate) const MAX_POOLS: usize = 64;
/// Most RateLimitPolicies of a mesh: each may be asked about each request.
pub(crate) const MAX_RATE_LIMITS: usize = 64;
/// Most limits in one RateLimitPolicy: one of each unit.
pub(super) const MAX_LIMITS: usize = 3;
/// What `max_keys` of a RateLimitPolicy may be. A key takes 80 to 144 bytes in each proxy.
pub(super) const MAX_KEYS: RangeInclusive<u32> = 1..=1_000_000;
/// What `request_bytes_per_token` and `tokens_per_message` of an AdmissionPolicy may be.
pub(super) const TOKENS_EACH: RangeInclusive<u32> = 1..=4096;
/// What `watermark_percent` of an AdmissionPolicy may be.
pub(super) const WATERMARK_PERCENT: RangeInclusive<u32> = 0..=50;
/// What `output_percentile` of an AdmissionPolicy may be.
pub(super) const OUTPUT_PERCENTILE: RangeInclusive<u32> = 50..=99;
/// What the margins of an AdmissionPolicy may be.
pub(super) const MARGIN_PERCENT: RangeInclusive<u32> = 0..=90;
/// What `stale_ms` of an AdmissionPolicy may be: workers report about once a second.
pub(super) const STALE_MS: RangeInclusive<u32> = 200..=5000;
/// What `wait_ms` of an AdmissionPolicy may be. The real queue is the worker's.
pub(super) const ADMISSION_WAIT_MS: RangeInclusive<u32> = 0..=200;
/// What the limits of a pool may be.
pub(super) const POOL_LIMIT: RangeInclusive<u32> = 1..=1_000_000;
/// What `retry_percent` of a pool may be.
pub(super) const RETRY_PERCENT: RangeInclusive<u32> = 0..=100;
/// What `connect_timeout_ms` of a pool may be.
pub(super) const CONNECT_TIMEOUT_MS: RangeInclusive<u32> = 10..=60_000;
/// What `idle_timeout_s` of a pool may be.
pub(super) const IDLE_TIMEOUT_S: RangeInclusive<u32> = 1..=86_400;
/// What `max_concurrent_streams` of a pool may be.
pub(super) const STREAMS: RangeInclusive<u32> = 1..=100_000;
/// What the windows of a pool's connections may be: HTTP/2's own at least (RFC 9113, section 6.9.2), and at most what Envoy
/// takes.
pub(super) const WINDOW_BYTES: RangeInclusive<u32> = 65_535..=0x7fff_ffff;
/// What `interval_s` of a keep-alive may be.
pub(super) const KEEPALIVE_INTERVAL_S: RangeInclusive<u32> = 2..=7200;
/// What `timeout_s` of a keep-alive may be.
pub(super) const KEEPALIVE_TIMEOUT_S: RangeInclusive<u32> = 1..=600;
