//! Verdicts on policies, written back for operators: what should be written to etcd ([`plan`], pure) and the writing
//! ([`writer`]), or the files beside a folder of documents ([`folder`]).

pub mod folder;
pub mod plan;
pub mod writer;

use crate::model::inventory::RecordedStatus;
use kilocard_registry::layout::PolicyId;
use kilocard_registry::policy_status::PolicyStatus;
use std::collections::BTreeMap;
use std::sync::Arc;

/// The verdicts as they should stand in etcd and as they do, both as of one revision.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Book {
    /// False until the first listing: before it, nothing is known and nothing must be written.
    pub complete: bool,
    /// Our verdicts.
    pub desired: Arc<BTreeMap<PolicyId, PolicyStatus>>,
    /// What stands in etcd.
    pub recorded: Arc<BTreeMap<PolicyId, RecordedStatus>>,
}
