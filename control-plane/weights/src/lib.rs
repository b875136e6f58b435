//! From cards and load reports to the weights of endpoints, and to which endpoints are drained. Pure: no clock, no I/O, no
//! randomness; the time is an argument, a [`Duration`](std::time::Duration) since any fixed moment.
//!
//! A proxy picks an endpoint for each request by its own count of requests in flight, over weights. So a weight has to be
//! slow and right, not fast: it tells what an endpoint can bear, and the count tells what it bears now (`docs/weights.md`
//! has the formula, [`Params`] its constants).
//!
//! - [`Card`]: what a worker computes on, and the capacity expected of it.
//! - [`factor`]: what a load report takes away from that, factor by factor, each with its reason.
//! - [`fault`]: for what an endpoint is drained.
//! - [`Locality`]: where endpoints are, and [`Split`]: which part of a locality's requests goes elsewhere while its own are
//!   overloaded.
//! - [`Fleet`]: all endpoints over time. It is told what is observed ([`Fleet::observe`], [`Fleet::forget`]) and asked when
//!   something is due ([`Fleet::due`], [`Fleet::tick`]); it answers with weights ([`Fleet::weighed`]) and with why
//!   ([`Fleet::explain`]).

mod capacity;
mod card;
mod compile;
mod endpoint;
mod explain;
pub mod factor;
pub mod fault;
mod fleet;
mod locality;
mod params;
mod pool;
mod spill;
#[cfg(test)]
mod tests;

pub use card::{Card, CardPrior};
pub use endpoint::{Standing, Weighed};
pub use fleet::{Fleet, Subject};
pub use locality::{Distance, Level, Locality};
pub use params::{
    Constants, FaultRules, MeasuredCapacity, MemoryRamp, Params, Publication, SlowStart, Smoothing, Spillover,
    Staleness, ThermalRamp,
};
pub use spill::{Site, Split};

/// Heaviest endpoint. Envoy sums the weights of a locality in 32 bits, so this leaves room for millions of endpoints.
pub const MAX_WEIGHT: u32 = 1000;
