//! What `kilocard plan --replay` says beforehand from the access log, against what then happens: the real control plane,
//! Envoy, filter and command line.

use anyhow::{Context, Result, anyhow, ensure};
use kilocard_policy::capture::Captured;
use kilocard_policy::cohort::Key;
use kilocard_policy::record::Record;
use kilocard_testbed::harness::Testbed;
use kilocard_testbed::harness::envoy::Ads;
use kilocard_testbed::poll::{self, DEADLINE};
use kilocard_testbed::process::{GRACE, Process};
use kilocard_testbed::raw::{self, Reply};
use kilocard_testbed::starter;
use serde_json::{Value, json};
use std::collections::BTreeMap;
use std::path::Path;
use std::process::Command;

const USERS: usize = 150;
/// Every so many users come from a team that the new rule does not know.
const STRANGERS: usize = 10;

const MESH: &str = "api_version: kilocard/v1
kind: MeshPolicy
metadata: {name: mesh}
spec:
  decision_record: {response_header: true}
  capture: {percent: 100, plain_headers: [x-team]}
";

/// What is to be: more users on `v2`, and a rule that some requests break.
fn next() -> String {
    format!(
        "{}---
api_version: kilocard/v1
kind: ValidationPolicy
metadata: {{name: edge}}
spec:
  rules:
    - {{name: known-team, header: x-team, one_of: [search, ads]}}
",
        starter::routing(60)
    )
}

#[tokio::test]
async fn a_replay_of_the_access_log_tells_exactly_who_moves_and_who_is_refused() -> Result<()> {
    let mut testbed = starter::mesh("e2e-replay", 20).policy(MESH).start().await?;
    let mut control_plane = log_accesses(&mut testbed).await?;
    let users: Vec<String> = (0..USERS).map(|number| format!("ada.{number}@example.org")).collect();
    let before = ask_all(&testbed, &users, |_| true).await?;

    let log = testbed.envoy().process_mut().context("Envoy runs")?.log().to_owned();
    let logged = await_logged(&log, &users).await?;
    the_log_knows_nobody_by_name(&log)?;
    the_log_holds_the_records_that_clients_got(&users, &before, &logged)?;

    let new = testbed.dir().join("new.yaml");
    std::fs::write(&new, next())?;
    let plan = plan(&testbed, &new, &log, &[]).await?;

    testbed.apply(&next()).await?;
    let old = rev(&before[0])?;
    let after = ask_all(&testbed, &users, |record| record.revision != old.as_str()).await?;
    let fates = fates(&before, &after)?;
    let of = |fate: Fate| fates.iter().filter(|other| **other == fate).count();
    ensure!(
        of(Fate::Moves) > 0 && of(Fate::Stays) > 0 && of(Fate::IsRefused) == USERS / STRANGERS,
        "of each some: {fates:?}"
    );
    the_plan_told_so(&plan, of(Fate::Moves), of(Fate::IsRefused))?;
    each_group_by_itself_was_told_apart(&testbed, &new, &logged, &fates).await?;

    control_plane.drain(GRACE).await?;
    testbed.finish().await
}

/// Puts a control plane that lets proxies log each request in the place of the one that runs, and starts Envoy anew, so
/// that it has had no other configuration.
async fn log_accesses(testbed: &mut Testbed) -> Result<Process> {
    let etcd = testbed.etcd().endpoint();
    let install = testbed.install().clone();
    let log = testbed.dir().join("control-plane.log");
    let old = testbed.control_plane();
    old.stop().await?;
    let mut command = Command::new(&install.control_plane);
    command
        .args(["--etcd", &etcd, "--access-log"])
        .args(["--xds-listen", &old.xds().to_string()])
        .args(["--admin-listen", &old.admin().to_string()])
        .args(["--gateway-listen", &old.gateway().to_string()])
        .arg("--filter-wasm")
        .arg(&install.filter);
    let mut process = Process::start("control-plane-with-access-log", command, &log)?;
    poll::until("the control plane to be ready", DEADLINE, async || {
        if let Err(ended) = process.check() {
            return Ok(Err(ended));
        }
        old.page("/ready").await.map(Ok)
    })
    .await??;
    testbed.replace_envoy(Ads::Incremental).await?;
    Ok(process)
}

/// One request of each user, asked again until its record is as wanted.
async fn ask_all(testbed: &Testbed, users: &[String], wanted: impl Fn(&Record<'_>) -> bool) -> Result<Vec<Reply>> {
    let mut replies = Vec::with_capacity(users.len());
    for (number, user) in users.iter().enumerate() {
        let team: &[u8] = if number % STRANGERS == 0 { b"sales" } else { b"search" };
        let headers = [("x-user-id", user.as_bytes()), ("x-team", team)];
        let reply = poll::until("an answer by the policy", DEADLINE, async || {
            let reply = raw::call(testbed.gateway(), "ServerReady", &headers, &()).await?;
            let is_wanted = wanted(&record(&reply)?);
            ensure!(is_wanted, "{reply:?}");
            Ok(reply)
        });
        replies.push(reply.await?);
    }
    Ok(replies)
}

fn decision(reply: &Reply) -> Result<&str> {
    reply
        .header("x-kilocard-decision")
        .with_context(|| format!("the record is switched on: {reply:?}"))
}

fn record(reply: &Reply) -> Result<Record<'_>> {
    Record::parse(decision(reply)?).map_err(|why| anyhow!("{why}: {reply:?}"))
}

fn rev(reply: &Reply) -> Result<String> {
    Ok(record(reply)?.revision.into_owned())
}

/// The line of each user in the access log, once all are there: Envoy keeps lines back for up to ten seconds.
async fn await_logged(log: &Path, users: &[String]) -> Result<Vec<Value>> {
    poll::until("a line of the access log for every user", DEADLINE, async || {
        let text = std::fs::read_to_string(log)?;
        let mut lines = by_user(&text)?;
        users
            .iter()
            .map(|user| {
                lines
                    .remove(&Key::of(user.as_bytes()).digest())
                    .context("not logged yet")
            })
            .collect()
    })
    .await
}

/// Lines with a captured request that names a user, by the digest of the user.
fn by_user(log: &str) -> Result<BTreeMap<u64, Value>> {
    let mut lines = BTreeMap::new();
    for line in log.lines() {
        // Envoy's own messages, and a last line that is not written to its end.
        let Ok(line) = serde_json::from_str::<Value>(line) else {
            continue;
        };
        let Some(capture) = line["capture"].as_str() else {
            continue;
        };
        let captured = Captured::parse(capture.as_bytes()).map_err(|why| anyhow!("{why}: {capture}"))?;
        let key = captured.and_then(|captured| captured.key(b"x-user-id"));
        lines.extend(key.map(|key| (key.digest(), line)));
    }
    Ok(lines)
}

fn the_log_knows_nobody_by_name(log: &Path) -> Result<()> {
    let text = std::fs::read_to_string(log)?;
    ensure!(text.contains("x-user-id") && !text.contains("@example.org"), "{text}");
    Ok(())
}

fn the_log_holds_the_records_that_clients_got(users: &[String], replies: &[Reply], logged: &[Value]) -> Result<()> {
    for ((user, reply), line) in users.iter().zip(replies).zip(logged) {
        ensure!(line["decision"] == decision(reply)?, "{user}: {line} for {reply:?}");
    }
    Ok(())
}

/// The JSON of `kilocard plan --replay`.
async fn plan(testbed: &Testbed, new: &Path, log: &Path, more: &[&str]) -> Result<Value> {
    let (new, log) = (new.to_string_lossy(), log.to_string_lossy());
    let arguments = ["plan", "-f", &new, "--replay", &log, "-o", "json"];
    let output = testbed.kilocard(&[&arguments, more].concat()).await?;
    ensure!(
        output.status.success(),
        "{}: {}",
        output.status,
        String::from_utf8_lossy(&output.stderr)
    );
    Ok(serde_json::from_slice(&output.stdout)?)
}

/// What became of a user with the new policy.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Fate {
    Stays,
    Moves,
    IsRefused,
}

fn fates(before: &[Reply], after: &[Reply]) -> Result<Vec<Fate>> {
    let fate = |(before, after): (&Reply, &Reply)| {
        let (was, is) = (record(before)?, record(after)?);
        ensure!(before.grpc_status == Some(0), "{before:?}");
        if after.header("x-kilocard-reason") == Some("RULE_VIOLATED") {
            ensure!(after.grpc_message.contains("known-team"), "{after:?}");
            return Ok(Fate::IsRefused);
        }
        ensure!(
            after.grpc_status == Some(0) && was.version.is_some() && is.version.is_some(),
            "{after:?}"
        );
        Ok(if was.version == is.version {
            Fate::Stays
        } else {
            Fate::Moves
        })
    };
    before.iter().zip(after).map(fate).collect()
}

fn the_plan_told_so(plan: &Value, moved: usize, refused: usize) -> Result<()> {
    ensure!(
        plan["moves"][0]["splits"][0]["shifts"] == json!([{"from": "v1", "to": "v2", "percent": 40.0}]),
        "{plan}"
    );
    let replay = &plan["replay"];
    ensure!(
        replay["malformed"]["lines"] == 0 && replay["truncated"] == 0,
        "{replay}"
    );
    ensure!(replay["not_evaluable"] == json!([]), "{replay}");
    only_group(
        &replay["moved"],
        &json!({"from": "minilm/v1", "to": "minilm/v2"}),
        moved,
    )?;
    let rule = json!({"reason": "RULE_VIOLATED", "rule": "edge/known-team"});
    only_group(&replay["newly_refused"], &rule, refused)
}

/// That the groups are one of these fields, with one request of each of so many users.
fn only_group(groups: &Value, fields: &Value, users: usize) -> Result<()> {
    let [group] = groups.as_array().map_or(&[][..], Vec::as_slice) else {
        anyhow::bail!("one group of {fields} expected: {groups}");
    };
    let fields = fields.as_object().context("fields")?;
    ensure!(fields.iter().all(|(name, value)| group[name] == *value), "{group}");
    ensure!(
        group["users"] == users && group["requests"] == users,
        "{users}: {group}"
    );
    Ok(())
}

/// Reports name a few users as examples only. That it was these users and no others shows when the lines of those who
/// stayed, who moved and who were refused are each replayed alone, from the policies of then to those in force now.
async fn each_group_by_itself_was_told_apart(
    testbed: &Testbed,
    new: &Path,
    logged: &[Value],
    fates: &[Fate],
) -> Result<()> {
    let old = testbed.dir().join("old.yaml");
    std::fs::write(&old, format!("{}---\n{MESH}", starter::routing(20)))?;
    let old = old.to_string_lossy();
    let log = testbed.dir().join("group.jsonl");
    for fate in [Fate::Stays, Fate::Moves, Fate::IsRefused] {
        let lines: Vec<String> = logged
            .iter()
            .zip(fates)
            .filter(|(_, other)| **other == fate)
            .map(|(line, _)| line.to_string())
            .collect();
        std::fs::write(&log, lines.join("\n"))?;
        let replay = plan(testbed, new, &log, &["--against", &old]).await?["replay"].take();
        let requests = |what: &str| {
            let groups = replay[what].as_array();
            groups
                .into_iter()
                .flatten()
                .filter_map(|group| group["requests"].as_u64())
                .sum::<u64>()
        };
        let all = u64::try_from(lines.len())?;
        let expected = match fate {
            Fate::Stays => (0, 0),
            Fate::Moves => (all, 0),
            Fate::IsRefused => (0, all),
        };
        ensure!(
            replay["requests"] == all && (requests("moved"), requests("newly_refused")) == expected,
            "{fate:?}: {replay}"
        );
    }
    Ok(())
}
