//! `kilocard apply`.

use crate::etcd::Etcd;
use crate::kilocard::{Run, deserted_url, kilocard, kilocard_with_input, routing, start};
use kilocard_cli::authorship::Authorship;
use kilocard_cli::changes::{Changes, Intent};
use kilocard_cli::failure::Failure;
use kilocard_cli::store::Store;
use kilocard_policy::config::{Document, parse_bytes};
use serde_json::{Value, json};
use std::time::{Duration, Instant};

const STDIN: &[&str] = &["apply", "-f", "-", "--no-wait"];

#[tokio::test]
async fn a_policy_is_created_then_left_alone_then_configured() {
    let etcd = Etcd::start().await;
    let run = kilocard_with_input(etcd.endpoint(), STDIN, &routing("minilm", "minilm", 10)).expect(0);
    let first = etcd.revision_of("policies/RoutingPolicy/minilm").await;
    assert_eq!(run.stdout, format!("RoutingPolicy/minilm created (revision {first})\n"));
    let stored = etcd.value("policies/RoutingPolicy/minilm").await.unwrap();
    assert_eq!(
        stored["spec"]["versions"],
        json!([{"version": "v1", "weight": 90, "fallback": []}, {"version": "v2", "weight": 10, "fallback": ["v1"]}])
    );

    let run = kilocard_with_input(etcd.endpoint(), STDIN, &routing("minilm", "minilm", 10)).expect(0);
    assert_eq!(
        run.stdout,
        format!("RoutingPolicy/minilm unchanged (revision {first})\n")
    );
    assert_eq!(etcd.revision_of("policies/RoutingPolicy/minilm").await, first);

    let run = kilocard_with_input(etcd.endpoint(), STDIN, &routing("minilm", "minilm", 50)).expect(0);
    let second = etcd.revision_of("policies/RoutingPolicy/minilm").await;
    assert!(second > first);
    assert_eq!(
        run.stdout,
        format!("RoutingPolicy/minilm configured (revision {second})\n  v1 → v2: 40% of users\n")
    );
}

#[tokio::test]
async fn with_three_versions_the_cohorts_are_remembered_so_that_only_those_move_who_must() {
    let etcd = Etcd::start().await;
    let split = |v1: u32, v2: u32, v3: u32| {
        format!(
            "api_version: kilocard/v1\nkind: RoutingPolicy\nmetadata: {{name: a}}\nspec:\n  model: a\n  versions:\n  \
             - {{version: v1, weight: {v1}}}\n  - {{version: v2, weight: {v2}}}\n  - {{version: v3, weight: {v3}}}\n"
        )
    };
    let apply = |input: &str| kilocard_with_input(etcd.endpoint(), STDIN, input).expect(0).stdout;
    apply(&split(80, 10, 10));
    let dry = kilocard_with_input(etcd.endpoint(), &["apply", "-f", "-", "--dry-run"], &split(70, 20, 10)).expect(0);
    assert!(dry.stdout.contains("  v1 → v2: 10% of users\n"), "{}", dry.stdout);
    let text = apply(&split(70, 20, 10));
    assert!(text.ends_with(")\n  v1 → v2: 10% of users\n"), "{text}");
    let stored = etcd.value("policies/RoutingPolicy/a").await.unwrap();
    assert!(stored["spec"]["cohorts"]["v2"].is_string(), "{stored}");
    assert!(apply(&split(70, 20, 10)).contains("unchanged"));
    assert!(apply(&split(80, 10, 10)).ends_with("  v2 → v1: 10% of users\n"));
}

#[tokio::test]
async fn all_documents_are_written_at_one_revision() {
    let etcd = Etcd::start().await;
    let folder = etcd.folder().join("policies");
    std::fs::create_dir(&folder).unwrap();
    std::fs::write(
        folder.join("a.yaml"),
        routing("a", "a", 1) + "---\n" + &routing("b", "b", 2),
    )
    .unwrap();
    let json = r#"{"api_version":"kilocard/v1","kind":"ValidationPolicy","metadata":{"name":"default"},"spec":{}}"#;
    std::fs::write(folder.join("z.json"), json).unwrap();
    let run = kilocard(
        etcd.endpoint(),
        &["apply", "-f", folder.to_str().unwrap(), "--no-wait", "-o", "json"],
    )
    .expect(0);
    let report = run.json();
    let policies = report["policies"].as_array().unwrap();
    assert_eq!(policies.len(), 3);
    for policy in policies {
        assert_eq!(policy["action"], "created");
        assert_eq!(policy["revision"], policies[0]["revision"]);
        assert!(policy["kind"].is_string() && policy["name"].is_string() && policy["verdict"].is_null());
    }
}

#[tokio::test]
async fn more_documents_than_one_transaction_takes_are_refused_with_the_way_out() {
    let etcd = Etcd::start().await;
    let documents = |count: usize| {
        let each: Vec<String> = (0..count)
            .map(|n| routing(&format!("m{n}"), &format!("m{n}"), 1))
            .collect();
        each.join("---\n")
    };
    for arguments in [STDIN, &["apply", "-f", "-", "--dry-run"]] {
        let run = kilocard_with_input(etcd.endpoint(), arguments, &documents(128)).expect(2);
        let expected = ["128 policies", "at most 127", "in parts"];
        assert!(expected.iter().all(|text| run.stderr.contains(text)), "{}", run.stderr);
    }
    assert_eq!(etcd.value("policies/RoutingPolicy/m0").await, None);
    kilocard_with_input(etcd.endpoint(), STDIN, &documents(127)).expect(0);
    // What is there already does not count again.
    kilocard_with_input(etcd.endpoint(), STDIN, &documents(254)).expect(0);
    assert!(etcd.value("policies/RoutingPolicy/m253").await.is_some());
}

/// etcd takes 1.5 MiB a request, and the record of the change holds the documents a second time.
#[tokio::test]
async fn documents_as_long_as_one_transaction_takes_are_written_with_their_record() {
    let etcd = Etcd::start().await;
    let documents = |count: usize| {
        let rule = |n: usize| json!({"name": format!("rule-{n}"), "header": "x-sla", "pattern": format!("[a-z]{{{}}}", n % 9)});
        let rules: Value = (0..1500).map(rule).collect();
        let each: Vec<String> = (0..count)
            .map(|n| {
                let metadata = json!({"name": format!("long-{n}")});
                let spec = json!({"rules": rules});
                json!({"api_version": "kilocard/v1", "kind": "ValidationPolicy", "metadata": metadata, "spec": spec})
                    .to_string()
            })
            .collect();
        each.join("\n---\n")
    };
    kilocard_with_input(etcd.endpoint(), STDIN, &documents(1)).expect(0);
    let bytes = etcd
        .value("policies/ValidationPolicy/long-0")
        .await
        .unwrap()
        .to_string()
        .len();
    let fitting = (640 << 10) / bytes;
    assert!(fitting > 2, "{bytes} bytes a document");
    // The first one is there already and does not count.
    kilocard_with_input(etcd.endpoint(), STDIN, &documents(fitting + 1)).expect(0);
    let history = kilocard(etcd.endpoint(), &["history", "-o", "json"]).expect(0).json();
    assert_eq!(history["changes"][0]["changes"].as_array().unwrap().len(), fitting);
    let run = kilocard_with_input(etcd.endpoint(), STDIN, &documents(2 * fitting + 2)).expect(2);
    assert!(run.stderr.contains("fit one transaction"), "{}", run.stderr);
}

#[tokio::test]
async fn nothing_is_written_if_any_document_is_invalid_and_every_error_is_told() {
    let etcd = Etcd::start().await;
    let good = routing("good", "good", 10);
    let bad = routing("bad", "BAD", 10).replace("v2, weight: 10", "v1, weight: 101");
    let input = format!("{good}---\n{bad}---\nkind: Nonsense\n");
    let run = kilocard_with_input(etcd.endpoint(), STDIN, &input).expect(2);
    for expected in [
        "stdin, document 2 (RoutingPolicy/bad), spec.model: ",
        "stdin, document 2 (RoutingPolicy/bad), spec.versions[1].weight: ",
        "stdin, document 3, kind: ",
        "stdin, document 3, api_version: ",
    ] {
        assert!(run.stderr.contains(expected), "{expected:?} is not in\n{}", run.stderr);
    }
    assert_eq!(etcd.value("policies/RoutingPolicy/good").await, None);

    let run = kilocard_with_input(etcd.endpoint(), &["apply", "-f", "-", "-o", "json"], &input).expect(2);
    let error: Value = serde_json::from_str(&run.stderr).unwrap();
    assert_eq!(
        (run.stdout.as_str(), &error["error"]["reason"]),
        ("", &json!("invalid_document"))
    );
    let detail = &error["error"]["details"][0];
    assert_eq!((&detail["file"], &detail["document"]), (&json!("stdin"), &json!(2)));
    assert_eq!(
        (&detail["policy"], &detail["path"]),
        (&json!("RoutingPolicy/bad"), &json!("spec.model"))
    );
}

#[test]
fn documents_are_checked_before_etcd_is_asked() {
    let run = kilocard_with_input(&deserted_url(), STDIN, "kind: [broken\n").expect(2);
    assert!(
        run.stderr.contains("line") && run.stderr.contains("column"),
        "{}",
        run.stderr
    );
    let run = kilocard(&deserted_url(), &["apply", "-f", "/no/such/file.yaml"]).expect(2);
    assert!(
        run.stderr.contains("/no/such/file.yaml: cannot be read"),
        "{}",
        run.stderr
    );
}

#[tokio::test]
async fn a_document_that_contradicts_one_in_etcd_is_refused() {
    let etcd = Etcd::start().await;
    kilocard_with_input(etcd.endpoint(), STDIN, &routing("one", "minilm", 10)).expect(0);
    let run = kilocard_with_input(etcd.endpoint(), STDIN, &routing("two", "minilm", 10)).expect(2);
    assert!(
        run.stderr.contains("RoutingPolicy/two") && run.stderr.contains("RoutingPolicy/one"),
        "{}",
        run.stderr
    );
    assert_eq!(etcd.value("policies/RoutingPolicy/two").await, None);
}

#[tokio::test]
async fn a_dry_run_tells_and_writes_nothing() {
    let etcd = Etcd::start().await;
    let run = kilocard_with_input(
        etcd.endpoint(),
        &["apply", "-f", "-", "--dry-run"],
        &routing("a", "a", 1),
    )
    .expect(0);
    assert_eq!(run.stdout, "RoutingPolicy/a created\nnothing was written (--dry-run)\n");
    assert_eq!(etcd.value("policies/RoutingPolicy/a").await, None);
}

/// Runs `apply` while a stand-in for the control plane judges what appears in etcd.
async fn apply_and_judge(etcd: &Etcd, verdict: impl Fn(i64) -> Value) -> Run {
    let file = etcd.folder().join("a.yaml");
    std::fs::write(&file, routing("a", "a", 1)).unwrap();
    let child = start(
        etcd.endpoint(),
        &["apply", "-f", file.to_str().unwrap(), "--wait", "60s"],
    );
    let revision = etcd.revision_of("policies/RoutingPolicy/a").await;
    etcd.put("status/policies/RoutingPolicy/a", verdict(revision)).await;
    tokio::task::spawn_blocking(move || Run::of(child.wait_with_output().unwrap()))
        .await
        .unwrap()
}

#[tokio::test]
async fn the_verdict_of_the_control_plane_is_waited_for() {
    let etcd = Etcd::start().await;
    let accepted = |revision| json!({"state": "accepted", "revision": revision, "serving_revision": revision});
    let run = apply_and_judge(&etcd, accepted).await.expect(0);
    assert!(run.stdout.starts_with("RoutingPolicy/a created (revision ") && run.stdout.ends_with("): accepted\n"));
    assert_eq!(run.stderr, "");
}

#[tokio::test]
async fn a_rejection_is_a_failure_with_its_reasons() {
    let etcd = Etcd::start().await;
    let rejected = |revision| {
        json!({"state": "rejected", "revision": revision, "serving_revision": null,
               "errors": [{"path": "spec.model", "message": "is not served"}]})
    };
    let run = apply_and_judge(&etcd, rejected).await.expect(1);
    assert!(
        run.stdout
            .contains("rejected, none in force\n    spec.model: is not served\n"),
        "{}",
        run.stdout
    );
}

#[tokio::test]
async fn without_a_control_plane_it_is_written_and_said_to_be_unacknowledged() {
    let etcd = Etcd::start().await;
    let arguments = ["apply", "-f", "-", "--wait", "100ms"];
    let run = kilocard_with_input(etcd.endpoint(), &arguments, &routing("a", "a", 1)).expect(0);
    assert!(run.stdout.contains("not acknowledged yet"), "{}", run.stdout);
    assert!(run.stderr.contains("no control plane"), "{}", run.stderr);
    assert!(etcd.value("policies/RoutingPolicy/a").await.is_some());
}

fn document(name: &str, canary: u32) -> Document {
    let yaml: Value = serde_norway::from_str(&routing(name, name, canary)).unwrap();
    parse_bytes(&serde_json::to_vec(&yaml).unwrap()).unwrap()
}

async fn changes(documents: Vec<Document>, store: &mut Store) -> Changes {
    let intent = Intent {
        documents,
        ..Intent::default()
    };
    Changes::new(intent, store.policies().await.unwrap()).unwrap()
}

fn ada() -> Authorship {
    Authorship {
        author: "ada".into(),
        reason: None,
    }
}

#[tokio::test]
async fn a_policy_that_somebody_else_changed_meanwhile_is_not_overwritten() {
    let etcd = Etcd::start().await;
    kilocard_with_input(etcd.endpoint(), STDIN, &routing("a", "a", 1)).expect(0);
    let before = etcd.revision_of("policies/RoutingPolicy/a").await;
    let mut store = Store::connect(&etcd.args()).await.unwrap();
    let plan = changes(vec![document("a", 5), document("b", 5)], &mut store).await;

    kilocard_with_input(etcd.endpoint(), STDIN, &routing("a", "a", 2)).expect(0);
    let now = etcd.revision_of("policies/RoutingPolicy/a").await;
    let failure = plan.commit(&mut store, &ada()).await.unwrap_err();
    assert_eq!((failure.label(), failure.exit_code()), ("conflict", 1));
    let message = failure.to_string();
    let expected = format!("RoutingPolicy/a was revision {before} when read, and now is revision {now}");
    assert!(message.contains(&expected) && message.contains("again"), "{message}");
    assert!(!message.contains("RoutingPolicy/b"), "{message}");
    assert_eq!(etcd.value("policies/RoutingPolicy/b").await, None, "all or none");
}

#[tokio::test]
async fn a_policy_created_or_deleted_meanwhile_is_a_conflict_too() {
    let etcd = Etcd::start().await;
    let mut store = Store::connect(&etcd.args()).await.unwrap();
    let plan = changes(vec![document("a", 5)], &mut store).await;
    kilocard_with_input(etcd.endpoint(), STDIN, &routing("a", "a", 2)).expect(0);
    let message = plan.commit(&mut store, &ada()).await.unwrap_err().to_string();
    assert!(message.contains("RoutingPolicy/a was not there when read"), "{message}");

    let plan = changes(vec![document("a", 5)], &mut store).await;
    kilocard(etcd.endpoint(), &["delete", "routing", "a"]).expect(0);
    let message = plan.commit(&mut store, &ada()).await.unwrap_err().to_string();
    assert!(message.contains("now is not there"), "{message}");
}

#[tokio::test]
async fn another_policy_written_meanwhile_is_no_conflict_unless_it_contradicts() {
    let etcd = Etcd::start().await;
    let mut store = Store::connect(&etcd.args()).await.unwrap();
    let plan = changes(vec![document("a", 5)], &mut store).await;
    kilocard_with_input(etcd.endpoint(), STDIN, &routing("other", "other", 2)).expect(0);
    assert!(plan.commit(&mut store, &ada()).await.unwrap().revision.is_some());

    let plan = changes(vec![document("b", 5)], &mut store).await;
    kilocard_with_input(etcd.endpoint(), STDIN, &routing("rival", "b", 2)).expect(0);
    let failure = plan.commit(&mut store, &ada()).await.unwrap_err();
    assert!(matches!(failure, Failure::Together(_)), "{failure}");
    assert_eq!(etcd.value("policies/RoutingPolicy/b").await, None);
}

#[tokio::test]
async fn what_is_broken_in_etcd_already_neither_blocks_nor_stays_unsaid() {
    let etcd = Etcd::start().await;
    etcd.put("policies/RoutingPolicy/broken", "{").await;
    let run = kilocard_with_input(etcd.endpoint(), STDIN, &routing("a", "a", 1)).expect(0);
    assert!(
        run.stderr.contains("RoutingPolicy/broken in etcd is not valid itself"),
        "{}",
        run.stderr
    );
    kilocard_with_input(etcd.endpoint(), STDIN, &routing("broken", "b", 1)).expect(0);
    assert_eq!(
        etcd.value("policies/RoutingPolicy/broken").await.unwrap()["spec"]["model"],
        "b"
    );
}

#[test]
fn an_unreachable_etcd_is_named_and_not_waited_for_long() {
    let (one, two) = (deserted_url(), deserted_url());
    let began = Instant::now();
    let endpoints = format!("{one},{two}");
    for arguments in [
        &["get"][..],
        &["delete", "routing", "a"],
        &["whois", "ada"],
        &["explain"],
    ] {
        let run = kilocard(&endpoints, arguments).expect(1);
        assert!(run.stderr.contains(&one) && run.stderr.contains(&two), "{}", run.stderr);
        assert!(run.stderr.contains("--etcd"), "{}", run.stderr);
    }
    assert!(began.elapsed() < Duration::from_secs(60), "{:?}", began.elapsed());
    let run = kilocard_with_input(&one, &["apply", "-f", "-", "-o", "json"], &routing("a", "a", 1)).expect(1);
    let error: Value = serde_json::from_str(&run.stderr).unwrap();
    assert_eq!(error["error"]["reason"], "etcd_unreachable");
}

#[test]
fn wrong_usage_ends_with_two_and_help_with_zero() {
    let etcd = deserted_url();
    kilocard(&etcd, &["apply"]).expect(2);
    kilocard(&etcd, &["get", "pods"]).expect(2);
    kilocard(&etcd, &["apply", "-f", "-", "--no-wait", "--wait", "1s"]).expect(2);
    let run = kilocard(&etcd, &["apply", "--help"]).expect(0);
    assert!(
        run.stdout.contains("Examples:") && run.stdout.contains("--etcd-prefix"),
        "{}",
        run.stdout
    );
}

#[tokio::test]
async fn a_document_that_is_written_is_blamed_for_what_it_lacks_even_if_it_lacked_it_before() {
    let etcd = Etcd::start().await;
    let mesh = "{api_version: kilocard/v1, kind: MeshPolicy, metadata: {name: mesh}, spec: {gpu_classes: [{name: hopper, select: {archs: [hopper]}}]}}";
    let document = |weight: u8| {
        let other = 100 - weight;
        format!(
            "{{api_version: kilocard/v1, kind: RoutingPolicy, metadata: {{name: m}}, spec: {{model: m, gpu: {{class: hopper}}, \
             versions: [{{version: v1, weight: {other}}}, {{version: v2, weight: {weight}}}]}}}}"
        )
    };
    let apply = ["apply", "-f", "-", "--no-wait"];
    kilocard_with_input(etcd.endpoint(), &apply, &format!("{mesh}\n---\n{}", document(10))).expect(0);
    let key = "/kilocard/v1/policies/MeshPolicy/mesh";
    etcd.client().await.delete(key, None).await.unwrap();
    let refused = kilocard_with_input(etcd.endpoint(), &apply, &document(40)).expect(2);
    assert!(refused.stderr.contains("hopper"), "{}", refused.stderr);
}
