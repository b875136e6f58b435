//! What the gateway module holds in memory, and whether that grows with the requests it has seen.

use super::generator;
use super::proxy::{Memory, Proxy};
use crate::demo::say;
use anyhow::Result;
use serde::Serialize;

/// Steps after which the memory is looked at.
const STEPS: u32 = 4;

/// Streams under way at a time on each connection.
const STREAMS: u32 = 16;

/// The memory of one Envoy over a load.
#[derive(Debug, Serialize)]
pub(super) struct Growth {
    variant: super::variant::Variant,
    worker_threads: u32,
    samples: Vec<Sample>,
}

#[derive(Debug, Serialize)]
struct Sample {
    /// Answered since the first sample, on each worker thread.
    requests_per_thread: u32,
    memory: Memory,
}

impl Growth {
    /// Sends so many requests to each worker thread, as fast as it answers.
    pub(super) async fn measure(proxy: &Proxy, requests_per_thread: u32) -> Result<Self> {
        let mut samples = vec![Sample {
            requests_per_thread: 0,
            memory: proxy.memory().await?,
        }];
        for step in 1..=STEPS {
            let until = share(requests_per_thread, step);
            let more = until - share(requests_per_thread, step - 1);
            // As many connections on each thread: Envoy balances them.
            generator::saturate(proxy.address(), more * proxy.threads(), 2 * proxy.threads(), STREAMS).await?;
            samples.push(Sample {
                requests_per_thread: until,
                memory: proxy.memory().await?,
            });
        }
        Ok(Self {
            variant: proxy.variant(),
            worker_threads: proxy.threads(),
            samples,
        })
    }

    /// The last sample.
    pub(super) fn end(&self) -> Option<Memory> {
        self.samples.last().map(|sample| sample.memory)
    }

    pub(super) fn print(&self) {
        say(&format!(
            "\nmemory of Envoy, MiB: {}, {} worker thread{}",
            self.variant.label(),
            self.worker_threads,
            if self.worker_threads == 1 { "" } else { "s" }
        ));
        say("requests a thread   resident   anonymous   outside Envoy's heap   Envoy's heap   allocated");
        for Sample {
            requests_per_thread,
            memory,
        } in &self.samples
        {
            say(&format!(
                "{requests_per_thread:>17} {:>10.2} {:>11.2} {:>22.2} {:>14.2} {:>11.2}",
                mebibytes(memory.resident),
                mebibytes(memory.anonymous),
                mebibytes(memory.outside_heap()),
                mebibytes(memory.heap),
                mebibytes(memory.allocated),
            ));
        }
    }
}

fn share(requests: u32, step: u32) -> u32 {
    u32::try_from(u64::from(requests) * u64::from(step) / u64::from(STEPS)).unwrap_or(requests)
}

#[expect(clippy::cast_precision_loss, reason = "a figure for people")]
pub(super) fn mebibytes(bytes: u64) -> f64 {
    bytes as f64 / f64::from(1 << 20)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_steps_add_up_to_all_requests() {
        let ends: Vec<u32> = (0..=STEPS).map(|step| share(1_000_000, step)).collect();
        assert_eq!(ends, [0, 250_000, 500_000, 750_000, 1_000_000]);
        assert_eq!(share(u32::MAX, STEPS), u32::MAX);
        assert_eq!(share(7, STEPS), 7);
    }
}
