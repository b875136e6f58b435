//! The table and the JSON of the rounds.

use super::SERVED;
use super::variant::Variant;
use crate::bench::statistics::{Ratio, Spread, median};
use crate::demo::say;
use crate::open_loop::Seen;
use anyhow::{Context, Result};
use hdrhistogram::Histogram;
use serde::Serialize;

/// gRPC `UNAVAILABLE`: what Envoy answers when a limit of a pool is reached.
const REFUSED: &str = "14";

/// One measurement.
#[derive(Debug)]
pub(super) struct Round {
    pub(super) interactive: Seen,
    pub(super) batch: Seen,
    /// Connections to workers that Envoy opened.
    pub(super) opened: u64,
    /// Requests that it sent to them.
    pub(super) requests: u64,
}

/// All measurements of one way.
#[derive(Debug)]
pub(super) struct Cell {
    pub(super) variant: Variant,
    pub(super) rounds: Vec<Round>,
}

impl Cell {
    pub(super) fn new(variant: Variant) -> Self {
        Self {
            variant,
            rounds: Vec::new(),
        }
    }

    fn each(&self, of: impl Fn(&Round) -> f64) -> Vec<f64> {
        self.rounds.iter().map(of).collect()
    }

    fn sum(&self, of: impl Fn(&Round) -> u64) -> u64 {
        self.rounds.iter().map(of).sum()
    }
}

/// A line of the table.
#[derive(Debug, Serialize)]
struct Row {
    pool: Variant,
    interactive: Class,
    batch: Class,
    connections_opened: u64,
    requests_sent: u64,
    /// The part of the requests that found a connection open.
    reuse_percent: f64,
    /// Against one pool, in the same rounds.
    interactive_p99_ratio: Ratio,
    interactive_mean_ratio: Ratio,
    /// How late the generator was at most in 99 of 100 requests.
    lateness_p99_us: u64,
}

/// One of the two loads, over all rounds. Latencies are those of requests that were served.
#[derive(Debug, Serialize)]
struct Class {
    asked: u64,
    served: u64,
    /// By a limit of the pool.
    refused: u64,
    /// Otherwise not served.
    failed: u64,
    served_per_second: f64,
    p50_ms: f64,
    p99_ms: f64,
    mean_ms: f64,
    /// Of the rounds.
    p99_by_round_ms: Spread,
}

impl Class {
    fn of(cell: &Cell, seconds: f64, seen: fn(&Round) -> &Seen) -> Result<Self> {
        let count = |status: &str| cell.sum(|round| seen(round).latency.get(status).map_or(0, Histogram::len));
        let asked = cell.sum(|round| seen(round).latency.values().map(Histogram::len).sum());
        let (served, refused) = (count(SERVED), count(REFUSED));
        let mut latency = Histogram::<u64>::new(3)?;
        for of_round in cell.rounds.iter().filter_map(|round| seen(round).latency.get(SERVED)) {
            latency.add(of_round)?;
        }
        Ok(Self {
            asked,
            served,
            refused,
            failed: asked - served - refused,
            served_per_second: served as f64 / (seconds * cell.rounds.len() as f64),
            p50_ms: latency.value_at_quantile(0.5) as f64 / 1e3,
            p99_ms: latency.value_at_quantile(0.99) as f64 / 1e3,
            mean_ms: latency.mean() / 1e3,
            p99_by_round_ms: Spread::of(&cell.each(|round| p99_ms(seen(round)))),
        })
    }

    fn refused_percent(&self) -> f64 {
        self.refused as f64 * 100.0 / self.asked as f64
    }
}

fn p99_ms(seen: &Seen) -> f64 {
    let served = seen.latency.get(SERVED);
    served.map_or(f64::NAN, |latency| latency.value_at_quantile(0.99) as f64 / 1e3)
}

fn mean_ms(seen: &Seen) -> f64 {
    seen.latency
        .get(SERVED)
        .map_or(f64::NAN, |latency| latency.mean() / 1e3)
}

/// Prints the table and gives it as JSON.
pub(super) fn present(cells: &[Cell], seconds: f64) -> Result<serde_json::Value> {
    let shared = cells
        .iter()
        .find(|cell| cell.variant == Variant::Shared)
        .context("one pool is what is compared with")?;
    say(&format!(
        "\n{:<32} {:>27} {:>9} {:>20} {:>15} {:>9} {:>20}",
        "",
        "interactive mean/p50/p99 ms",
        "refused",
        "p99 / one pool",
        "burst served/s",
        "refused",
        "connections, reuse"
    ));
    let mut rows = Vec::new();
    for cell in cells {
        let row = row(cell, shared, seconds)?;
        print(&row, cell.variant);
        rows.push(row);
    }
    say(&format!(
        "generator late by at most {} us in 99 of 100 requests; failed otherwise: {} interactive, {} of the burst",
        rows.iter().map(|row| row.lateness_p99_us).max().unwrap_or(0),
        rows.iter().map(|row| row.interactive.failed).sum::<u64>(),
        rows.iter().map(|row| row.batch.failed).sum::<u64>(),
    ));
    Ok(serde_json::to_value(rows)?)
}

fn row(cell: &Cell, shared: &Cell, seconds: f64) -> Result<Row> {
    let interactive = |of: fn(&Seen) -> f64| {
        let of = |round: &Round| of(&round.interactive);
        Ratio::of(&cell.each(of), &shared.each(of))
    };
    let (opened, requests) = (cell.sum(|round| round.opened), cell.sum(|round| round.requests));
    let late = |round: &Round| round.interactive.lateness.value_at_quantile(0.99) as f64;
    Ok(Row {
        pool: cell.variant,
        interactive: Class::of(cell, seconds, |round| &round.interactive)?,
        batch: Class::of(cell, seconds, |round| &round.batch)?,
        connections_opened: opened,
        requests_sent: requests,
        reuse_percent: requests.saturating_sub(opened) as f64 * 100.0 / requests as f64,
        interactive_p99_ratio: interactive(p99_ms),
        interactive_mean_ratio: interactive(mean_ms),
        lateness_p99_us: median(&cell.each(late)) as u64,
    })
}

fn print(row: &Row, variant: Variant) {
    let Class {
        mean_ms,
        p50_ms,
        p99_ms,
        ..
    } = row.interactive;
    let Ratio { of_medians, low, high } = row.interactive_p99_ratio;
    say(&format!(
        "{:<32} {:>27} {:>8.1}% {:>20} {:>15.0} {:>8.1}% {:>20}",
        variant.name(),
        format!("{mean_ms:.1} / {p50_ms:.1} / {p99_ms:.1}"),
        row.interactive.refused_percent(),
        format!("{of_medians:.2} [{low:.2}..{high:.2}]"),
        row.batch.served_per_second,
        row.batch.refused_percent(),
        format!("{}, {:.2}%", row.connections_opened, row.reuse_percent),
    ));
}
