//! `kilocard status` against a stand-in for the control plane's admin address.

use crate::kilocard::{Run, deserted_url, kilocard, start};
use axum::{Json, Router, routing::get};
use serde_json::{Value, json};
use std::io::{BufRead, BufReader};
use std::process::Command;

/// Serves one report at `/status`, on a port of its own, until the test's runtime ends.
async fn serve(report: Value) -> String {
    let app = Router::new().route("/status", get(move || async move { Json(report) }));
    let listener = tokio::net::TcpListener::bind("127.0.0.1:0").await.unwrap();
    let url = format!("http://{}", listener.local_addr().unwrap());
    tokio::spawn(async move { axum::serve(listener, app).await });
    url
}

async fn status(arguments: &'static [&'static str], url: String) -> Run {
    let run = move || {
        kilocard(
            &deserted_url(),
            &[&["status", "--control-plane", &url], arguments].concat(),
        )
    };
    tokio::task::spawn_blocking(run).await.unwrap()
}

#[tokio::test]
async fn the_report_is_shown_and_passed_on_whole() {
    let report = json!({
        "control_plane": {"version": "0.1.0", "etcd_connected": true, "etcd_revision": 42, "snapshot_version": "abc"},
        "policies": [], "clusters": [], "rejected_records": [], "nodes": [], "of_a_newer_release": 1,
    });
    let url = serve(report.clone()).await;
    let run = status(&[], format!("{url}/")).await.expect(0);
    assert!(
        run.stdout
            .starts_with("control plane 0.1.0: etcd connected, revision 42"),
        "{}",
        run.stdout
    );
    assert_eq!(status(&["-o", "json"], url).await.expect(0).json(), report);
}

#[tokio::test]
async fn what_is_no_control_plane_is_told_from_what_is_not_there() {
    let url = serve(json!({"hello": "world"})).await;
    let run = status(&[], url.clone()).await.expect(1);
    assert!(
        run.stderr.contains("did not answer with a status report"),
        "{}",
        run.stderr
    );
    let run = status(&[], format!("{url}/admin")).await.expect(1);
    assert!(run.stderr.contains("answered 404"), "{}", run.stderr);
    let nowhere = deserted_url();
    let run = status(&[], nowhere.clone()).await.expect(1);
    assert!(
        run.stderr
            .contains(&format!("cannot reach the control plane at {nowhere}/status")),
        "{}",
        run.stderr
    );
    let run = status(&["-o", "json"], "not a url".to_owned()).await.expect(1);
    let error: Value = serde_json::from_str(&run.stderr).unwrap();
    assert_eq!(error["error"]["reason"], "control_plane_unreachable");
}

/// Lines come as long as it is watched; Ctrl-C ends it well.
#[tokio::test]
async fn a_watch_into_a_pipe_is_a_line_each_time_until_it_is_interrupted() {
    let report = json!({
        "control_plane": {"version": "0.1.0", "etcd_connected": true, "etcd_revision": 42, "snapshot_version": "abc"},
        "policies": [], "clusters": [], "rejected_records": [], "nodes": [],
    });
    let url = serve(report).await;
    let watch = move || {
        let flags = ["status", "--watch", "--interval", "200ms", "--control-plane", &url];
        let mut child = start(&deserted_url(), &flags);
        let mut lines = BufReader::new(child.stdout.take().unwrap()).lines();
        let seen: Vec<String> = (0..3).map(|_| lines.next().unwrap().unwrap()).collect();
        let pid = child.id().to_string();
        assert!(Command::new("kill").args(["-INT", &pid]).status().unwrap().success());
        (seen, child.wait().unwrap())
    };
    let (seen, ended) = tokio::task::spawn_blocking(watch).await.unwrap();
    for line in seen {
        assert!(line.contains("source=connected revision=42 policies=0"), "{line}");
    }
    assert_eq!(ended.code(), Some(0));
}

#[tokio::test]
async fn devices_are_shown_and_filtered() {
    let device = |node: &str, health: &str| {
        json!({"node": node, "pci": "0000:01:00.0", "health": health, "simulated": true, "workers": [], "news": 1,
            "inventory": {"model": "NVIDIA H100", "memory_gb": 80, "simulated": true}})
    };
    let report = json!({"devices": [device("gpu-a", "drained"), device("gpu-b", "healthy")]});
    let app = Router::new().route("/devices", get(move || async move { Json(report) }));
    let listener = tokio::net::TcpListener::bind("127.0.0.1:0").await.unwrap();
    let url = format!("http://{}", listener.local_addr().unwrap());
    tokio::spawn(async move { axum::serve(listener, app).await });
    let devices = async |flags: &'static [&'static str]| {
        let url = url.clone();
        let run = move || {
            let base = ["devices", "--control-plane", &url];
            kilocard(&deserted_url(), &[&base[..], flags].concat()).expect(0)
        };
        tokio::task::spawn_blocking(run).await.unwrap()
    };
    let all = devices(&[]).await.stdout;
    assert!(
        all.contains("NVIDIA H100 (simulated)") && all.contains("2 devices, 1 drained, 2 simulated"),
        "{all}"
    );
    // As it came, with what this release does not know.
    assert_eq!(
        devices(&["--drained", "-o", "json"]).await.json()["devices"],
        json!([device("gpu-a", "drained")])
    );
    assert!(devices(&["--node", "gpu-b"]).await.stdout.contains("gpu-b"));
    assert_eq!(devices(&["--node", "gpu-c"]).await.stdout, "no such device\n");
}
