use super::*;
use serde_json::{Value, json};

fn args() -> StatusArgs {
    StatusArgs::default()
}

fn report(change: impl FnOnce(&mut Value)) -> MeshReport {
    let mut value = json!({
        "control_plane": {"version": "0.1.0", "etcd_connected": true, "etcd_revision": 42, "snapshot_version": "abc"},
        "policies": [
            {"kind": "RoutingPolicy", "name": "minilm", "state": "rejected", "revision": 12, "serving_revision": 8,
             "errors": [{"path": "spec.model", "message": "is missing"}, {"path": "", "message": "is odd"}]},
        ],
        "clusters": [{"model": "minilm", "version": "v1", "endpoints": [
            {"worker": "w1", "address": "127.0.0.1:1", "weight": 75,
             "factors": {"card": "NVIDIA H100", "card_prior": 100.0, "capacity": 100.0, "simulated": true, "target": 75.0,
                         "smoothed": 75.0, "factors": [{"name": "memory", "value": 0.75, "reason": "18 % of the memory free"},
                                                       {"name": "queue", "value": 1.0}]}},
            {"worker": "w2", "address": "127.0.0.1:2", "weight": 25,
             "factors": {"card": "cpu", "card_prior": 25.0, "capacity": 30.0, "simulated": false, "target": 30.0,
                         "smoothed": 20.0, "slow_start": 0.4, "telemetry_stale": true}},
            {"worker": "w3", "address": "127.0.0.1:3", "weight": 90,
             "factors": {"card": "NVIDIA H100", "card_prior": 100.0, "capacity": 100.0, "simulated": false, "drained":
                         {"code": "xid_fatal", "text": "XID 79", "since_ms": 61000, "returns": "after a reset"}}},
        ]}, {"model": "minilm", "version": "v2", "endpoints": []}],
        "rejected_records": [{"key": "/kilocard/v1/workers/x", "reason": "is not JSON"}],
        "nodes": [{"id": "envoy-1", "protocol": "delta", "types": [
            {"type_url": "type.googleapis.com/envoy.config.cluster.v3.Cluster", "acked_version": "7",
             "in_flight": true, "nack": null},
            {"type_url": "type.googleapis.com/envoy.config.route.v3.RouteConfiguration", "acked_version": "6",
             "served_version": "7", "behind_ms": 2345, "in_flight": false,
             "nack": {"version": "7", "message": "no such cluster"},
             "refused_total": 1, "refused": [{"name": "gateway", "version": "7", "reason": "unknown cluster minilm/v9"}]},
        ]}],
    });
    change(&mut value);
    serde_json::from_value(value).unwrap()
}

fn shown(change: impl FnOnce(&mut Value)) -> String {
    render(&report(change), &args(), SystemTime::now())
}

#[track_caller]
fn expect(text: &str, expected: &[&str]) {
    for expected in expected {
        assert!(text.contains(expected), "{expected:?} is not in\n{text}");
    }
}

#[test]
fn a_report_begins_with_numbers_and_shows_verdicts_weights_with_reasons_and_refusals() {
    expect(
        &shown(|_| {}),
        &[
            "control plane 0.1.0: etcd connected, revision 42, snapshot abc",
            "policies   1, 1 REJECTED",
            "clusters   2, 1 WITHOUT ENDPOINT",
            "endpoints  3, 1 DRAINED, 1 derated, 1 starting slowly, 1 with an overdue report, 1 simulated",
            "proxies    1, 1 behind (longest 2.3 s), 1 REFUSING something",
            "REJECTED  revision 8",
            "RoutingPolicy/minilm: spec.model: is missing",
            "75.0%  NVIDIA H100 (simulated): 100 × memory 0.75 (18 % of the memory free)",
            "25.0%  cpu: 30 measured (prior 25) × slow start 0.40; on its way to 30; its report is overdue",
            "none   NVIDIA H100: 100; DRAINED (xid_fatal)",
            "xid_fatal  XID 79  61 s  after a reset",
            "minilm/v2      NO ENDPOINT",
            "Cluster             ACK 7 (a newer version is under way)",
            "NACK of version 7, keeps version 6: no such cluster, served is 7  2.3 s",
            "RouteConfiguration  gateway   7        unknown cluster minilm/v9",
            "/kilocard/v1/workers/x: is not JSON",
        ],
    );
}

#[test]
fn what_is_scaled_is_shown_with_its_reason_and_what_is_not_is_left_out() {
    let pool = |version: &str, policy: Option<&str>| {
        json!({"model": "minilm", "version": version, "policy": policy, "desired_replicas": 4, "replicas": 3,
            "ready_replicas": 2, "qps": 170.0, "gpu_memory_used_percent": 61.26, "queue": null, "metrics": [],
            "reason": "asked for by qps", "simulated": true})
    };
    let text = shown(|value| value["scaling"] = json!([pool("v1", Some("minilm")), pool("v2", None)]));
    expect(
        &text,
        &[
            "SCALING\n  VERSION    REPLICAS      SHALL BE  REQUESTS/S  MEMORY  QUEUE  WHY\n",
            "  minilm/v1  2 of 3 ready  4         170.0       61.3%   -      asked for by qps (simulated)\n\n",
        ],
    );
    let unscaled = shown(|value| value["scaling"] = json!([pool("v2", None)]));
    assert!(!unscaled.contains("SCALING"), "{unscaled}");
}

#[test]
fn an_outage_of_etcd_a_state_from_disk_and_a_hold_are_loud() {
    let text = shown(|value| {
        value["control_plane"]["etcd_connected"] = json!(false);
        value["control_plane"]["source"] = json!({
            "kind": "etcd", "serving": "disk", "saved": {"saved_unix_ms": 1000, "revision": 40},
            "hold": {"since_unix_ms": 1000, "until_unix_ms": 2000, "reason": "many vanished", "workers": ["w1", "w2"]},
        });
        value["control_plane"]["election"] = json!({"replica": "cp-1", "leads": false, "leader": "cp-0"});
    });
    expect(
        &text,
        &[
            "etcd NOT REACHABLE, serving the last good state",
            "SERVED FROM DISK: revision 40, last confirmed",
            "replica cp-1; leader: cp-0",
            "HELD ENDPOINTS",
            "many vanished\n  w1, w2\n",
        ],
    );
}

#[test]
fn an_empty_mesh_is_shown_as_such() {
    let text = shown(|value| {
        for list in ["policies", "clusters", "nodes", "rejected_records"] {
            value[list] = json!([]);
        }
    });
    assert!(text.contains("none connected") && !text.contains("IGNORED"), "{text}");
}

/// Ten thousand endpoints and a thousand proxies, five of each in trouble.
fn large() -> MeshReport {
    report(|value| {
        let endpoint = |index: usize| {
            let mut endpoint =
                value["clusters"][0]["endpoints"][if index.is_multiple_of(2000) { 2 } else { 0 }].clone();
            endpoint["worker"] = json!(format!("worker-{index}"));
            endpoint
        };
        let endpoints: Vec<Value> = (0..10_000).map(endpoint).collect();
        let node = |index: usize| {
            let mut node = value["nodes"][0].clone();
            node["id"] = json!(format!("envoy-{index}"));
            if !index.is_multiple_of(200) {
                node["types"] = json!([]);
            }
            node
        };
        let nodes: Vec<Value> = (0..1000).map(node).collect();
        value["clusters"][0]["endpoints"] = json!(endpoints);
        value["nodes"] = json!(nodes);
    })
}

#[test]
fn a_large_mesh_fits_on_a_screen_or_two_and_tells_how_to_see_the_rest() {
    let report = large();
    let text = render(&report, &args(), SystemTime::now());
    expect(
        &text,
        &[
            "endpoints  10,000, 5 DRAINED",
            "proxies    1,000, 5 behind",
            "10,000 endpoints: `--cluster MODEL/VERSION`",
            "worker-8000",
            "envoy-800",
            "`--proxies` shows all",
        ],
    );
    assert!(text.lines().count() < 70, "{}", text.lines().count());
    let asked = StatusArgs {
        cluster: Some("minilm/v1".to_owned()),
        ..args()
    };
    let text = render(&report, &asked, SystemTime::now());
    assert!(
        text.contains("worker-9999") && !text.contains("minilm/v2"),
        "not the cluster that was asked for"
    );
}

#[test]
fn what_comes_from_outside_cannot_forge_a_line() {
    let text = shown(|value| {
        value["rejected_records"][0]["reason"] = json!("bad\u{1b}[2J\nPROXIES");
        value["policies"][0]["errors"][0]["message"] = json!("x\ny");
    });
    expect(&text, &["bad\\u{1b}[2J\\nPROXIES", "x\\ny"]);
}

#[test]
fn zones_and_what_spills_over_are_shown_where_there_are_several() {
    let text = shown(|value| {
        value["clusters"][0]["localities"] = json!([
            {"zone": "b", "capacity": 200.0, "busy": null, "away_percent": 0},
            {"zone": "a", "rack": "r7", "capacity": 400.0, "busy": 0.91, "away_percent": 15,
             "to": [{"zone": "b", "percent": 10}, {"zone": "c", "rack": "r1", "percent": 5}]},
        ]);
        value["nodes"][0]["zone"] = json!("a");
        value["nodes"][0]["rack"] = json!("r7");
    });
    expect(
        &text,
        &[
            "minilm/v1      a/r7      400       91 %     10 % to b, 5 % to c/r1\n  minilm/v1      b         200       unknown  -",
            "envoy-1  a/r7      delta",
        ],
    );
    assert!(!shown(|_| {}).contains("LOCALITIES"));
}

#[test]
fn what_clients_without_a_proxy_do_without_is_shown_once_there_are_any() {
    let limits = |client: &'static str| {
        shown(move |value| {
            let limit = json!({"of": "RoutingPolicy/minilm", "field": "spec.shadow", "effect": "no copies"});
            value["proxyless"] = json!({"targets": ["gateway"], "limits": [limit]});
            value["nodes"][0]["client"] = json!(client);
        })
    };
    expect(&limits("grpc"), &["RoutingPolicy/minilm  spec.shadow  no copies"]);
    assert!(!limits("envoy").contains("no copies"));
}
