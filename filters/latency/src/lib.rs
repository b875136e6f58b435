//! Latency baselines that learn, timeouts from them, fault detection and the breaker. Pure: no clock, no I/O, no randomness;
//! the time is an argument, a [`Duration`](std::time::Duration) on a monotonic clock, and a draw is one in 0 … 1.

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
