//! `kilocard get` and `kilocard delete`.

use crate::etcd::Etcd;
use crate::kilocard::{kilocard, kilocard_with_input, routing};
use kilocard_cli::authorship::Authorship;
use kilocard_cli::store::{Change, Commit, Store};
use serde_json::json;

const STDIN: &[&str] = &["apply", "-f", "-", "--no-wait"];

async fn etcd_with_two_policies() -> Etcd {
    let etcd = Etcd::start().await;
    kilocard_with_input(
        etcd.endpoint(),
        STDIN,
        &(routing("a", "a", 10) + "---\n" + &routing("b", "b", 20)),
    )
    .expect(0);
    etcd
}

#[tokio::test]
async fn policies_are_listed_with_revision_and_verdict() {
    let etcd = etcd_with_two_policies().await;
    let revision = etcd.revision_of("policies/RoutingPolicy/a").await;
    let status = json!({"state": "accepted", "revision": revision, "serving_revision": revision, "errors": []});
    etcd.put("status/policies/RoutingPolicy/a", status).await;

    let run = kilocard(etcd.endpoint(), &["get"]).expect(0);
    let line = |name: &str| {
        run.stdout
            .lines()
            .find(|line| line.contains(&format!(" {name} ")))
            .unwrap()
            .to_owned()
    };
    assert!(
        line("a").contains(&revision.to_string()) && line("a").contains("accepted"),
        "{}",
        run.stdout
    );
    assert!(
        line("b").contains("not acknowledged yet") && line("b").contains("v2 20%"),
        "{}",
        run.stdout
    );

    let report = kilocard(etcd.endpoint(), &["get", "ROUTING", "a", "--output", "json"])
        .expect(0)
        .json();
    let policy = &report["policies"][0];
    assert_eq!(
        (&policy["kind"], &policy["name"]),
        (&json!("RoutingPolicy"), &json!("a"))
    );
    assert_eq!(
        (&policy["revision"], &policy["verdict"]["state"]),
        (&json!(revision), &json!("accepted"))
    );
    assert_eq!(policy["document"]["spec"]["versions"][1]["weight"], 10);

    let run = kilocard(etcd.endpoint(), &["get", "validation"]).expect(0);
    assert_eq!(run.stdout, "no policies\n");
}

#[tokio::test]
async fn what_get_prints_as_yaml_apply_finds_unchanged() {
    let etcd = Etcd::start().await;
    let validation = "---\napi_version: kilocard/v1\nkind: ValidationPolicy\nmetadata: {name: default}\nspec: {}\n";
    kilocard_with_input(etcd.endpoint(), STDIN, &(routing("a", "a", 10) + validation)).expect(0);
    let yaml = kilocard(etcd.endpoint(), &["get", "-o", "yaml"]).expect(0).stdout;
    let run = kilocard_with_input(etcd.endpoint(), STDIN, &yaml).expect(0);
    assert_eq!(run.stdout.matches("unchanged").count(), 2, "{}\n{yaml}", run.stdout);
}

#[tokio::test]
async fn a_policy_is_deleted_once() {
    let etcd = etcd_with_two_policies().await;
    let run = kilocard(etcd.endpoint(), &["delete", "routingpolicy", "a", "-o", "json"]).expect(0);
    assert_eq!(run.json()["action"], "deleted");
    assert_eq!(etcd.value("policies/RoutingPolicy/a").await, None);
    let run = kilocard(etcd.endpoint(), &["delete", "routing", "a"]).expect(1);
    assert!(
        run.stderr
            .contains("there is no RoutingPolicy/a; of this kind there are: b"),
        "{}",
        run.stderr
    );
    assert!(etcd.value("policies/RoutingPolicy/b").await.is_some());
    kilocard(etcd.endpoint(), &["get", "routing", "a"]).expect(1);
}

#[tokio::test]
async fn meshes_under_different_prefixes_do_not_see_each_other() {
    let etcd = Etcd::start().await;
    let other = [STDIN, &["--etcd-prefix", "/other"]].concat();
    kilocard_with_input(etcd.endpoint(), &other, &routing("a", "a", 10)).expect(0);
    assert_eq!(kilocard(etcd.endpoint(), &["get"]).expect(0).stdout, "no policies\n");
    kilocard(etcd.endpoint(), &["get", "routing", "a", "--etcd-prefix", "/other"]).expect(0);
    let run = kilocard(etcd.endpoint(), &["get", "--etcd-prefix", "other/"]).expect(2);
    assert!(run.stderr.contains("must start with '/'"), "{}", run.stderr);
}

/// gRPC's default limit for one answer is 4 MiB.
#[tokio::test]
async fn policies_of_many_megabytes_are_read() {
    let etcd = Etcd::start().await;
    let long = format!("{{\"x\": \"{}\"}}", "a".repeat(1 << 20));
    for n in 0..5 {
        etcd.put(&format!("policies/RoutingPolicy/long-{n}"), &long).await;
    }
    let run = kilocard(etcd.endpoint(), &["get"]).expect(0);
    assert_eq!(run.stdout.matches("cannot be read").count(), 5, "{}", run.stdout);
    // A conflict brings all policies back as well.
    let mut store = Store::connect(&etcd.args()).await.unwrap();
    let read = store.policies().await.unwrap();
    let id = read.policies.keys().next().unwrap();
    let change = Change { id, document: None };
    etcd.put("policies/RoutingPolicy/long-0", &long).await;
    let by = Authorship {
        author: "ada".into(),
        reason: None,
    };
    let commit = store.write(&[change], &read, &by).await.unwrap();
    assert!(matches!(commit, Commit::Stale(now) if now.policies.len() == 5));
}
