//! What the gateway module holds in memory, and whether that grows with the requests it has seen.

use super::proxy::{Memory, Proxy};
use super::request::{self, PASSED};
use super::variant::Variant;
use crate::demo::say;
use crate::install::Install;
use crate::open_loop;
use anyhow::Result;
use serde::Serialize;
use std::path::Path;

/// Steps after which the memory is looked at.
const STEPS: u32 = 4;

/// Streams under way at a time on each connection.
const STREAMS: u32 = 16;

/// Envoys of one and of so many worker threads more are compared: the part of one thread is smaller than what two starts of
/// the same Envoy differ by.
const MORE_THREADS: u32 = 8;

/// Requests to each worker thread before its memory is compared.
const WARMING: u32 = 5000;

/// The memory of one Envoy over a load.
#[derive(Debug, Serialize)]
pub(super) struct Growth {
    variant: Variant,
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
    /// Sends so many requests to each worker thread, as fast as they are answered.
    pub(super) async fn measure(proxy: &Proxy, requests_per_thread: u32) -> Result<Self> {
        let mut samples = vec![Sample {
            requests_per_thread: 0,
            memory: proxy.memory().await?,
        }];
        for step in 1..=STEPS {
            let until = share(requests_per_thread, step);
            let more = until - share(requests_per_thread, step - 1);
            // As many connections on each thread: Envoy balances them.
            let asked = (&request::ask(), PASSED);
            open_loop::saturate(
                proxy.address(),
                asked,
                more * proxy.threads(),
                (2 * proxy.threads(), STREAMS),
            )
            .await?;
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

/// What one worker thread holds, in bytes.
#[derive(Debug, Serialize)]
pub(super) struct Thread {
    variant: Variant,
    resident: i64,
    /// Outside of Envoy's heap: V8, code and linear memory, and the stack.
    outside_heap: i64,
    /// On Envoy's heap.
    allocated: i64,
}

/// What one worker thread holds without a filter and with the gateway module, both under the same load.
pub(super) async fn per_thread(install: &Install, dir: &Path) -> Result<Vec<Thread>> {
    let mut threads = Vec::new();
    for variant in [Variant::None, Variant::Gateway] {
        let (few, many) = (
            warmed(install, dir, variant, 1).await?,
            warmed(install, dir, variant, 1 + MORE_THREADS).await?,
        );
        let each = |of: fn(&Memory) -> u64| {
            of(&many).cast_signed().saturating_sub(of(&few).cast_signed()) / i64::from(MORE_THREADS)
        };
        threads.push(Thread {
            variant,
            resident: each(|memory| memory.resident),
            outside_heap: each(Memory::outside_heap),
            allocated: each(|memory| memory.allocated),
        });
    }
    Ok(threads)
}

async fn warmed(install: &Install, dir: &Path, variant: Variant, threads: u32) -> Result<Memory> {
    let dir = tempfile::Builder::new().prefix("memory-").tempdir_in(dir)?;
    let proxy = Proxy::start(install, dir.path(), (variant, threads), false).await?;
    open_loop::saturate(
        proxy.address(),
        (&request::ask(), PASSED),
        WARMING * threads,
        (2 * threads, STREAMS),
    )
    .await?;
    proxy.memory().await
}

pub(super) fn print_threads(threads: &[Thread]) {
    say(&format!(
        "\nmemory of one worker thread, KiB (of {MORE_THREADS} more than one, after {WARMING} requests each)"
    ));
    say("                              resident   outside Envoy's heap   allocated");
    for thread in threads {
        say(&format!(
            "{:<28} {:>9} {:>22} {:>11}",
            thread.variant.label(),
            thread.resident / 1024,
            thread.outside_heap / 1024,
            thread.allocated / 1024,
        ));
    }
}

fn share(requests: u32, step: u32) -> u32 {
    u32::try_from(u64::from(requests) * u64::from(step) / u64::from(STEPS)).unwrap_or(requests)
}

#[expect(clippy::cast_precision_loss, reason = "a figure for people")]
fn mebibytes(bytes: u64) -> f64 {
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
