//! The part of the report that is about limits and GPU memory.

use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

/// The limits that all proxies share, and the GPU memory that there is for requests. Lists hold the largest entries only, and
/// beside each stands how many there are.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize, JsonSchema)]
pub struct LimitsReport {
    /// Whether this replica divides the limits. The others know nothing of how.
    pub divided_here: bool,
    /// Whether nothing is raised yet, since leases of an authority before may still hold; as of the last report of a proxy.
    pub learning: bool,
    /// Proxies that have a share, or wait for one: those that report first, then by how many leases they have.
    pub proxies: Vec<LimitedProxyReport>,
    /// How many there are.
    pub proxies_total: usize,
    /// Those among them that wait for their first share: they let nothing through under these limits.
    pub proxies_waiting: usize,
    /// Those that do not report: what they had as a base share is held for them.
    pub proxies_silent: usize,
    /// Policies with `scope: mesh`, by name.
    pub policies: Vec<SharedPolicyReport>,
    /// GPU memory of the versions of which an AdmissionPolicy makes it a condition; sorted by model and version.
    pub memory: Vec<MemoryReport>,
    /// What versions ask of their memory, and who has it: keys are `<model>/<version>`.
    pub memory_keys: SharedKeysReport,
}

/// A proxy in the division.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize, JsonSchema)]
pub struct LimitedProxyReport {
    /// Its process, a random name; the rate-limit service of this replica is one too.
    pub proxy: String,
    /// Its part of every limit without a lease, percent.
    pub base_percent: f64,
    /// Keys of which it has a lease.
    pub leases: usize,
    /// Leases that it has not acknowledged.
    pub unacknowledged: usize,
    /// How long ago it reported.
    pub reported_ms_ago: u64,
    /// Whether it no longer takes part.
    pub silent: bool,
}

/// A policy whose limits the mesh shares.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize, JsonSchema)]
pub struct SharedPolicyReport {
    /// Its name.
    pub policy: String,
    /// Its limits in words: `100 requests a second, at most 200 at once`.
    pub limits: Vec<String>,
    /// The keys that are divided by demand; all others are at base shares.
    pub keys: SharedKeysReport,
}

/// Keys of which proxies have leases: those of the most demand.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize, JsonSchema)]
pub struct SharedKeysReport {
    /// How many there are.
    pub total: usize,
    /// The first of them.
    pub largest: Vec<SharedKeyReport>,
}

/// A key that is divided by demand.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize, JsonSchema)]
pub struct SharedKeyReport {
    /// `tenant=acme`; empty if the policy tells no keys apart.
    pub key: String,
    /// What all proxies ask for, percent of the limit.
    pub demand_percent: f64,
    /// What they may be using together, percent; at most 100.
    pub used_percent: f64,
    /// The largest share that a proxy has, percent.
    pub largest_share_percent: f64,
    /// The smallest.
    pub smallest_share_percent: f64,
}

/// GPU memory of a version, for requests: without what the policy keeps back.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
pub struct MemoryReport {
    /// Model name.
    pub model: String,
    /// Version name.
    pub version: String,
    /// Workers that serve it and are not on their way out.
    pub endpoints: usize,
    /// Of all endpoints whose reports are fresh, together.
    pub capacity_bytes: u64,
    /// What is free of it.
    pub free_bytes: u64,
    /// What is free at the endpoint with the most.
    pub largest_free_bytes: u64,
    /// How old the oldest of these reports is; without meaning while there is no capacity.
    pub age_ms: u32,
}
