//! RateLimitPolicies in real Envoys.

mod answers;
mod keys;
mod law;
mod scene;
mod shares;
