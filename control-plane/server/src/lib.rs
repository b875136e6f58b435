//! Kilocard's control plane: what stands in etcd becomes Envoy's configuration over ADS.
//!
//! ```text
//! source::etcd ──▶ source::intake ──Mesh──▶ publish ──Snapshot──▶ ads ──▶ proxies
//!                                    │      │                └ snapshot::build, weights
//!                                    │      └──verdicts──▶ status ──▶ etcd, a folder
//!                                    └──last good state──▶ saved ──▶ disk
//! ```
//!
//! [`model`], [`admission`], [`weights`], [`snapshot`], [`source::mirror`], [`source::hold`], [`source::ledger`] and
//! [`status::plan`] are pure; the rest is what moves their values. An outage of etcd stops nothing: the last good mesh is served until etcd is
//! back. Must not know: how a filter decides.

pub mod admin;
pub mod admission;
pub mod ads;
pub mod audience;
pub mod config;
pub mod election;
pub mod metrics;
pub mod model;
pub mod publish;
pub mod rls;
pub mod saved;
pub mod scaling;
pub mod secrets;
pub mod server;
pub mod snapshot;
pub mod source;
pub mod status;
pub mod sync;
pub mod weights;
