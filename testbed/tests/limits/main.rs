//! RateLimitPolicies in real Envoys.

#![allow(clippy::print_stdout)] // What part of a limit the proxies use.

mod answers;
mod keys;
mod law;
mod rls;
mod scene;
mod shares;
