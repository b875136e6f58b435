//! TimeoutPolicies in real Envoys.

mod alone;
mod calls;
mod learning;
mod mesh;
mod streams;
