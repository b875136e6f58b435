//! Kilocard's control plane: what stands in etcd becomes Envoy's configuration over ADS.
//!
//! ```text
//! source::etcd ──Mesh──▶ publish ──Snapshot──▶ ads ──▶ proxies
//!      │                    └ snapshot::build, weights
//!      └──verdicts──▶ status::writer ──▶ etcd
//! ```
//!
//! [`model`], [`admission`], [`weights`], [`snapshot`], [`source::mirror`], [`source::ledger`] and [`status::plan`] are
//! pure; the rest is what moves their values. An outage of etcd stops nothing: the last good mesh is served until etcd is
//! back. Must not know: how a filter decides.

pub mod admin;
pub mod admission;
pub mod ads;
pub mod config;
pub mod metrics;
pub mod model;
pub mod publish;
pub mod secrets;
pub mod server;
pub mod snapshot;
pub mod source;
pub mod status;
pub mod weights;
