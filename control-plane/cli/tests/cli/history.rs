//! `kilocard history`, `diff` and `rollback`.

use crate::etcd::Etcd;
use crate::kilocard::{Run, kilocard, kilocard_with_input, routing};
use kilocard_registry::history::KEPT_RECORDS;
use serde_json::{Value, json};
use std::time::SystemTime;

fn apply(etcd: &Etcd, input: &str, reason: &str) -> i64 {
    let arguments = [
        "apply",
        "-f",
        "-",
        "--no-wait",
        "-o",
        "json",
        "--author",
        "ada@laptop",
        "-m",
        reason,
    ];
    let report = kilocard_with_input(etcd.endpoint(), &arguments, input).expect(0).json();
    report["policies"][0]["revision"].as_i64().unwrap()
}

fn run(etcd: &Etcd, line: &str) -> Run {
    kilocard(etcd.endpoint(), &line.split_whitespace().collect::<Vec<_>>())
}

async fn canary(etcd: &Etcd, name: &str) -> Value {
    let policy = etcd.value(&format!("policies/RoutingPolicy/{name}")).await;
    policy.map_or(Value::Null, |policy| policy["spec"]["versions"][1]["weight"].clone())
}

#[tokio::test]
async fn every_change_keeps_author_time_and_reason() {
    let etcd = Etcd::start().await;
    let before = SystemTime::now();
    let first = apply(
        &etcd,
        &(routing("a", "a", 10) + "---\n" + &routing("b", "b", 10)),
        "two models",
    );
    let second = apply(&etcd, &routing("a", "a", 20), "more for v2");
    run(&etcd, "delete routing b --author bob").expect(0);

    let report = run(&etcd, "history -o json").expect(0).json();
    let changes = report["changes"].as_array().unwrap();
    let told: Vec<(&Value, &Value, usize)> = changes
        .iter()
        .map(|c| (&c["author"], &c["reason"], c["changes"].as_array().unwrap().len()))
        .collect();
    let (ada, bob) = (json!("ada@laptop"), json!("bob"));
    let (two, more) = (json!("two models"), json!("more for v2"));
    assert_eq!(told, [(&bob, &Value::Null, 1), (&ada, &more, 1), (&ada, &two, 2)]);
    assert_eq!(
        (&changes[2]["revision"], &changes[1]["revision"]),
        (&json!(first), &json!(second))
    );
    assert_eq!(changes[1]["changes"][0]["from_revision"], json!(first));
    assert_eq!(
        changes[1]["changes"][0]["document"]["spec"]["versions"][1]["weight"],
        20
    );
    assert_eq!(
        changes[0]["changes"][0],
        json!({
        "kind": "RoutingPolicy", "name": "b", "action": "deleted", "from_revision": first, "document": null})
    );
    let time = humantime::parse_rfc3339(changes[2]["time"].as_str().unwrap()).unwrap();
    let off = |a: SystemTime, b: SystemTime| a.duration_since(b).or_else(|_| b.duration_since(a)).unwrap();
    assert!(off(time, before).as_secs() < 3600, "{time:?}");
    assert_eq!(report["unrecorded"], json!([]));

    let text = run(&etcd, "history routing a --limit 1").expect(0).stdout;
    assert!(text.contains("more for v2") && text.contains("1 older"), "{text}");
    run(&etcd, "history --limit 0").expect(2);
}

#[tokio::test]
async fn without_a_name_the_author_is_the_user_at_this_host() {
    let etcd = Etcd::start().await;
    kilocard_with_input(
        etcd.endpoint(),
        &["apply", "-f", "-", "--no-wait"],
        &routing("a", "a", 10),
    )
    .expect(0);
    let author = run(&etcd, "history -o json").expect(0).json()["changes"][0]["author"].clone();
    assert!(author.as_str().unwrap().contains('@'), "{author}");
    kilocard(etcd.endpoint(), &["apply", "-f", "-", "-m", "two\nlines"]).expect(2);
}

#[tokio::test]
async fn what_was_not_changed_is_not_recorded() {
    let etcd = Etcd::start().await;
    apply(&etcd, &routing("a", "a", 10), "once");
    apply(&etcd, &routing("a", "a", 10), "again");
    let report = run(&etcd, "history -o json").expect(0).json();
    assert_eq!(report["changes"].as_array().unwrap().len(), 1);
}

#[tokio::test]
async fn a_policy_written_by_other_means_is_named() {
    let etcd = Etcd::start().await;
    apply(&etcd, &routing("a", "a", 10), "by us");
    let document = etcd.value("policies/RoutingPolicy/a").await.unwrap();
    let revision = etcd.put("policies/RoutingPolicy/a", document).await;
    let text = run(&etcd, "history").expect(0).stdout;
    let expected = format!("RoutingPolicy/a is of revision {revision}, which was written by other means");
    assert!(text.contains(&expected), "{text}");
}

#[tokio::test]
async fn only_the_newest_records_are_kept() {
    let etcd = Etcd::start().await;
    let mut client = etcd.client().await;
    let record = json!({"author": "x", "time": "2026-11-23T18:00:00Z", "reason": null, "changes": [
        {"kind": "RoutingPolicy", "name": "x", "from_revision": null, "document": null}]})
    .to_string();
    for n in 0..KEPT_RECORDS + 3 {
        client
            .put(format!("/kilocard/v1-history/{n:013}-00000000"), record.clone(), None)
            .await
            .unwrap();
    }
    apply(&etcd, &routing("a", "a", 10), "the newest");
    let report = run(&etcd, "history --limit 1000 -o json").expect(0).json();
    let changes = report["changes"].as_array().unwrap();
    assert_eq!(changes.len(), KEPT_RECORDS);
    assert_eq!(changes[0]["reason"], "the newest");
}

#[tokio::test]
async fn files_are_compared_with_etcd() {
    let etcd = Etcd::start().await;
    apply(&etcd, &routing("a", "a", 10), "first");
    let diff = |input: &str| kilocard_with_input(etcd.endpoint(), &["diff", "-f", "-"], input);
    let same = diff(&routing("a", "a", 10)).expect(0);
    assert!(same.stdout.contains("no difference"), "{}", same.stdout);
    let other = diff(&(routing("a", "a", 20) + "---\n" + &routing("b", "b", 0)))
        .expect(1)
        .stdout;
    assert!(
        other.contains(
            "RoutingPolicy/a configured\n  spec.versions[v1].weight: 90 → 80\n  spec.versions[v2].weight: 10 → 20\n"
        ),
        "{other}"
    );
    assert!(other.contains("RoutingPolicy/b created"), "{other}");
    diff("kind: nonsense").expect(2);
    run(&etcd, "diff").expect(2);
    run(&etcd, "diff 1 -f x").expect(2);
}

#[tokio::test]
async fn revisions_are_compared_with_each_other_and_with_now() {
    let etcd = Etcd::start().await;
    let first = apply(&etcd, &routing("a", "a", 10), "first");
    let second = apply(&etcd, &routing("b", "b", 10), "second");
    apply(&etcd, &routing("a", "a", 30), "third");
    let report = run(&etcd, &format!("diff {first} {second} -o json")).expect(1).json();
    assert_eq!(report["policies"].as_array().unwrap().len(), 1);
    assert_eq!(report["policies"][0]["action"], "created");
    let report = run(&etcd, &format!("diff {second} -o json")).expect(1).json();
    assert_eq!(
        report["policies"][0]["fields"][1],
        json!({"path": "spec.versions[v2].weight", "old": 10, "new": 30})
    );
    run(&etcd, &format!("diff {first} {first}")).expect(0);
    let run = run(&etcd, "diff 1000000").expect(2);
    assert!(run.stderr.contains("no revision 1000000 yet"), "{}", run.stderr);
}

#[tokio::test]
async fn a_rollback_restores_all_policies_and_is_itself_recorded() {
    let etcd = Etcd::start().await;
    let good = apply(
        &etcd,
        &(routing("a", "a", 10) + "---\n" + &routing("b", "b", 10)),
        "good",
    );
    apply(&etcd, &routing("a", "a", 50), "bad");
    run(&etcd, "delete routing b").expect(0);
    let bad = apply(&etcd, &routing("c", "c", 10), "worse");

    let dry = run(&etcd, &format!("rollback {good} --dry-run")).expect(0).stdout;
    assert!(
        dry.contains("spec.versions[v2].weight: 50 → 10") && dry.contains("nothing was written"),
        "{dry}"
    );
    assert_eq!(canary(&etcd, "a").await, 50);

    let done = run(
        &etcd,
        &format!("rollback {good} --no-wait -o json --author eve -m oops"),
    )
    .expect(0)
    .json();
    let actions: Vec<&str> = done["policies"]
        .as_array()
        .unwrap()
        .iter()
        .map(|p| p["action"].as_str().unwrap())
        .collect();
    assert_eq!(actions, ["configured", "created", "deleted"]);
    assert_eq!(
        (canary(&etcd, "a").await, canary(&etcd, "b").await),
        (json!(10), json!(10))
    );
    assert_eq!(canary(&etcd, "c").await, Value::Null);
    run(&etcd, &format!("diff {good}")).expect(0);

    let newest = run(&etcd, "history --limit 1 -o json").expect(0).json()["changes"][0].clone();
    assert_eq!(
        (&newest["author"], &newest["reason"]),
        (&json!("eve"), &json!(format!("rollback to {good}: oops")))
    );
    // A rollback can be rolled back.
    run(&etcd, &format!("rollback {bad} --no-wait")).expect(0);
    assert_eq!(
        (canary(&etcd, "a").await, canary(&etcd, "b").await),
        (json!(50), Value::Null)
    );
    let again = run(&etcd, &format!("rollback {bad} --no-wait")).expect(0).stdout;
    assert!(again.contains("nothing to do"), "{again}");
}

#[tokio::test]
async fn one_policy_is_rolled_back_alone() {
    let etcd = Etcd::start().await;
    let good = apply(
        &etcd,
        &(routing("a", "a", 10) + "---\n" + &routing("b", "b", 10)),
        "good",
    );
    apply(
        &etcd,
        &(routing("a", "a", 50) + "---\n" + &routing("b", "b", 50)),
        "bad",
    );
    run(&etcd, &format!("rollback {good} routing a --no-wait")).expect(0);
    assert_eq!(
        (canary(&etcd, "a").await, canary(&etcd, "b").await),
        (json!(10), json!(50))
    );
    let run = run(&etcd, &format!("rollback {good} routing nobody")).expect(1);
    assert!(
        run.stderr.contains("there is no RoutingPolicy/nobody"),
        "{}",
        run.stderr
    );
}

#[tokio::test]
async fn the_history_outlives_a_compaction_and_says_where_it_ends() {
    let etcd = Etcd::start().await;
    let by_hand = json!({"api_version": "kilocard/v1", "kind": "RoutingPolicy", "metadata": {"name": "h"},
                         "spec": {"model": "h", "versions": [{"version": "v1", "weight": 100}]}});
    let unrecorded = etcd.put("policies/RoutingPolicy/h", &by_hand).await;
    let good = apply(&etcd, &routing("a", "a", 10), "good");
    let last = apply(&etcd, &routing("a", "a", 50), "bad");
    etcd.client().await.compact(last, None).await.unwrap();

    run(&etcd, &format!("rollback {good} --no-wait")).expect(0);
    assert_eq!(canary(&etcd, "a").await, 10);

    let now = etcd.put("policies/RoutingPolicy/h", &by_hand).await;
    etcd.client().await.compact(now, None).await.unwrap();
    for line in [
        format!("rollback {unrecorded} --no-wait"),
        format!("rollback {good} --no-wait"),
    ] {
        let run = run(&etcd, &line).expect(1);
        let expected = ["compacted", "RoutingPolicy/h was written at revision", "by other means"];
        assert!(expected.iter().all(|text| run.stderr.contains(text)), "{}", run.stderr);
    }
    let run = run(&etcd, &format!("diff {good} -o json")).expect(2);
    let error: Value = serde_json::from_str(&run.stderr).unwrap();
    assert_eq!(error["error"]["reason"], "forgotten");
}
