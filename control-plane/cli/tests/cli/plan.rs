//! `kilocard plan`.

use crate::etcd::Etcd;
use crate::kilocard::{deserted_url, kilocard, kilocard_with_input, routing};
use serde_json::json;
use std::path::Path;

fn write(folder: &Path, name: &str, text: &str) -> String {
    let path = folder.join(name);
    std::fs::write(&path, text).unwrap();
    path.display().to_string()
}

#[tokio::test]
async fn what_is_in_force_is_compared_with_what_apply_would_make_of_it() {
    let etcd = Etcd::start().await;
    let both = routing("a", "a", 10) + "---\n" + &routing("b", "b", 10);
    kilocard_with_input(etcd.endpoint(), &["apply", "-f", "-", "--no-wait"], &both).expect(0);
    let plan = |arguments: &[&str]| {
        kilocard_with_input(
            etcd.endpoint(),
            &[&["plan", "-f", "-"], arguments].concat(),
            &routing("a", "a", 30),
        )
    };
    let text = plan(&[]).expect(0).stdout;
    for expected in [
        "RoutingPolicy/a configured\n  spec.versions[v1].weight: 90 → 70",
        "a      -     v1    v2  20%",
    ] {
        assert!(text.contains(expected), "{text}");
    }
    assert!(!text.contains("RoutingPolicy/b"), "{text}");
    plan(&["--fail-on", "moved"]).expect(1);
    let alone = plan(&["--only", "-o", "json"]).expect(0).json();
    assert_eq!(
        alone["policies"][1],
        json!({
        "kind": "RoutingPolicy", "name": "b", "action": "deleted", "fields": alone["policies"][1]["fields"]})
    );
    assert_eq!(
        etcd.value("policies/RoutingPolicy/a").await.unwrap()["spec"]["versions"][1]["weight"],
        10
    );
}

#[test]
fn files_are_compared_without_etcd() {
    let folder = tempfile::tempdir().unwrap();
    let now = write(folder.path(), "now.yaml", &routing("a", "a", 10));
    let next = write(folder.path(), "next.yaml", &routing("a", "a", 10));
    let arguments = ["plan", "-f", &next, "--against", &now, "--fail-on", "moved"];
    let text = kilocard(&deserted_url(), &arguments).expect(0).stdout;
    assert!(
        text.contains("no policy differs") && text.contains("no user gets another version"),
        "{text}"
    );
    kilocard(&deserted_url(), &["plan", "-f", &next]).expect(2);
    let rival = write(folder.path(), "rival.yaml", &routing("b", "a", 10));
    let run = kilocard(&deserted_url(), &["plan", "-f", &rival, "--against", &now]).expect(2);
    assert!(
        run.stderr.contains("already routed by RoutingPolicy/a"),
        "{}",
        run.stderr
    );
}

#[test]
fn captured_requests_are_replayed_from_files_and_from_stdin() {
    let folder = tempfile::tempdir().unwrap();
    let now = write(folder.path(), "now.yaml", &routing("a", "a", 0));
    let strict = "---\napi_version: kilocard/v1\nkind: ValidationPolicy\nmetadata: {name: v}\nspec:\n  rules:\n  \
                  - {name: sla, header: x-sla, required: true}\n";
    let next = write(folder.path(), "next.yaml", &(routing("a", "a", 100) + strict));
    let headers = |more: &[(&str, &str)]| {
        let usual = [
            (":method", "POST"),
            (":path", "/p.S/M"),
            ("content-type", "application/grpc"),
            ("te", "trailers"),
        ];
        let headers: Vec<_> = usual
            .iter()
            .chain(&[("x-model", "a")])
            .chain(more)
            .map(|(n, v)| json!([n, v]))
            .collect();
        json!({"v": 1, "stages": "validation+routing", "random": "0000000000000000", "headers": headers}).to_string()
    };
    let log = format!(
        "starting\n{}\n{}\n{{\"capture\": \"{{\"}}\n",
        json!({"status": 200, "capture": headers(&[])}),
        headers(&[("x-sla", "gold")])
    );
    let file = write(folder.path(), "access.log", &log);
    let (etcd, plan) = (deserted_url(), ["plan", "-f", next.as_str(), "--against", now.as_str()]);
    let text = kilocard(&etcd, &[&plan[..], &["--replay", &file]].concat())
        .expect(0)
        .stdout;
    for expected in [
        "replayed 2 captured requests",
        "a/v1 → a/v2",
        "RULE_VIOLATED by rule v/sla",
        "access.log:4: ",
    ] {
        assert!(text.contains(expected), "{expected:?} is not in\n{text}");
    }
    let from_stdin = [&plan[..], &["--replay", "-", "--fail-on", "refused", "-o", "json"]].concat();
    let report = kilocard_with_input(&etcd, &from_stdin, &log).expect(1).json();
    assert_eq!(
        (
            &report["replay"]["moved"][0]["requests"],
            &report["replay"]["malformed"]["lines"]
        ),
        (&json!(1), &json!(1))
    );
    kilocard(&etcd, &[&plan[..], &["--replay", "/no/such.log"]].concat()).expect(2);
    kilocard(&etcd, &[&plan[..], &["--fail-on", "refused"]].concat()).expect(2);
}

#[test]
fn a_log_without_captures_is_no_ground_for_a_verdict() {
    let folder = tempfile::tempdir().unwrap();
    let policy = write(folder.path(), "policy.yaml", &routing("a", "a", 10));
    let log = write(folder.path(), "access.log", "{\"a\":\n");
    let plan = ["plan", "-f", &policy, "--against", &policy, "--replay", &log];
    kilocard(&deserted_url(), &plan).expect(0);
    let asked = kilocard(&deserted_url(), &[&plan[..], &["--fail-on", "refused"]].concat());
    assert!(asked.expect(2).stderr.contains("0 captured requests"));
}
