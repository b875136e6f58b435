//! Clusters, their endpoints with weights and reasons, and what is drained.

use super::text::{UNASKED, ago, and_more, grouped};
use crate::args::StatusArgs;
use crate::table::Table;
use kilocard_policy::config::{BULK_POOL, DEFAULT_POOL};
use kilocard_registry::report::{ClusterReport, DrainReport, EndpointReport, LocalityReport, MeshReport};
use std::fmt::Write;
use std::time::Duration;

/// So many endpoints are shown unasked.
const ENDPOINTS_UNASKED: usize = 40;

pub(super) fn render(text: &mut String, report: &MeshReport, args: &StatusArgs) {
    let is_asked = |cluster: &&ClusterReport| {
        let name = name(cluster);
        args.cluster
            .as_ref()
            .is_none_or(|asked| *asked == name || *asked == cluster.model)
    };
    let shown: Vec<&ClusterReport> = report.clusters.iter().filter(is_asked).collect();
    let count: usize = shown.iter().map(|cluster| cluster.endpoints.len()).sum();
    clusters(text, &shown, args.cluster.as_deref());
    if args.every_endpoint || args.cluster.is_some() || count <= ENDPOINTS_UNASKED {
        endpoints(text, &shown);
    } else {
        let _ = writeln!(
            text,
            "\n{} endpoints: `--cluster MODEL/VERSION` shows those of one cluster, `--endpoints` all of them",
            grouped(count)
        );
    }
    localities(text, &shown, args.every_endpoint);
    drained(text, &shown, args.every_endpoint);
    pools(text, &shown);
}

fn name(cluster: &ClusterReport) -> String {
    format!("{}/{}", cluster.model, cluster.version)
}

fn clusters(text: &mut String, clusters: &[&ClusterReport], asked: Option<&str>) {
    text.push_str("\nCLUSTERS\n");
    if clusters.is_empty() {
        match asked {
            Some(asked) => {
                let _ = writeln!(text, "  none is called {asked}");
            }
            None => text.push_str("  none\n"),
        }
        return;
    }
    let mut table = Table::new(&[
        "MODEL/VERSION",
        "ENDPOINTS",
        "DRAINED",
        "WEIGHT",
        "LIGHTEST",
        "HEAVIEST",
    ])
    .indented(2);
    for cluster in clusters {
        let weights = || {
            cluster
                .endpoints
                .iter()
                .filter(|endpoint| is_serving(endpoint))
                .map(|endpoint| endpoint.weight)
        };
        let total: u64 = weights().map(u64::from).sum();
        let drained = cluster
            .endpoints
            .iter()
            .filter(|endpoint| !is_serving(endpoint))
            .count();
        let or_none = |weight: Option<u32>| weight.map_or("-".to_owned(), |weight| weight.to_string());
        table.row([
            name(cluster),
            match cluster.endpoints.len() {
                0 => "NO ENDPOINT".to_owned(),
                count => grouped(count),
            },
            drained.to_string(),
            total.to_string(),
            or_none(weights().min()),
            or_none(weights().max()),
        ]);
    }
    let _ = write!(text, "{table}");
}

fn is_serving(endpoint: &EndpointReport) -> bool {
    endpoint.factors.drained.is_none()
}

fn endpoints(text: &mut String, clusters: &[&ClusterReport]) {
    if clusters.iter().all(|cluster| cluster.endpoints.is_empty()) {
        return;
    }
    text.push_str("\nENDPOINTS\n");
    let mut table = Table::new(&["MODEL/VERSION", "WORKER", "ADDRESS", "WEIGHT", "SHARE", "WHY"]).indented(2);
    for cluster in clusters {
        let serving = cluster.endpoints.iter().filter(|endpoint| is_serving(endpoint));
        let total: f64 = serving.map(|endpoint| f64::from(endpoint.weight)).sum();
        for endpoint in &cluster.endpoints {
            let share = match is_serving(endpoint) && total > 0.0 {
                true => format!("{:.1}%", f64::from(endpoint.weight) * 100.0 / total),
                false => "none".to_owned(),
            };
            table.row([
                name(cluster),
                endpoint.worker.clone(),
                endpoint.address.clone(),
                endpoint.weight.to_string(),
                share,
                why(endpoint),
            ]);
        }
    }
    let _ = write!(text, "{table}");
}

/// `NVIDIA H100: 400 × memory 0.50 (15 % of the memory free); DRAINED`: capacity, and every factor that takes from it.
pub(crate) fn why(endpoint: &EndpointReport) -> String {
    let factors = &endpoint.factors;
    let simulated = if factors.simulated { " (simulated)" } else { "" };
    let mut text = format!("{}{simulated}: {:.0}", factors.card, factors.capacity);
    // Shown where it was measured to be something else than the table says.
    if factors.card_prior > 0.0 && (factors.capacity / factors.card_prior - 1.0).abs() >= 0.01 {
        let _ = write!(text, " measured (prior {:.0})", factors.card_prior);
    }
    for factor in factors.factors.iter().filter(|factor| factor.value < 1.0) {
        let _ = write!(text, " × {} {:.2}", factor.name, factor.value);
        if !factor.reason.is_empty() {
            let _ = write!(text, " ({})", factor.reason);
        }
    }
    if let Some(done) = factors.slow_start {
        let _ = write!(text, " × slow start {done:.2}");
    }
    if (factors.target - factors.smoothed).abs() > 0.05 * factors.smoothed {
        let _ = write!(text, "; on its way to {:.0}", factors.target);
    }
    if factors.telemetry_stale {
        text.push_str("; its report is overdue, so it goes to the prior");
    }
    match (&factors.drained, &factors.held) {
        (Some(drain), _) => {
            let _ = write!(text, "; DRAINED ({})", drain.code);
        }
        (None, Some(held)) => {
            let _ = write!(text, "; ought to be drained ({})", held.code);
        }
        (None, None) => {}
    }
    text
}

/// Where endpoints are in several zones or racks: how busy each is, and what it sends to others. Those that send come first.
fn localities(text: &mut String, clusters: &[&ClusterReport], all: bool) {
    let several = clusters.iter().filter(|cluster| cluster.localities.len() > 1);
    let mut rows: Vec<(String, &LocalityReport)> = several
        .flat_map(|cluster| cluster.localities.iter().map(|locality| (name(cluster), locality)))
        .collect();
    if rows.is_empty() {
        return;
    }
    rows.sort_by_key(|(_, locality)| std::cmp::Reverse(locality.away_percent));
    let mut table = Table::new(&["MODEL/VERSION", "LOCALITY", "CAPACITY", "BUSY", "ELSEWHERE"]).indented(2);
    let shown = if all { rows.len() } else { UNASKED };
    for (cluster, locality) in rows.iter().take(shown) {
        let to = locality
            .to
            .iter()
            .map(|to| format!("{} % to {}", to.percent, place(&to.zone, &to.rack)));
        let to: Vec<String> = to.collect();
        table.row([
            cluster.clone(),
            place(&locality.zone, &locality.rack),
            format!("{:.0}", locality.capacity),
            locality
                .busy
                .map_or("unknown".to_owned(), |busy| format!("{:.0} %", busy * 100.0)),
            if to.is_empty() { "-".to_owned() } else { to.join(", ") },
        ]);
    }
    let _ = write!(text, "\nLOCALITIES\n{table}");
    if rows.len() > shown {
        let _ = writeln!(text, " {}: `--endpoints` shows all", and_more(rows.len(), shown));
    }
}

/// `zone-a`, `zone-a/r7`, or `nowhere`.
pub(super) fn place(zone: &str, rack: &str) -> String {
    match (zone, rack) {
        ("", _) => "nowhere".to_owned(),
        (zone, "") => zone.to_owned(),
        (zone, rack) => format!("{zone}/{rack}"),
    }
}

/// Where a PoolPolicy has declared some: every model has those that are built in.
fn pools(text: &mut String, clusters: &[&ClusterReport]) {
    let is_declared = |pool: &String| ![DEFAULT_POOL, BULK_POOL].contains(&pool.as_str());
    let mut declared = clusters
        .iter()
        .filter(|cluster| cluster.pools.iter().any(is_declared))
        .peekable();
    if declared.peek().is_none() {
        return;
    }
    let mut table = Table::new(&["MODEL/VERSION", "POOLS"]).indented(2);
    for cluster in declared {
        table.row([name(cluster), cluster.pools.join(", ")]);
    }
    let _ = write!(text, "\nPOOLS\n{table}");
}

fn drained(text: &mut String, clusters: &[&ClusterReport], all: bool) {
    let ill = |cluster: &&ClusterReport| {
        let name = name(cluster);
        let of = |endpoint: &EndpointReport, state: &'static str, drain: &Option<DrainReport>| {
            drain.clone().map(|drain| {
                (
                    name.clone(),
                    endpoint.worker.clone(),
                    endpoint.factors.card.clone(),
                    state,
                    drain,
                )
            })
        };
        let endpoints = cluster.endpoints.iter();
        endpoints
            .filter_map(|endpoint| {
                let held = || of(endpoint, "cannot be spared", &endpoint.factors.held);
                of(endpoint, "drained", &endpoint.factors.drained).or_else(held)
            })
            .collect::<Vec<_>>()
    };
    let ill: Vec<_> = clusters.iter().flat_map(ill).collect();
    if ill.is_empty() {
        return;
    }
    text.push_str("\nDRAINED DEVICES\n");
    let mut table = Table::new(&[
        "MODEL/VERSION",
        "WORKER",
        "CARD",
        "STATE",
        "REASON",
        "SEEN",
        "FOR",
        "RETURNS",
    ])
    .indented(2);
    let shown = if all { ill.len() } else { UNASKED };
    let count = ill.len();
    for (cluster, worker, card, state, drain) in ill.into_iter().take(shown) {
        let since = ago(Duration::from_millis(drain.since_ms));
        table.row([
            cluster,
            worker,
            card,
            state.to_owned(),
            drain.code,
            drain.text,
            since,
            drain.returns,
        ]);
    }
    let _ = write!(text, "{table}");
    if count > shown {
        let _ = writeln!(text, " {}: `--endpoints` shows all", and_more(count, shown));
    }
}
