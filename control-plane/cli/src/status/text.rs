//! The status report for people: first how it is in numbers, then what is wrong, then the details that were asked for.

use super::{endpoints, limits, proxies, scaling};
use crate::args::StatusArgs;
use crate::table::{Table, printable};
use kilocard_registry::policy_status::PolicyState;
use kilocard_registry::report::{ControlPlaneReport, HoldReport, MeshReport, PolicyReport, RejectedRecord};
use std::fmt::Write;
use std::time::{Duration, SystemTime, UNIX_EPOCH};

/// Rows of a list that are shown unasked: a mesh of thousands must not scroll its troubles away.
pub(super) const UNASKED: usize = 20;

/// The whole report. `now` is for ages of what the report dates.
pub(super) fn render(report: &MeshReport, args: &StatusArgs, now: SystemTime) -> String {
    let mut text = control_plane(&report.control_plane, now);
    summary(&mut text, report);
    if let Some(hold) = &report.control_plane.source.hold {
        held(&mut text, hold, now);
    }
    policies(&mut text, &report.policies);
    endpoints::render(&mut text, report, args);
    scaling::render(&mut text, &report.scaling);
    limits::render(&mut text, &report.limits, &report.control_plane.election);
    proxies::render(&mut text, &report.nodes, args.every_proxy);
    proxies::limits(&mut text, report);
    rejected(&mut text, &report.rejected_records);
    text
}

fn control_plane(control_plane: &ControlPlaneReport, now: SystemTime) -> String {
    let source = &control_plane.source;
    let kind = if source.kind.is_empty() {
        "etcd"
    } else {
        source.kind.as_str()
    };
    let state = if control_plane.etcd_connected {
        "connected"
    } else {
        "NOT REACHABLE, serving the last good state"
    };
    let mut text = format!(
        "control plane {}: {} {state}, revision {}, snapshot {}\n",
        control_plane.version,
        printable(kind),
        control_plane.etcd_revision,
        control_plane.snapshot_version
    );
    if let Some(saved) = &source.saved {
        let age = now.duration_since(at_unix_ms(saved.saved_unix_ms)).unwrap_or_default();
        let _ = writeln!(
            text,
            "SERVED FROM DISK: revision {}, last confirmed {} ago; {kind} has not answered since this process began",
            saved.revision,
            ago(age)
        );
    }
    let election = &control_plane.election;
    if !election.replica.is_empty() {
        let leader = match (&election.leader, election.leads) {
            (_, true) => "this one".to_owned(),
            (Some(leader), false) => printable(leader),
            (None, false) => "none known".to_owned(),
        };
        let _ = writeln!(text, "replica {}; leader: {leader}", printable(&election.replica));
    }
    text
}

fn at_unix_ms(unix_ms: u64) -> SystemTime {
    UNIX_EPOCH + Duration::from_millis(unix_ms)
}

/// An age in its largest unit or two.
pub(super) fn ago(age: Duration) -> String {
    let seconds = age.as_secs();
    match seconds {
        0..=119 => format!("{seconds} s"),
        120..=7199 => format!("{} min", seconds / 60),
        7200..=172_799 => format!("{} h", seconds / 3600),
        _ => format!("{} days", seconds / 86_400),
    }
}

/// A line for each part of the mesh.
fn summary(text: &mut String, report: &MeshReport) {
    let counts = Counts::of(report);
    text.push_str("\nSUMMARY\n");
    let mut line = |what: &str, parts: &[String]| {
        let _ = writeln!(text, "  {what:<10} {}", parts.join(", "));
    };
    let wrong = |count: usize, what: &str| (count > 0).then(|| format!("{} {what}", grouped(count)));
    let parts = |all: usize, rest: Vec<Option<String>>| {
        let rest = rest.into_iter().flatten();
        [grouped(all)].into_iter().chain(rest).collect::<Vec<_>>()
    };
    line(
        "policies",
        &parts(report.policies.len(), vec![wrong(counts.rejected_policies, "REJECTED")]),
    );
    line(
        "clusters",
        &parts(
            report.clusters.len(),
            vec![wrong(counts.empty_clusters, "WITHOUT ENDPOINT")],
        ),
    );
    line(
        "endpoints",
        &parts(
            counts.endpoints,
            vec![
                wrong(counts.drained, "DRAINED"),
                wrong(counts.held, "ought to be drained and cannot be spared"),
                wrong(counts.derated, "derated"),
                wrong(counts.slow_start, "starting slowly"),
                wrong(counts.stale, "with an overdue report"),
                wrong(counts.simulated, "simulated"),
            ],
        ),
    );
    line(
        "proxies",
        &parts(
            report.nodes.len(),
            vec![
                wrong(
                    counts.behind,
                    &format!("behind (longest {})", milliseconds(counts.longest_ms)),
                ),
                wrong(counts.refusing, "REFUSING something"),
            ],
        ),
    );
}

/// A mesh in numbers.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(super) struct Counts {
    pub(super) rejected_policies: usize,
    pub(super) empty_clusters: usize,
    pub(super) endpoints: usize,
    pub(super) drained: usize,
    pub(super) held: usize,
    derated: usize,
    slow_start: usize,
    stale: usize,
    simulated: usize,
    pub(super) behind: usize,
    longest_ms: u64,
    pub(super) refusing: usize,
}

impl Counts {
    pub(super) fn of(report: &MeshReport) -> Self {
        let mut counts = Self {
            rejected_policies: report
                .policies
                .iter()
                .filter(|policy| policy.status.state == PolicyState::Rejected)
                .count(),
            empty_clusters: report
                .clusters
                .iter()
                .filter(|cluster| cluster.endpoints.is_empty())
                .count(),
            refusing: report.nodes.iter().filter(|node| proxies::refuses(node)).count(),
            ..Self::default()
        };
        for endpoint in report.clusters.iter().flat_map(|cluster| &cluster.endpoints) {
            let factors = &endpoint.factors;
            counts.endpoints += 1;
            counts.drained += usize::from(factors.drained.is_some());
            counts.held += usize::from(factors.held.is_some());
            counts.derated += usize::from(factors.factors.iter().any(|factor| factor.value < 1.0));
            counts.slow_start += usize::from(factors.slow_start.is_some());
            counts.stale += usize::from(factors.telemetry_stale);
            counts.simulated += usize::from(factors.simulated);
        }
        for behind in report.nodes.iter().filter_map(proxies::behind_ms) {
            counts.behind += 1;
            counts.longest_ms = counts.longest_ms.max(behind);
        }
        counts
    }
}

/// `12,345`.
pub(super) fn grouped(number: usize) -> String {
    let digits = number.to_string();
    let mut text = String::new();
    for (index, digit) in digits.chars().enumerate() {
        if index > 0 && (digits.len() - index).is_multiple_of(3) {
            text.push(',');
        }
        text.push(digit);
    }
    text
}

pub(super) fn milliseconds(ms: u64) -> String {
    if ms < 1000 {
        format!("{ms} ms")
    } else {
        format!("{}.{} s", ms / 1000, ms % 1000 / 100)
    }
}

fn held(text: &mut String, hold: &HoldReport, now: SystemTime) {
    let since = now.duration_since(at_unix_ms(hold.since_unix_ms)).unwrap_or_default();
    let left = at_unix_ms(hold.until_unix_ms).duration_since(now).unwrap_or_default();
    let _ = writeln!(
        text,
        "\nHELD ENDPOINTS: for {}, {} more at most\n  {}",
        ago(since),
        ago(left),
        printable(&hold.reason)
    );
    let shown: Vec<String> = hold
        .workers
        .iter()
        .take(UNASKED)
        .map(|worker| printable(worker))
        .collect();
    let _ = writeln!(text, "  {}{}", shown.join(", "), and_more(hold.workers.len(), UNASKED));
}

/// What a cut list ends with.
pub(super) fn and_more(all: usize, shown: usize) -> String {
    match all.checked_sub(shown) {
        None | Some(0) => String::new(),
        Some(more) => format!(" … and {} more", grouped(more)),
    }
}

fn policies(text: &mut String, policies: &[PolicyReport]) {
    text.push_str("\nPOLICIES\n");
    if policies.is_empty() {
        text.push_str("  none\n");
        return;
    }
    let mut table = Table::new(&["KIND", "NAME", "REVISION", "STATE", "IN FORCE"]).indented(2);
    let mut errors = String::new();
    for PolicyReport { kind, name, status } in policies {
        let state = match status.state {
            PolicyState::Accepted => "accepted",
            PolicyState::Rejected => "REJECTED",
        };
        let serving = status
            .serving_revision
            .map_or("none".to_owned(), |revision| format!("revision {revision}"));
        table.row([
            kind.clone(),
            name.clone(),
            status.revision.to_string(),
            state.to_owned(),
            serving,
        ]);
        for error in &status.errors {
            let path = if error.path.is_empty() {
                String::new()
            } else {
                format!("{}: ", error.path)
            };
            let _ = writeln!(
                errors,
                "  {}",
                printable(&format!("{kind}/{name}: {path}{}", error.message))
            );
        }
    }
    let _ = write!(text, "{table}{errors}");
}

fn rejected(text: &mut String, records: &[RejectedRecord]) {
    if records.is_empty() {
        return;
    }
    text.push_str("\nIGNORED RECORDS\n");
    for RejectedRecord { key, reason } in records.iter().take(UNASKED) {
        let _ = writeln!(text, "  {}: {}", printable(key), printable(reason));
    }
    let more = and_more(records.len(), UNASKED);
    if !more.is_empty() {
        let _ = writeln!(text, " {more}: `kilocard status -o json` has all");
    }
}

#[cfg(test)]
mod tests;
