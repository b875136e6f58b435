//! RateLimitPolicies in real Envoys.

mod answers;
mod keys;
mod law;
mod memory;
mod plan;
mod rls;
mod scene;
mod shares;
mod standing;
mod tokens;
