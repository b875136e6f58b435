//! The results for people.

use super::Simulated;
use crate::table::Table;
use kilocard_simulator::arm::Arm;
use kilocard_simulator::scenario::{Fault, FaultKind};
use kilocard_simulator::summary::{Aim, Figures, Result as ArmResult, Spread, aims};
use std::fmt::Write;

/// Faults that are told one by one; of more only the number.
const FAULTS_TOLD: usize = 5;

pub(super) fn render(simulated: &Simulated<'_>) -> String {
    let mut text = heading(simulated);
    text.push_str("\nBALANCERS (median of the runs; in brackets the least and the most)\n");
    let mut table = Table::new(&[
        "BALANCER",
        "P50",
        "P99",
        "P99.9",
        "SHARE ERROR",
        "WORST CARD",
        "BUSIEST 100 MS",
        "P99/STATIC",
        "P99/ROUND ROBIN",
        "FAILED",
        "PUSHES/MIN",
    ])
    .indented(2);
    let of = |arm: Arm| simulated.results.iter().find(|result| result.arm == arm);
    let ratio = |result: &ArmResult, arm| shown(of(arm).and_then(|other| result.p99_over(other)), number);
    for result in simulated.results {
        let spread = |figure: fn(&Figures) -> Option<f64>, unit: fn(f64) -> String| shown(result.spread(figure), unit);
        table.row([
            result.arm.name().to_owned(),
            spread(|run| Some(run.p50_s), time),
            spread(|run| Some(run.p99_s), time),
            spread(|run| Some(run.p999_s), time),
            spread(|run| run.share_error, percent),
            spread(|run| run.worst_endpoint, percent),
            spread(|run| run.busiest, times),
            ratio(result, Arm::StaticWeights),
            ratio(result, Arm::RoundRobin),
            result.runs.iter().map(|run| run.failed).sum::<u64>().to_string(),
            spread(|run| Some(run.pushes_per_minute), |value| format!("{value:.0}")),
        ]);
    }
    let _ = write!(text, "{table}");
    for result in simulated.results {
        let _ = writeln!(text, "  {}: {}", result.arm.name(), result.arm.explanation());
    }
    let aims = aims(simulated.results);
    if !aims.is_empty() {
        text.push_str("\nAIMS (every run has to meet them)\n");
        aims.iter().for_each(|aim| tell(&mut text, aim));
    }
    text
}

fn heading(simulated: &Simulated<'_>) -> String {
    let (args, scenario) = (simulated.args, simulated.scenario);
    let requests: u64 = simulated
        .results
        .first()
        .map_or(0, |result| result.runs.iter().map(|run| run.requests).sum());
    let mut text = format!(
        "simulated: {} cards ({}), true capacities within {:.0}% of their model's; load {}, {:.0} requests/s of {} ms; {} \
         gateways of {} threads\n",
        scenario.cards.len(),
        args.gpus,
        args.spread * 100.0,
        args.load,
        scenario.rate(),
        args.work.as_millis(),
        args.gateways,
        args.threads,
    );
    let _ = writeln!(
        text,
        "{} s measured after {} s, {} runs from seed {}: {requests} requests to each balancer",
        args.seconds,
        args.warm_up.as_secs(),
        args.runs,
        args.seed
    );
    for fault in scenario.faults.iter().take(FAULTS_TOLD) {
        let _ = writeln!(text, "{}", describe(fault, &scenario.cards));
    }
    if let Some(more) = scenario.faults.len().checked_sub(FAULTS_TOLD).filter(|more| *more > 0) {
        let _ = writeln!(text, "and {more} faults more");
    }
    text
}

fn describe(fault: &Fault, cards: &[kilocard_simulator::scenario::CardSpec]) -> String {
    let model = cards.get(fault.card).map_or("", |card| card.model.as_str());
    let (card, at) = (fault.card, fault.at.as_secs_f64());
    match fault.kind {
        FaultKind::Throttle { factor, lasts } => {
            let until = at + lasts.as_secs_f64();
            format!(
                "card {card} ({model}) runs at {:.0}% from {at} s to {until} s",
                factor * 100.0
            )
        }
        FaultKind::Fail => format!("card {card} ({model}) fails at {at} s"),
        FaultKind::Join => format!("card {card} ({model}) joins at {at} s"),
    }
}

fn tell(text: &mut String, aim: &Aim) {
    let verdict = match aim.is_met() {
        Some(true) => "met    ",
        Some(false) => "MISSED ",
        None => "unknown",
    };
    let found = match aim.found {
        Some(found) => shown(Some(found), number),
        None => "these runs do not tell".to_owned(),
    };
    let _ = writeln!(text, "  {verdict}  {}: {found}; at most {}", aim.text, aim.bound);
}

/// A figure with its spread, which is left out where there is none to see.
fn shown(spread: Option<Spread>, unit: impl Fn(f64) -> String) -> String {
    let Some(Spread { median, min, max }) = spread else {
        return "-".to_owned();
    };
    let (median, min, max) = (unit(median), unit(min), unit(max));
    if min == max {
        median
    } else {
        format!("{median} ({min}–{max})")
    }
}

fn percent(value: f64) -> String {
    format!("{:.1}%", value * 100.0)
}

fn times(value: f64) -> String {
    format!("{value:.2}×")
}

/// Three digits or so.
fn number(value: f64) -> String {
    match value {
        value if value < 0.095 => format!("{value:.3}"),
        value if value < 9.5 => format!("{value:.2}"),
        value => format!("{value:.0}"),
    }
}

/// Seconds in a unit that fits.
pub(super) fn time(seconds: f64) -> String {
    match seconds {
        s if s < 0.0995 => format!("{:.1} ms", s * 1e3),
        s if s < 0.9995 => format!("{:.0} ms", s * 1e3),
        s if s < 99.5 => format!("{s:.1} s"),
        s => format!("{s:.0} s"),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn times_and_spreads_are_shown_in_units_that_fit() {
        assert_eq!(
            [0.0041, 0.35, 2.0, 300.0].map(time),
            ["4.1 ms", "350 ms", "2.0 s", "300 s"]
        );
        let spread = |min, max| Some(Spread { median: 0.5, min, max });
        assert_eq!(shown(spread(0.4, 0.6), number), "0.50 (0.40–0.60)");
        assert_eq!(shown(spread(0.5, 0.5), number), "0.50");
        assert_eq!(shown(None, number), "-");
    }
}
