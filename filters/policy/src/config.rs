//! Policy documents: JSON → parse → validate.
//!
//! A [`Document`] exists only if it is valid by itself. Whatever is wrong with one is reported at once, each
//! [`Violation`] with the path of the offending value, because an operator who gets one error a try gives up early.
//! Documents are walked as [`serde_json::Value`] by a small typed reader rather than by `serde` derive, which stops at
//! the first error and does not know the path.
//!
//! Writing is `serde`: a document serialises to its canonical JSON, all defaults spelled out, so that a later change of
//! a default never changes the meaning of what is already stored.

mod admission_policy;
mod cohorts;
mod document;
mod filter;
mod limits;
mod mesh_policy;
mod method;
mod name;
mod number_range;
mod pattern;
mod pool_policy;
mod rate_limit_policy;
mod reader;
mod routing_policy;
mod scale_policy;
mod section;
#[cfg(test)]
mod tests;
mod text;
mod timeout_policy;
mod traffic_class;
mod unique_keys;
mod validation_policy;
mod violation;
mod weight;
mod weight_policy;
mod word;

pub use admission_policy::{AdmissionPolicy, MemoryCost, TokenCost};
pub use cohorts::{BucketRange, BucketRanges, Cohorts, NotRanges};
pub use document::{Document, Kind, Spec, UnknownKind, parse, parse_bytes};
pub use filter::{FilterConfig, MeshState};
pub use limits::{
    HEADER_VALUE_BYTES, HEADERS, HEADERS_TOTAL_BYTES, MAX_DOCUMENT_BYTES, MAX_DOCUMENTS, MAX_FILTER_CONFIG_BYTES,
    MAX_RULES, MAX_VERSIONS,
};
pub(crate) use limits::{MAX_PATTERNS, MAX_POOLS, MAX_RATE_LIMITS};
pub use mesh_policy::{
    ANYONE, CallerGroup, Capture, Cidr, DecisionRecord, GpuClass, GpuSelector, MeshPolicy, Otherwise, Runtime,
    RuntimeValue, SpiffePattern,
};
pub use method::MethodPattern;
pub use name::{is_name, is_version};
pub use number_range::NumberRange;
pub use pattern::Pattern;
pub use pool_policy::{BULK_POOL, DEFAULT_POOL, Keepalive, PoolConnections, PoolLimits, PoolMatch, PoolPolicy};
pub use rate_limit_policy::{KeyPart, LimitMatch, LimitScope, LimitUnit, Period, RateLimit, RateLimitPolicy};
pub use routing_policy::{
    GpuRequest, HeaderCondition, HeaderMatch, RoutingMatch, RoutingPolicy, RoutingRule, RuleVersion, Shadow, StickyKey,
    VersionWeight,
};
pub use scale_policy::{RequestRate, ScaleDown, ScalePolicy, ScaleTargets, ScaleUp};
pub use timeout_policy::{FirstMessageTimeout, GapTimeout, TimeoutPolicy, UnaryTimeout};
pub use traffic_class::{ModelType, Priority, Urgency};
pub use validation_policy::{
    ContentClass, GrpcWebMode, HeaderLimits, HeaderRule, HttpMode, InternalHeaders, LengthRange, MethodLists,
    Protocols, RefusalOptions, ReportOnly, RuleAction, RuleMatch, ValidationPolicy,
};
pub use violation::Violation;
pub(crate) use violation::Violations;
pub use weight::Weight;
pub use weight_policy::{
    CapacityConstants, CardCapacity, FaultConstants, LinkConstants, LoadConstants, LocalityLevel, MemoryConstants,
    PublicationConstants, SlowStartConstants, SmoothingConstants, SpilloverConstants, StalenessConstants,
    ThermalConstants, WeightPolicy,
};
