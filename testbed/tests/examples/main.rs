//! The configurations that users copy: those for plain Envoy are loaded by real Envoy and serve, those for Kubernetes are
//! checked as far as that goes without a cluster.

mod autoscaling;
mod ecds;
mod example;
mod kubernetes;
mod rate_limit;
mod schema;
mod separate_filters;
mod static_gateway;
