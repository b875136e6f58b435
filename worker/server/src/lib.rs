//! The inference worker: serves a model repository over the Open Inference Protocol v2 and makes itself known in etcd.
//!
//! Owns: the gRPC services ([`service`]), what is served ([`models`]), registration under a lease ([`registration`]),
//! draining ([`worker`]), metrics and the admin endpoint. Must not know: how a tensor is computed (`kilocard-engine`),
//! how requests are routed (`x-kilocard-route` arrives decided).

pub mod admin;
pub mod cli;
pub mod config;
mod deadline;
pub mod endpoints;
#[cfg(test)]
mod fixture;
pub mod health;
pub mod inspect;
pub mod load_report;
pub mod meter;
pub mod metrics;
pub mod models;
pub mod nvml;
mod quote;
pub mod rdma;
pub mod registration;
pub mod service;
pub mod simulated_gpu;
pub mod worker;
