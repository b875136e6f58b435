//! Latency baselines that learn, timeouts from them, fault detection and the breaker. Pure: no clock, no I/O, no randomness;
//! the time is an argument, a [`Duration`](std::time::Duration) on a monotonic clock, and a draw is one in 0 … 1.
//!
//! The slow loop, each half minute: threads count in a [`survival::Survival`] for each [`key::Key`], flush it each second into
//! the [`window::Slot`] that they share, and whichever comes first lets the [`learner::Learner`] step, which has the
//! [`baseline`] and the [`timeout`]. [`fleet`] merges many proxies.
//!
//! The fast loop, each 100 ms: threads tell the [`pool::Pool`] what was expected by the [`hazard`] and what came; whichever
//! comes first lets it step its [`detector`]s and [`breaker`]s. [`verdict`] weighs what many proxies think.
//!
//! For each request: [`watchdog`], [`outcome`], [`retry`].
//!
//! What threads share has `to_bytes` and `from_bytes`, which take foreign bytes for nothing. `docs/adr/0019-latency-baselines.md`
//! and `0020-detection-and-breaker.md` say why it is as it is.

pub mod baseline;
pub mod breaker;
mod codec;
pub mod detector;
pub mod fleet;
pub mod hazard;
pub mod key;
pub mod learner;
pub mod outcome;
pub mod pool;
pub mod retry;
pub mod sketch;
pub mod slow;
pub mod survival;
pub mod timeout;
pub mod verdict;
pub mod watchdog;
pub mod window;
