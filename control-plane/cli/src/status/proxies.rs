//! Proxies: how far each is, and what it refused, in its own words.

use super::endpoints::place;
use super::text::{UNASKED, and_more, milliseconds};
use crate::table::Table;
use kilocard_registry::report::{MeshReport, NodeReport, NodeTypeReport};
use std::fmt::Write;

pub(super) fn refuses(node: &NodeReport) -> bool {
    node.types
        .iter()
        .any(|report| report.nack.is_some() || !report.refused.is_empty())
}

/// For how long the type that is furthest behind has been so.
pub(super) fn behind_ms(node: &NodeReport) -> Option<u64> {
    node.types.iter().filter_map(|report| report.behind_ms).max()
}

pub(super) fn render(text: &mut String, nodes: &[NodeReport], all: bool) {
    text.push_str("\nPROXIES\n");
    if nodes.is_empty() {
        text.push_str("  none connected\n");
        return;
    }
    let is_large = nodes.len() > UNASKED && !all;
    let troubled = |node: &&NodeReport| !is_large || refuses(node) || behind_ms(node).is_some();
    let shown: Vec<&NodeReport> = nodes.iter().filter(troubled).collect();
    let mut table = Table::new(&["NODE", "LOCALITY", "PROTOCOL", "TYPE", "STATE", "LAG"]).indented(2);
    let limit = if all { shown.len() } else { UNASKED };
    for node in shown.iter().take(limit) {
        if node.types.is_empty() {
            table.row([
                node.id.clone(),
                locality(node),
                node.protocol.clone(),
                "-".to_owned(),
                "subscribed to nothing".to_owned(),
                "-".to_owned(),
            ]);
        }
        for report in &node.types {
            table.row([
                node.id.clone(),
                locality(node),
                node.protocol.clone(),
                short_type(&report.type_url),
                state(report),
                report.behind_ms.map_or("-".to_owned(), milliseconds),
            ]);
        }
    }
    if !shown.is_empty() {
        let _ = write!(text, "{table}");
    }
    if is_large {
        let _ = writeln!(
            text,
            "  shown are those that lack or refuse something{}; `--proxies` shows all",
            and_more(shown.len(), limit)
        );
    }
    refusals(text, nodes, all);
}

/// What does not hold for gRPC's own clients, while there are any.
pub(super) fn limits(text: &mut String, report: &MeshReport) {
    let limits = &report.proxyless.limits;
    if limits.is_empty() || !report.nodes.iter().any(|node| node.client == "grpc") {
        return;
    }
    let mut table = Table::new(&["OF", "FIELD", "INSTEAD"]).indented(2);
    for limit in limits.iter().take(UNASKED) {
        table.row([limit.of.as_str(), limit.field.as_str(), limit.effect.as_str()]);
    }
    let _ = write!(text, "\nNOT FOR CLIENTS WITHOUT A PROXY\n{table}");
    if limits.len() > UNASKED {
        let _ = writeln!(text, " {}: `-o json` shows all", and_more(limits.len(), UNASKED));
    }
}

fn locality(node: &NodeReport) -> String {
    match node.zone.as_str() {
        "" => "-".to_owned(),
        zone => place(zone, &node.rack),
    }
}

/// What is refused, resource by resource.
fn refusals(text: &mut String, nodes: &[NodeReport], all: bool) {
    let mut table = Table::new(&["NODE", "TYPE", "RESOURCE", "VERSION", "REASON"]).indented(2);
    let (mut count, mut shown) = (0, 0);
    for node in nodes {
        for report in &node.types {
            count += report.refused_total.max(report.refused.len());
            for refused in &report.refused {
                if !all && shown == UNASKED {
                    break;
                }
                shown += 1;
                table.row([
                    node.id.clone(),
                    short_type(&report.type_url),
                    refused.name.clone(),
                    refused.version.clone().unwrap_or_else(|| "its removal".to_owned()),
                    refused.reason.clone(),
                ]);
            }
        }
    }
    if count > 0 {
        let _ = write!(text, "\nREFUSED RESOURCES\n{table}");
    }
    if count > shown {
        let _ = writeln!(text, " {}", and_more(count, shown));
    }
}

/// The message's name alone: `Cluster` of `type.googleapis.com/envoy.config.cluster.v3.Cluster`.
fn short_type(type_url: &str) -> String {
    type_url.rsplit(['.', '/']).next().unwrap_or(type_url).to_owned()
}

fn state(report: &NodeTypeReport) -> String {
    let mut state = match (&report.nack, &report.acked_version) {
        (Some(nack), _) => {
            let kept = report
                .acked_version
                .as_ref()
                .map_or("nothing".to_owned(), |version| format!("version {version}"));
            format!("NACK of version {}, keeps {kept}: {}", nack.version, nack.message)
        }
        (None, Some(version)) => format!("ACK {version}"),
        (None, None) => "nothing accepted yet".to_owned(),
    };
    if let (Some(served), Some(_)) = (&report.served_version, report.behind_ms) {
        let _ = write!(state, ", served is {served}");
    }
    if report.in_flight {
        state.push_str(" (a newer version is under way)");
    }
    state
}
