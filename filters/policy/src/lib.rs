//! Kilocard's policy: the documents that operators write, and the decision about one request.
//!
//! Pure by design: no clock, no I/O, no randomness of its own, nothing of Envoy. Time and randomness come in as
//! arguments and values come out, so that the wasm filter, the control plane and the CLI run the very same code, and a
//! test needs neither a socket nor a sleep.
//!
//! - [`config`]: versioned documents, JSON → parse → validate (every violation, with its path).
//! - [`Policy`]: documents compiled together, cheap to ask.
//! - [`RequestView`] in, [`Decision`] out.
#![cfg_attr(
    not(test),
    deny(clippy::unwrap_used, clippy::expect_used, clippy::panic, clippy::indexing_slicing)
)]

pub mod capture;
pub mod cohort;
pub mod config;
pub mod deadline;
pub mod decision;
pub mod details;
pub mod headers;
pub mod limit;
pub mod policy;
pub mod record;
pub mod request;
pub mod shadow;

mod caller;
#[cfg(test)]
mod fixtures;
mod gpu;
mod known;
mod routing;
mod rule_index;
mod validation;

pub use decision::{
    CanaryOverride, Decision, Finding, GpuWish, GrpcStatus, MAX_FINDINGS, Reached, Refusal, RefusalReason, Route,
    RouteReason, RuleId, ShadowCopy, Verdict,
};
pub use policy::{ModelRouting, Policy, Stages, VersionRouting};
pub use request::{Peer, RequestView};

/// The one `api_version` of documents that this release reads and writes.
pub const API_VERSION: &str = "kilocard/v1";
