//! Limits that the mesh shares, and GPU memory for requests.

use super::text::{UNASKED, and_more, milliseconds};
use crate::table::{Table, printable};
use kilocard_registry::report::{
    ElectionReport, LimitedProxyReport, LimitsReport, MemoryReport, SharedKeyReport, SharedPolicyReport,
};
use std::fmt::Write;

/// Most keys of a policy that are shown.
const KEYS: usize = 5;

pub(super) fn render(text: &mut String, limits: &LimitsReport, election: &ElectionReport) {
    if !limits.policies.is_empty() || !limits.proxies.is_empty() {
        text.push_str("\nLIMITS OF THE MESH\n");
        division(text, limits, election);
        policies(text, &limits.policies);
        keys(text, limits);
        proxies(text, limits);
    }
    memory(text, &limits.memory);
}

fn division(text: &mut String, limits: &LimitsReport, election: &ElectionReport) {
    if !limits.divided_here {
        let leader = election
            .leader
            .as_deref()
            .map_or("none known yet".to_owned(), printable);
        let _ = writeln!(
            text,
            "  divided by the replica that leads ({leader}): ask that one who has how much"
        );
        return;
    }
    let mut parts = vec![format!("divided among {} proxies", limits.proxies_total)];
    if limits.proxies_waiting > 0 {
        parts.push(format!("{} WAITING for their first share", limits.proxies_waiting));
    }
    if limits.proxies_silent > 0 {
        parts.push(format!(
            "{} SILENT, their base share is held for them",
            limits.proxies_silent
        ));
    }
    if limits.learning {
        parts.push("LEARNING: nothing is raised yet, leases from before may still hold".to_owned());
    }
    let _ = writeln!(text, "  {}", parts.join("; "));
}

fn policies(text: &mut String, policies: &[SharedPolicyReport]) {
    if policies.is_empty() {
        return;
    }
    let mut table = Table::new(&["POLICY", "LIMITS", "KEYS WITH LEASES"]).indented(2);
    for policy in policies.iter().take(UNASKED) {
        table.row([
            policy.policy.clone(),
            policy.limits.join("; "),
            policy.keys.total.to_string(),
        ]);
    }
    let _ = write!(text, "{table}");
    cut(text, policies.len(), UNASKED);
}

/// The keys of the most demand; those of GPU memory are versions.
fn keys(text: &mut String, limits: &LimitsReport) {
    let of_memory = std::iter::once(("(GPU memory)", &limits.memory_keys));
    let of_policies = limits
        .policies
        .iter()
        .map(|policy| (policy.policy.as_str(), &policy.keys));
    let keys: Vec<_> = of_policies
        .chain(of_memory)
        .filter(|(_, keys)| keys.total > 0)
        .collect();
    if keys.is_empty() {
        return;
    }
    let mut table = Table::new(&["POLICY", "KEY", "DEMAND", "IN USE", "SHARES OF PROXIES"]).indented(2);
    for (policy, keys) in keys.iter().take(UNASKED) {
        for key in keys.largest.iter().take(KEYS) {
            table.row([
                (*policy).to_owned(),
                named(key),
                percent(key.demand_percent),
                percent(key.used_percent),
                shares(key),
            ]);
        }
        let shown = keys.largest.len().min(KEYS);
        if keys.total > shown {
            table.row([(*policy).to_owned(), and_more(keys.total, shown).trim().to_owned()]);
        }
    }
    let _ = write!(text, "{table}");
    cut(text, keys.len(), UNASKED);
}

fn named(key: &SharedKeyReport) -> String {
    match key.key.as_str() {
        "" => "everybody".to_owned(),
        key => key.to_owned(),
    }
}

fn shares(key: &SharedKeyReport) -> String {
    format!(
        "{} to {}",
        percent(key.smallest_share_percent),
        percent(key.largest_share_percent)
    )
}

fn proxies(text: &mut String, limits: &LimitsReport) {
    if limits.proxies.is_empty() {
        return;
    }
    let mut table = Table::new(&["PROXY", "BASE SHARE", "LEASES", "REPORTED", "STATE"]).indented(2);
    for proxy in limits.proxies.iter().take(UNASKED) {
        table.row([
            proxy.proxy.clone(),
            percent(proxy.base_percent),
            proxy.leases.to_string(),
            format!("{} ago", milliseconds(proxy.reported_ms_ago)),
            state(proxy),
        ]);
    }
    let _ = write!(text, "{table}");
    cut(text, limits.proxies_total, limits.proxies.len().min(UNASKED));
}

fn state(proxy: &LimitedProxyReport) -> String {
    if proxy.silent {
        return "SILENT".to_owned();
    }
    if proxy.base_percent == 0.0 {
        return "WAITING for a share".to_owned();
    }
    match proxy.unacknowledged {
        0 => "up to date".to_owned(),
        leases => format!("{leases} not acknowledged"),
    }
}

fn memory(text: &mut String, versions: &[MemoryReport]) {
    if versions.is_empty() {
        return;
    }
    let headings = ["VERSION", "ENDPOINTS", "CAPACITY", "FREE", "FREE AT ONE", "AGE"];
    let mut table = Table::new(&headings).indented(2);
    for version in versions.iter().take(UNASKED) {
        let name = format!("{}/{}", version.model, version.version);
        if version.capacity_bytes == 0 {
            let nothing = "NO FRESH REPORT: nothing is admitted".to_owned();
            table.row([name, version.endpoints.to_string(), nothing]);
            continue;
        }
        table.row([
            name,
            version.endpoints.to_string(),
            mebibytes(version.capacity_bytes),
            format!("{} ({})", mebibytes(version.free_bytes), part(version)),
            mebibytes(version.largest_free_bytes),
            milliseconds(version.age_ms.into()),
        ]);
    }
    let _ = write!(text, "\nGPU MEMORY FOR REQUESTS\n{table}");
    cut(text, versions.len(), UNASKED);
}

fn part(version: &MemoryReport) -> String {
    percent(version.free_bytes as f64 / version.capacity_bytes.max(1) as f64 * 100.0)
}

fn mebibytes(bytes: u64) -> String {
    format!("{} MiB", bytes >> 20)
}

fn percent(percent: f64) -> String {
    format!("{percent:.1}%")
}

fn cut(text: &mut String, all: usize, shown: usize) {
    let more = and_more(all, shown);
    if !more.is_empty() {
        let _ = writeln!(text, " {more}: `-o json` shows more");
    }
}

#[cfg(test)]
mod tests;
