//! CPU that a filter adds to a request in Envoy.
//!
//! Three Envoys that differ in one filter only answer the request themselves (a direct response: no upstream blurs the
//! picture). They run side by side and are loaded in turn, in an order shuffled anew each round, so that neither a busier
//! minute of the machine nor a place in the order favours one. What counts is CPU time of the Envoy process as the scheduler accounts it, not requests
//! per second: generator and Envoy share the cores.

mod generator;
mod variant;

use super::record;
use crate::demo::say;
use crate::install::{Install, state_dir};
use anyhow::{Result, ensure};
use clap::Args;
use serde::Serialize;
use variant::{Proxy, Variant};

/// Flags of `bench filter`.
#[derive(Args, Clone, Debug)]
pub struct Filter {
    /// How many rounds; each measures every variant once
    #[arg(long, default_value_t = 11, value_parser = clap::value_parser!(u32).range(1..=1000))]
    rounds: u32,
    /// Requests of one measurement
    #[arg(long, default_value_t = 10_000, value_parser = clap::value_parser!(u32).range(100..))]
    requests: u32,
    /// Streams under way at a time, on one connection
    #[arg(long, default_value_t = 32, value_parser = clap::value_parser!(u32).range(1..=100))]
    streams: u32,
}

/// CPU of one variant, in microseconds per request.
#[derive(Clone, Debug, Serialize)]
struct Row {
    variant: &'static str,
    median_us: f64,
    /// Against "none" of the same round.
    added_median_us: f64,
    added_min_us: f64,
    added_max_us: f64,
}

impl Filter {
    pub(super) async fn run(self) -> Result<()> {
        let install = Install::locate()?;
        let state = state_dir()?;
        std::fs::create_dir_all(&state)?;
        let dir = tempfile::Builder::new().prefix("bench-filter-").tempdir_in(state)?;
        let mut proxies = Vec::new();
        for variant in Variant::ALL {
            proxies.push(Proxy::start(&install, dir.path(), variant).await?);
        }
        for proxy in &proxies {
            proxy.verify().await?;
            // Warm: connections, caches, the VM's optimising compiler.
            generator::run(proxy.address(), self.requests, self.streams).await?;
        }
        let mut rounds: Vec<[f64; Variant::ALL.len()]> = Vec::new();
        for _ in 0..self.rounds {
            rounds.push(self.round(&proxies).await?);
        }
        self.report(&rounds)
    }

    /// Each variant once, in random order: CPU in microseconds per request.
    async fn round(&self, proxies: &[Proxy]) -> Result<[f64; Variant::ALL.len()]> {
        let mut costs = [0.0; Variant::ALL.len()];
        let mut order: Vec<usize> = (0..proxies.len()).collect();
        fastrand::shuffle(&mut order);
        for index in order {
            let Some(proxy) = proxies.get(index) else { continue };
            let before = proxy.cpu()?;
            generator::run(proxy.address(), self.requests, self.streams).await?;
            let spent = proxy.cpu()?.saturating_sub(before);
            costs[index] = spent.as_secs_f64() * 1e6 / f64::from(self.requests);
        }
        Ok(costs)
    }

    fn report(&self, rounds: &[[f64; Variant::ALL.len()]]) -> Result<()> {
        ensure!(!rounds.is_empty(), "no round");
        say(&format!(
            "CPU of Envoy per request, us; {} rounds of {} requests, {} streams on one connection, one Envoy thread",
            rounds.len(),
            self.requests,
            self.streams
        ));
        say("variant                              median    added   added, min..max");
        let rows: Vec<Row> = Variant::ALL
            .iter()
            .enumerate()
            .map(|(index, variant)| {
                let costs: Vec<f64> = rounds.iter().map(|round| round[index]).collect();
                let added: Vec<f64> = rounds.iter().map(|round| round[index] - round[0]).collect();
                Row {
                    variant: variant.label(),
                    median_us: median(&costs),
                    added_median_us: median(&added),
                    added_min_us: added.iter().copied().fold(f64::INFINITY, f64::min),
                    added_max_us: added.iter().copied().fold(f64::NEG_INFINITY, f64::max),
                }
            })
            .collect();
        for row in &rows {
            let Row {
                variant,
                median_us,
                added_median_us,
                added_min_us,
                added_max_us,
            } = row;
            say(&format!(
                "{variant:<34} {median_us:>8.1} {added_median_us:>+8.1}   {added_min_us:+.1}..{added_max_us:+.1}"
            ));
        }
        if let [_, wasm, lua] = &rows[..] {
            say(&format!(
                "added by wasm / added by Lua: {:.2}",
                wasm.added_median_us / lua.added_median_us
            ));
        }
        record(
            "filter",
            &serde_json::json!({"rounds": rounds.len(), "requests": self.requests, "streams": self.streams, "variants": rows}),
        )
    }
}

fn median(values: &[f64]) -> f64 {
    let mut sorted = values.to_vec();
    sorted.sort_by(f64::total_cmp);
    let middle = sorted.len() / 2;
    if sorted.len() % 2 == 1 {
        sorted[middle]
    } else {
        (sorted[middle - 1] + sorted[middle]) / 2.0
    }
}

#[cfg(test)]
mod tests {
    use super::median;

    #[test]
    fn the_median_of_an_even_count_lies_between_the_middle_two() {
        assert_eq!(median(&[4.0, 1.0, 3.0]), 3.0);
        assert_eq!(median(&[4.0, 1.0, 3.0, 2.0]), 2.5);
    }
}
