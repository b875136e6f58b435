//! How many replicas the versions shall have, and why.

use super::text::{UNASKED, and_more};
use crate::table::Table;
use kilocard_registry::report::ScaleReport;
use std::fmt::Write;

/// The versions that a ScalePolicy is for.
pub(super) fn render(text: &mut String, pools: &[ScaleReport]) {
    let scaled: Vec<&ScaleReport> = pools.iter().filter(|pool| pool.policy.is_some()).collect();
    if scaled.is_empty() {
        return;
    }
    let headings = [
        "VERSION",
        "REPLICAS",
        "SHALL BE",
        "REQUESTS/S",
        "MEMORY",
        "QUEUE",
        "WHY",
    ];
    let mut table = Table::new(&headings).indented(2);
    for pool in scaled.iter().take(UNASKED) {
        table.row([
            format!("{}/{}", pool.model, pool.version),
            replicas(pool),
            pool.desired_replicas
                .map_or("-".to_owned(), |desired| desired.to_string()),
            level(pool.qps, ""),
            level(pool.gpu_memory_used_percent, "%"),
            level(pool.queue, ""),
            why(pool),
        ]);
    }
    let _ = write!(text, "\nSCALING\n{table}");
    if scaled.len() > UNASKED {
        let _ = writeln!(text, " {}: `-o json` shows all", and_more(scaled.len(), UNASKED));
    }
}

fn replicas(pool: &ScaleReport) -> String {
    if pool.ready_replicas == pool.replicas {
        return pool.replicas.to_string();
    }
    format!("{} of {} ready", pool.ready_replicas, pool.replicas)
}

fn level(value: Option<f64>, unit: &str) -> String {
    value.map_or("-".to_owned(), |value| format!("{value:.1}{unit}"))
}

fn why(pool: &ScaleReport) -> String {
    let simulated = if pool.simulated { " (simulated)" } else { "" };
    format!("{}{simulated}", pool.reason.as_deref().unwrap_or_default())
}
