//! TimeoutPolicies in real Envoys.

mod calls;
mod learning;
mod mesh;
mod streams;
