//! The status report for people.

use crate::table::Table;
use kilocard_policy::config::{BULK_POOL, DEFAULT_POOL};
use kilocard_registry::policy_status::PolicyState;
use kilocard_registry::report::{
    ClusterReport, EndpointReport, MeshReport, NodeReport, NodeTypeReport, PolicyReport, RejectedRecord,
};
use std::fmt::Write;

/// The whole report.
pub(super) fn render(report: &MeshReport) -> String {
    let control_plane = &report.control_plane;
    let etcd = if control_plane.etcd_connected {
        "connected"
    } else {
        "NOT REACHABLE, serving the last good state"
    };
    let mut text = format!(
        "control plane {}: etcd {etcd}, revision {}, snapshot {}\n",
        control_plane.version, control_plane.etcd_revision, control_plane.snapshot_version
    );
    policies(&mut text, &report.policies);
    clusters(&mut text, &report.clusters);
    pools(&mut text, &report.clusters);
    nodes(&mut text, &report.nodes);
    rejected(&mut text, &report.rejected_records);
    text
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
            let _ = writeln!(errors, "  {kind}/{name}: {path}{}", error.message);
        }
    }
    let _ = write!(text, "{table}{errors}");
}

fn clusters(text: &mut String, clusters: &[ClusterReport]) {
    text.push_str("\nENDPOINTS\n");
    if clusters.is_empty() {
        text.push_str("  none\n");
        return;
    }
    let mut table = Table::new(&["MODEL/VERSION", "WORKER", "ADDRESS", "WEIGHT", "SHARE", "WHY"]).indented(2);
    for ClusterReport {
        model,
        version,
        endpoints,
        ..
    } in clusters
    {
        let cluster = format!("{model}/{version}");
        if endpoints.is_empty() {
            table.row([cluster.as_str(), "NO ENDPOINT"]);
        }
        let total: f64 = endpoints.iter().map(|endpoint| f64::from(endpoint.weight)).sum();
        for endpoint in endpoints {
            let share = if total > 0.0 {
                f64::from(endpoint.weight) * 100.0 / total
            } else {
                0.0
            };
            table.row([
                cluster.clone(),
                endpoint.worker.clone(),
                endpoint.address.clone(),
                endpoint.weight.to_string(),
                format!("{share:.1}%"),
                why(endpoint),
            ]);
        }
    }
    let _ = write!(text, "{table}");
}

/// Where a PoolPolicy has declared some: every model has those that are built in.
fn pools(text: &mut String, clusters: &[ClusterReport]) {
    let declared = |cluster: &&ClusterReport| {
        cluster
            .pools
            .iter()
            .any(|pool| ![DEFAULT_POOL, BULK_POOL].contains(&pool.as_str()))
    };
    let mut table = Table::new(&["MODEL/VERSION", "POOLS"]).indented(2);
    let mut any = false;
    for cluster in clusters.iter().filter(declared) {
        any = true;
        table.row([
            format!("{}/{}", cluster.model, cluster.version),
            cluster.pools.join(", "),
        ]);
    }
    if any {
        let _ = write!(text, "\nPOOLS\n{table}");
    }
}

/// `NVIDIA H100: 400 × memory 0.50 (15 % of the memory free) → 200; DRAINED, xid_fatal: …`.
fn why(endpoint: &EndpointReport) -> String {
    let factors = &endpoint.factors;
    let simulated = if factors.simulated { " (simulated)" } else { "" };
    let mut text = format!("{}{simulated}: {:.0}", factors.card, factors.capacity);
    for factor in factors.factors.iter().filter(|factor| factor.value < 1.0) {
        let _ = write!(text, " × {} {:.2}", factor.name, factor.value);
        if !factor.reason.is_empty() {
            let _ = write!(text, " ({})", factor.reason);
        }
    }
    if let Some(done) = factors.slow_start {
        let _ = write!(text, " × slow start {done:.2}");
    }
    if factors.telemetry_stale {
        text.push_str("; its report is overdue, so it goes to the prior");
    }
    for (what, drain) in [("DRAINED", &factors.drained), ("held although", &factors.held)] {
        if let Some(drain) = drain {
            let seconds = drain.since_ms / 1000;
            let _ = write!(
                text,
                "; {what} {}, {}, for {seconds} s; returns {}",
                drain.code, drain.text, drain.returns
            );
        }
    }
    text
}

fn nodes(text: &mut String, nodes: &[NodeReport]) {
    text.push_str("\nPROXIES\n");
    if nodes.is_empty() {
        text.push_str("  none connected\n");
        return;
    }
    let mut table = Table::new(&["NODE", "PROTOCOL", "TYPE", "STATE"]).indented(2);
    for NodeReport {
        id, protocol, types, ..
    } in nodes
    {
        if types.is_empty() {
            table.row([id.as_str(), protocol.as_str(), "-", "subscribed to nothing"]);
        }
        for report in types {
            table.row([
                id.clone(),
                protocol.clone(),
                short_type(&report.type_url),
                state(report),
            ]);
        }
    }
    let _ = write!(text, "{table}");
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
    if report.in_flight {
        state.push_str(" (a newer version is under way)");
    }
    state
}

fn rejected(text: &mut String, records: &[RejectedRecord]) {
    if records.is_empty() {
        return;
    }
    text.push_str("\nIGNORED RECORDS\n");
    for RejectedRecord { key, reason } in records {
        let _ = writeln!(text, "  {key}: {reason}");
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use serde_json::{Value, json};

    fn report(change: impl FnOnce(&mut Value)) -> MeshReport {
        let mut value = json!({
            "control_plane": {"version": "0.1.0", "etcd_connected": true, "etcd_revision": 42, "snapshot_version": "abc"},
            "policies": [
                {"kind": "RoutingPolicy", "name": "minilm", "state": "rejected", "revision": 12, "serving_revision": 8,
                 "errors": [{"path": "spec.model", "message": "is missing"}, {"path": "", "message": "is odd"}]},
            ],
            "clusters": [{"model": "minilm", "version": "v1", "endpoints": [
                {"worker": "w1", "address": "127.0.0.1:1", "weight": 75,
                 "factors": {"card": "NVIDIA H100", "card_prior": 100.0, "capacity": 100.0, "simulated": true,
                             "factors": [{"name": "memory", "value": 0.75, "reason": "18 % of the memory free"}]}},
                {"worker": "w2", "address": "127.0.0.1:2", "weight": 25,
                 "factors": {"card": "cpu", "card_prior": 25.0, "capacity": 25.0, "simulated": false, "drained":
                             {"code": "not_serving", "text": "it says so", "since_ms": 9999, "returns": "soon"}}},
            ]}, {"model": "minilm", "version": "v2", "endpoints": []}],
            "rejected_records": [{"key": "/kilocard/v1/workers/x", "reason": "is not JSON"}],
            "nodes": [{"id": "envoy-1", "protocol": "delta", "types": [
                {"type_url": "type.googleapis.com/envoy.config.cluster.v3.Cluster", "acked_version": "7",
                 "in_flight": true, "nack": null},
                {"type_url": "type.googleapis.com/envoy.config.route.v3.RouteConfiguration", "acked_version": "6",
                 "in_flight": false, "nack": {"version": "7", "message": "no such cluster"}},
            ]}],
        });
        change(&mut value);
        serde_json::from_value(value).unwrap()
    }

    #[test]
    fn a_report_shows_verdicts_weights_with_their_reasons_and_refusals_of_proxies() {
        let text = render(&report(|_| {}));
        for expected in [
            "control plane 0.1.0: etcd connected, revision 42, snapshot abc",
            "REJECTED  revision 8",
            "RoutingPolicy/minilm: spec.model: is missing",
            "75.0%  NVIDIA H100 (simulated): 100 × memory 0.75 (18 % of the memory free)",
            "25.0%  cpu: 25; DRAINED not_serving, it says so, for 9 s; returns soon",
            "minilm/v2      NO ENDPOINT",
            "Cluster             ACK 7 (a newer version is under way)",
            "NACK of version 7, keeps version 6: no such cluster",
            "/kilocard/v1/workers/x: is not JSON",
        ] {
            assert!(text.contains(expected), "{expected:?} is not in\n{text}");
        }
    }

    #[test]
    fn an_outage_of_etcd_is_loud() {
        let text = render(&report(|value| value["control_plane"]["etcd_connected"] = json!(false)));
        assert!(text.contains("NOT REACHABLE, serving the last good state"), "{text}");
    }

    #[test]
    fn an_empty_mesh_is_shown_as_such() {
        let text = render(&report(|value| {
            for list in ["policies", "clusters", "nodes", "rejected_records"] {
                value[list] = json!([]);
            }
        }));
        assert!(text.contains("none connected") && !text.contains("IGNORED"), "{text}");
    }
}
