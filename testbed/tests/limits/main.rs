//! RateLimitPolicies in real Envoys.

mod answers;
mod keys;
mod law;
mod memory;
mod plan;
mod pool;
mod rls;
mod scene;
mod shared_memory;
mod shares;
mod standing;
mod tokens;
