//! The tables and the JSON of the rounds.

use super::variant::Variant;
use crate::bench::statistics::{Ratio, Spread, median};
use crate::demo::say;
use hdrhistogram::Histogram;
use serde::Serialize;

/// The aim for the gateway's added CPU over Lua's.
const OVER_LUA: f64 = 1.3;
/// The aim for the gateway's added CPU over ext_proc's.
const OVER_EXT_PROC: f64 = 0.2;

/// All measurements of one variant with so many worker threads, one entry a round.
#[derive(Debug)]
pub(super) struct Cell {
    pub(super) variant: Variant,
    pub(super) threads: u32,
    /// CPU of Envoy in microseconds per request.
    pub(super) envoy: Vec<f64>,
    /// CPU of the ext_proc server in microseconds per request; zeros without one.
    pub(super) server: Vec<f64>,
    /// Of all rounds, in microseconds.
    pub(super) latency: Histogram<u64>,
    /// Of all rounds, in microseconds.
    pub(super) lateness: Histogram<u64>,
}

impl Cell {
    fn total(&self) -> Vec<f64> {
        self.envoy
            .iter()
            .zip(&self.server)
            .map(|(envoy, server)| envoy + server)
            .collect()
    }
}

/// A line of the table: CPU in microseconds per request.
#[derive(Debug, Serialize)]
struct Row {
    variant: Variant,
    worker_threads: u32,
    cpu_us: Spread,
    /// Of that, the ext_proc server's.
    server_us: f64,
    /// Against no filter in the same round.
    added_us: Spread,
    /// Every round's, in order.
    added_by_round_us: Vec<f64>,
    latency_p50_us: u64,
    latency_p99_us: u64,
    lateness_p99_us: u64,
}

impl Row {
    fn of(cell: &Cell, none: &Cell) -> Self {
        let total = cell.total();
        let added: Vec<f64> = total
            .iter()
            .zip(none.total())
            .map(|(total, none)| total - none)
            .collect();
        Self {
            variant: cell.variant,
            worker_threads: cell.threads,
            cpu_us: Spread::of(&total),
            server_us: median(&cell.server),
            added_us: Spread::of(&added),
            added_by_round_us: added,
            latency_p50_us: cell.latency.value_at_quantile(0.5),
            latency_p99_us: cell.latency.value_at_quantile(0.99),
            lateness_p99_us: cell.lateness.value_at_quantile(0.99),
        }
    }

    fn print(&self) {
        let Spread { median, .. } = self.cpu_us;
        let Spread {
            median: added,
            lower_quartile,
            upper_quartile,
            min,
            max,
        } = self.added_us;
        let server = if self.server_us > 0.0 {
            format!("   of which {:.1} in the server", self.server_us)
        } else {
            String::new()
        };
        say(&format!(
            "{:<28} {median:>7.1} {added:>+8.1} {:>16} {:>16} {:>8} {:>8} {:>8}{server}",
            self.variant.label(),
            format!("{lower_quartile:+.1}..{upper_quartile:+.1}"),
            format!("{min:+.1}..{max:+.1}"),
            self.latency_p50_us,
            self.latency_p99_us,
            self.lateness_p99_us,
        ));
    }
}

/// What the gateway adds over what another variant adds.
#[derive(Debug, Serialize)]
struct Comparison {
    worker_threads: u32,
    over: Variant,
    ratio: Ratio,
    aim: Option<f64>,
    reached: Option<bool>,
}

/// Prints the tables and gives them as JSON.
pub(super) fn present(cells: &[Cell]) -> serde_json::Value {
    let mut threads: Vec<u32> = cells.iter().map(|cell| cell.threads).collect();
    threads.dedup();
    let (mut all, mut comparisons) = (Vec::new(), Vec::new());
    for threads in threads {
        let of: Vec<&Cell> = cells.iter().filter(|cell| cell.threads == threads).collect();
        let Some(none) = of.iter().find(|cell| cell.variant == Variant::None) else {
            continue;
        };
        say(&format!(
            "\nEnvoy with {threads} worker thread{}                CPU    added        quartiles         min..max  latency us        late us",
            if threads == 1 { " " } else { "s" }
        ));
        say("                             us/req                                             p50      p99      p99");
        let rows: Vec<Row> = of.iter().map(|cell| Row::of(cell, none)).collect();
        rows.iter().for_each(Row::print);
        let compared = compare(threads, &rows);
        compared.iter().for_each(Comparison::print);
        all.extend(rows);
        comparisons.extend(compared);
    }
    serde_json::json!({"variants": all, "gateway_over": comparisons})
}

fn compare(threads: u32, rows: &[Row]) -> Vec<Comparison> {
    let added = |variant: Variant| {
        rows.iter()
            .find(|row| row.variant == variant)
            .map(|row| &row.added_by_round_us)
    };
    let Some(gateway) = added(Variant::Gateway) else {
        return Vec::new();
    };
    let others = [
        (Variant::TwoFilters, None),
        (Variant::Lua, Some(OVER_LUA)),
        (Variant::ExtProc, Some(OVER_EXT_PROC)),
    ];
    let compare = |(over, aim): (Variant, Option<f64>)| {
        let ratio = Ratio::of(gateway, added(over)?);
        Some(Comparison {
            worker_threads: threads,
            over,
            ratio,
            aim,
            reached: aim.map(|aim| ratio.of_medians <= aim),
        })
    };
    others.into_iter().filter_map(compare).collect()
}

impl Comparison {
    fn print(&self) {
        let Ratio { of_medians, low, high } = self.ratio;
        let aim = match (self.aim, self.reached) {
            (Some(aim), Some(true)) => format!("; aim {aim}: reached"),
            (Some(aim), _) => format!("; aim {aim}: missed"),
            _ => String::new(),
        };
        say(&format!(
            "added by the gateway / added by {}: {of_medians:.2} (95 %: {low:.2}..{high:.2}){aim}",
            self.over.label()
        ));
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn cell(variant: Variant, envoy: &[f64], server: &[f64]) -> Cell {
        Cell {
            variant,
            threads: 1,
            envoy: envoy.to_vec(),
            server: server.to_vec(),
            latency: Histogram::new(3).unwrap(),
            lateness: Histogram::new(3).unwrap(),
        }
    }

    #[test]
    fn what_is_added_is_against_no_filter_of_the_same_round_and_holds_the_server() {
        let cells = [
            cell(Variant::None, &[10.0, 20.0, 30.0], &[0.0; 3]),
            cell(Variant::Gateway, &[13.0, 23.0, 33.0], &[0.0; 3]),
            cell(Variant::Lua, &[12.0, 22.0, 32.0], &[0.0; 3]),
            cell(Variant::ExtProc, &[20.0, 30.0, 40.0], &[5.0, 5.0, 5.0]),
        ];
        let told = present(&cells);
        assert_eq!(told["variants"][1]["added_us"]["median"], 3.0);
        assert_eq!(told["variants"][3]["added_us"]["median"], 15.0);
        let over = |place: usize| &told["gateway_over"][place];
        assert_eq!((&over(0)["over"], &over(0)["reached"]), (&"lua".into(), &false.into()));
        assert_eq!(
            (&over(1)["over"], &over(1)["reached"]),
            (&"ext_proc".into(), &true.into())
        );
        assert_eq!(over(0)["ratio"]["of_medians"], 1.5);
    }
}
