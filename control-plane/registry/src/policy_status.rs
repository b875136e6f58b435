//! `status/policies/<kind>/<name>`: the control plane's verdict on a policy document.

use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

/// What became of the newest revision of a policy document.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
pub struct PolicyStatus {
    /// The verdict.
    pub state: PolicyState,
    /// etcd `mod_revision` of the document that was judged.
    pub revision: i64,
    /// `mod_revision` of the document in force: the same when accepted, the last good one (or none) when rejected.
    pub serving_revision: Option<i64>,
    /// Why it was rejected: every error with its path. Empty when accepted.
    #[serde(default)]
    pub errors: Vec<PolicyError>,
}

/// The verdict on a document.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "snake_case")]
pub enum PolicyState {
    /// In force.
    Accepted,
    /// Not in force; the last good one, if any, still is.
    Rejected,
}

/// One thing that is wrong with a document.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
pub struct PolicyError {
    /// Where in the document, for example `spec.versions[1].weight`.
    pub path: String,
    /// What is wrong and what would be right.
    pub message: String,
}
