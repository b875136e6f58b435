//! From the load of a pool's replicas to how many replicas there shall be. A pool is a version of a model. Pure: no clock, no
//! I/O, no randomness; the time is an argument, a [`Duration`](std::time::Duration) since any fixed moment.
//!
//! The arithmetic is that of Kubernetes' HorizontalPodAutoscaler, named step by step where it is followed
//! (<https://kubernetes.io/docs/tasks/run-application/horizontal-pod-autoscale/#algorithm-details>, and
//! `#configurable-scaling-behavior` for windows and pace), over what the mesh knows and a pod autoscaler does not: which replicas
//! are drained, and which reports are old.
//!
//! - [`Sample`]: what is known of a replica.
//! - [`Proposal`]: for how many replicas one metric asks.
//! - [`Scaler`]: what a pool has been asked for over time; its [`decide`](Scaler::decide) gives a [`Decision`] with its
//!   [`Reason`].

mod decision;
mod history;
mod proposal;
mod sample;
mod scaler;
#[cfg(test)]
mod tests;

pub use decision::{Decision, Reason};
pub use proposal::{Metric, Proposal};
pub use sample::{Load, Sample};
pub use scaler::Scaler;
