//! `kilocard status` against a stand-in for the control plane's admin address.

use crate::kilocard::{Run, deserted_url, kilocard};
use axum::{Json, Router, routing::get};
use serde_json::{Value, json};

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
