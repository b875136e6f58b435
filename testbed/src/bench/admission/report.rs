//! The table and the JSON of the rounds.

use super::variant::Variant;
use crate::demo::say;
use crate::open_loop::Answer;
use anyhow::Result;
use hdrhistogram::Histogram;
use serde::Serialize;

/// gRPC `OK`.
pub(super) const SERVED: &str = "0";
/// gRPC `RESOURCE_EXHAUSTED`: refused by a limit.
const REFUSED: &str = "8";

/// One measurement.
#[derive(Debug)]
pub(super) struct Round {
    pub(super) answers: Vec<Answer>,
    /// Of completed answers.
    pub(super) tokens: u64,
    /// Sequences that the worker lost for want of memory.
    pub(super) lost: u64,
}

/// All measurements of one way.
#[derive(Debug)]
pub(super) struct Cell {
    pub(super) variant: Variant,
    pub(super) rounds: Vec<Round>,
}

/// A line of the table. Shares are of all requests; latencies of those that were served.
#[derive(Debug, Serialize)]
struct Row {
    way: Variant,
    asked: u64,
    refused: u64,
    lost: u64,
    /// Neither served nor refused nor lost.
    failed: u64,
    /// Of what the worker was given.
    lost_percent: f64,
    /// The upper end of the 95 % interval of that: of none lost, three in what was given (Hanley and Lippman-Hand 1983).
    lost_percent_at_most: f64,
    refused_percent: f64,
    p50_ms: f64,
    p99_ms: f64,
    tokens_per_second: f64,
}

impl Cell {
    pub(super) fn new(variant: Variant) -> Self {
        Self {
            variant,
            rounds: Vec::new(),
        }
    }

    fn row(&self, seconds: f64) -> Result<Row> {
        let answers = || self.rounds.iter().flat_map(|round| &round.answers);
        let count = |status: &str| answers().filter(|answer| answer.status == status).count() as u64;
        let mut latency = Histogram::<u64>::new(3)?;
        for answer in answers().filter(|answer| answer.status == SERVED) {
            latency.record(u64::try_from((answer.answered - answer.due).as_micros())?)?;
        }
        let (asked, refused, served) = (answers().count() as u64, count(REFUSED), count(SERVED));
        let lost: u64 = self.rounds.iter().map(|round| round.lost).sum();
        let given = (asked - refused).max(1) as f64;
        let tokens: u64 = self.rounds.iter().map(|round| round.tokens).sum();
        // Normal approximation; with none lost, the rule of three.
        let share = lost as f64 / given;
        let above = if lost == 0 {
            3.0 / given
        } else {
            share + 1.96 * (share * (1.0 - share) / given).sqrt()
        };
        Ok(Row {
            way: self.variant,
            asked,
            refused,
            lost,
            failed: asked.saturating_sub(refused + served + lost),
            lost_percent: share * 100.0,
            lost_percent_at_most: above * 100.0,
            refused_percent: refused as f64 * 100.0 / asked.max(1) as f64,
            p50_ms: latency.value_at_quantile(0.5) as f64 / 1e3,
            p99_ms: latency.value_at_quantile(0.99) as f64 / 1e3,
            tokens_per_second: tokens as f64 / (seconds * self.rounds.len().max(1) as f64),
        })
    }
}

/// Prints the table and gives it as JSON.
pub(super) fn present(cells: &[Cell], seconds: f64) -> Result<serde_json::Value> {
    let rows = cells.iter().map(|cell| cell.row(seconds)).collect::<Result<Vec<_>>>()?;
    let of = |way: Variant| rows.iter().find(|row| row.way == way);
    // What the worker gets through at most with this memory, whatever it loses.
    let with_memory = rows.iter().filter(|row| row.way != Variant::Ample);
    let peak = with_memory.map(|row| row.tokens_per_second).fold(0.0, f64::max);
    say(&format!(
        "\n{:<24} {:>7} {:>18} {:>9} {:>9} {:>9} {:>11} {:>10}",
        "", "asked", "out of memory", "p50 ms", "p99 ms", "refused", "tokens/s", "of peak"
    ));
    for row in &rows {
        say(&format!(
            "{:<24} {:>7} {:>18} {:>9.0} {:>9.0} {:>8.1}% {:>11.0} {:>9.1}%",
            row.way.name(),
            row.asked,
            format!("{:.2}% (≤ {:.2}%)", row.lost_percent, row.lost_percent_at_most),
            row.p50_ms,
            row.p99_ms,
            row.refused_percent,
            row.tokens_per_second,
            row.tokens_per_second * 100.0 / peak,
        ));
    }
    if let Some(joint) = of(Variant::Joint) {
        let (lost, given) = (joint.lost, joint.asked - joint.refused);
        say(&format!("joint: {lost} of {given} given to the worker were lost"));
        if let Some(below) = of(Variant::Below) {
            say(&format!(
                "joint: p99 is {:.2} of that at 0.8 load",
                joint.p99_ms / below.p99_ms
            ));
        }
    }
    say(&format!(
        "{} requests failed otherwise",
        rows.iter().map(|row| row.failed).sum::<u64>()
    ));
    Ok(serde_json::to_value(rows)?)
}
