//! A discrete-event simulation of a GPU cluster behind gateways, to compare ways of balancing on the very same requests.
//!
//! Owns: the model of cards, traffic, faults and telemetry, Envoy's balancers as Envoy does them, and what is measured. The
//! weights come from the control plane's own code. Everything is simulated, and pure: no clock, no I/O, one seed one result.
//!
//! What the model leaves out: batching effects (a card does the same work a second for one request as for many), prefix
//! caches, network latency, retries other than of refused requests, Envoy's outlier detection.

pub mod arm;
pub mod balancer;
pub mod card;
pub mod catalogue;
pub mod chance;
pub mod control;
pub mod engine;
pub mod fleet;
pub mod moment;
pub mod record;
pub mod scenario;
pub mod sensor;
pub mod summary;
pub mod workload;
