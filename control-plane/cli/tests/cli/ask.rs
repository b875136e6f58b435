//! `kilocard explain` and `kilocard whois`.

use crate::etcd::Etcd;
use crate::kilocard::{deserted_url, kilocard, kilocard_into, kilocard_with_input, routing};
use serde_json::json;

const STDIN: &[&str] = &["apply", "-f", "-", "--no-wait"];

#[test]
fn files_are_asked_without_etcd() {
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("a.yaml");
    std::fs::write(&path, routing("a", "minilm", 100)).unwrap();
    let (file, etcd) = (path.to_str().unwrap(), deserted_url());
    let arguments = [
        "explain",
        "-f",
        file,
        "-H",
        "x-model: minilm",
        "-H",
        "x-user-id: ada",
        "-o",
        "json",
    ];
    let report = kilocard(&etcd, &arguments).expect(0).json();
    assert_eq!(report["decision"]["route_key"], "minilm/v2");
    let report = kilocard(&etcd, &["whois", "ada", "-f", file, "-o", "json"])
        .expect(0)
        .json();
    assert_eq!(
        (&report["user"], &report["models"][0]["version"]),
        (&json!("ada"), &json!("v2"))
    );
    kilocard(&etcd, &["explain", "-f", file, "-H", "no colon"]).expect(2);
}

/// The reader of a pipe may have seen enough; a backup on a full disk is none.
#[test]
fn a_result_that_cannot_be_written_is_a_failure_unless_nobody_wants_it() {
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("a.yaml");
    std::fs::write(&path, routing("a", "minilm", 10)).unwrap();
    let arguments = ["whois", "ada", "-f", path.to_str().unwrap()];
    let full = std::fs::File::options().write(true).open("/dev/full").unwrap();
    let run = kilocard_into(full.into(), &arguments).expect(1);
    assert!(run.stderr.contains("cannot write the result"), "{}", run.stderr);
    let (reader, writer) = std::io::pipe().unwrap();
    drop(reader);
    assert_eq!(kilocard_into(writer.into(), &arguments).expect(0).stderr, "");
}

#[test]
fn files_that_contradict_each_other_are_refused() {
    let yaml = routing("a", "minilm", 1) + "---\n" + &routing("b", "minilm", 2);
    let run = kilocard_with_input(&deserted_url(), &["whois", "ada", "-f", "-"], &yaml).expect(2);
    assert!(
        run.stderr.contains("not valid together") && run.stderr.contains("RoutingPolicy/b"),
        "{}",
        run.stderr
    );
}

#[tokio::test]
async fn the_mesh_is_asked_by_what_is_in_force_and_not_by_what_was_rejected() {
    let etcd = Etcd::start().await;
    kilocard_with_input(etcd.endpoint(), STDIN, &routing("a", "minilm", 0)).expect(0);
    let good = etcd.revision_of("policies/RoutingPolicy/a").await;
    kilocard_with_input(etcd.endpoint(), STDIN, &routing("a", "minilm", 100)).expect(0);
    let bad = etcd.revision_of("policies/RoutingPolicy/a").await;
    let version = || {
        kilocard(etcd.endpoint(), &["whois", "ada", "-o", "json"])
            .expect(0)
            .json()["models"][0]["version"]
            .clone()
    };
    assert_eq!(version(), "v2", "the newest, as long as nothing is said about it");

    let errors = json!([{"path": "", "message": "is not liked"}]);
    let status = json!({"state": "rejected", "revision": bad, "serving_revision": good, "errors": errors});
    etcd.put("status/policies/RoutingPolicy/a", status).await;
    assert_eq!(version(), "v1");
    let run = kilocard(
        etcd.endpoint(),
        &["explain", "-H", "x-model: minilm", "-H", "x-user-id: ada"],
    )
    .expect(0);
    assert!(run.stdout.contains("forwarded to minilm/v1"), "{}", run.stdout);
    assert!(
        run.stderr
            .contains(&format!("revision {bad} was rejected; revision {good} is in force")),
        "{}",
        run.stderr
    );

    etcd.client().await.compact(bad, None).await.unwrap();
    let run = kilocard(etcd.endpoint(), &["whois", "ada"]).expect(0);
    assert!(
        run.stderr.contains("compacted") && run.stdout.contains("no model"),
        "{}{}",
        run.stdout,
        run.stderr
    );
}
