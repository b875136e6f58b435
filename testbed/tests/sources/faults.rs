//! An etcd that is full, slow, or behind a network that swallows packets.

use crate::store::{accepted, eventually, refused, routing, routing_key};
use anyhow::{Context, Result, ensure};
use etcd_client::{AlarmAction, AlarmOptions, AlarmType, CompactionOptions};
use kilocard_registry::layout::Layout;
use kilocard_registry::policy_status::PolicyState;
use kilocard_testbed::harness::Run;
use kilocard_testbed::harness::control_plane::ControlPlane;
use kilocard_testbed::harness::etcd::{Etcd, Options};
use kilocard_testbed::harness::proxy::{Proxy, Weather};
use kilocard_testbed::install::Install;
use kilocard_testbed::poll::{self, DEADLINE};
use kilocard_testbed::prometheus;
use serde_json::{Value, json};
use std::fs;
use std::time::Duration;

/// etcd's least quota that holds its own bookkeeping.
const QUOTA_BYTES: usize = 16 << 20;

async fn put(etcd: &Etcd, policy: &Value) -> Result<i64> {
    let key = Layout::default().key(&routing_key("m"));
    let answer = etcd.client().await?.put(key, policy.to_string(), None).await?;
    Ok(answer.header().context("a header")?.revision())
}

async fn arrives(control_plane: &ControlPlane, revision: i64) -> Result<()> {
    eventually(control_plane, "the change to arrive", |report| {
        ensure!(accepted(report, "m")? == revision);
        Ok(())
    })
    .await
    .map(drop)
}

#[tokio::test]
async fn an_etcd_that_swallows_packets_or_answers_late_is_left_and_followed_again() -> Result<()> {
    let (install, mut run) = (Install::locate()?, Run::create("e2e-source-weather")?);
    let etcd = Etcd::start(&install, run.dir()).await?;
    let target = etcd.endpoint().trim_start_matches("http://").parse()?;
    let proxy = Proxy::start(target).await?;
    let endpoint = format!("http://{}", proxy.address());
    let first = put(&etcd, &routing("m", true, "1")).await?;
    let arguments = ["--etcd", &endpoint, "--etcd-timeout-ms", "1000"];
    let mut control_plane = ControlPlane::start_alone(&install, run.dir(), "control-plane", &arguments).await?;
    arrives(&control_plane, first).await?;

    // No connection is closed: only silence tells.
    proxy.set(Weather::Blackhole);
    let second = put(&etcd, &routing("m", true, "2")).await?;
    eventually(&control_plane, "the silence to be noticed", |report| {
        ensure!(!report.control_plane.etcd_connected && accepted(report, "m")? == first);
        Ok(())
    })
    .await?;
    // An etcd whose disk takes 300 ms for each write answers late, and is followed all the same.
    proxy.set(Weather::Slow(Duration::from_millis(300)));
    arrives(&control_plane, second).await?;
    let third = put(&etcd, &routing("m", true, "3")).await?;
    arrives(&control_plane, third).await?;
    proxy.set(Weather::Fair);
    control_plane.stop().await?;
    run.discard();
    Ok(())
}

#[tokio::test]
async fn an_etcd_without_space_is_read_on_and_what_could_not_be_written_is_told_and_made_up_for() -> Result<()> {
    let (install, mut run) = (Install::locate()?, Run::create("e2e-source-nospace")?);
    let options = Options {
        arguments: vec!["--quota-backend-bytes".to_owned(), QUOTA_BYTES.to_string()],
        tls: None,
    };
    let etcd = Etcd::start_with(&install, run.dir(), options).await?;
    let good = put(&etcd, &routing("m", true, "1")).await?;
    // It is frozen below, and stays the leader all the same: without space nobody can stand for election.
    let arguments = ["--etcd", &etcd.endpoint(), "--election-ttl-s", "120"];
    let mut control_plane = ControlPlane::start_alone(&install, run.dir(), "control-plane", &arguments).await?;
    written(&etcd, good, PolicyState::Accepted).await?;

    // Frozen, so that its verdict comes when there is no space any more.
    control_plane.pause();
    let mut bad = routing("m", true, "2");
    bad["spec"]["versions"] = json!([]);
    put(&etcd, &bad).await?;
    fill(&etcd).await?;
    control_plane.resume();
    eventually(&control_plane, "the watch to go on", |report| {
        refused(report, "m", Some(good)).map(drop)
    })
    .await?;
    poll::until("the failure to be counted", DEADLINE, async || {
        let metrics = control_plane.page("/metrics").await?;
        let failures = prometheus::sum(&metrics, "kilocard_control_plane_status_write_failures_total", &[]);
        ensure!(failures >= 1.0, "{metrics}");
        Ok(())
    })
    .await?;

    make_room(&etcd).await?;
    let revision = eventually(&control_plane, "the verdict", |report| {
        refused(report, "m", Some(good)).map(drop)
    })
    .await?;
    let judged = revision.policies.first().context("a policy")?.status.revision;
    written(&etcd, judged, PolicyState::Rejected).await?;
    control_plane.stop().await?;
    run.discard();
    Ok(())
}

/// Waits until this verdict stands in etcd.
async fn written(etcd: &Etcd, revision: i64, state: PolicyState) -> Result<()> {
    let key = format!("{}policies/RoutingPolicy/m", Layout::default().statuses());
    poll::until("the verdict to be written", DEADLINE, async || {
        let found = etcd.client().await?.get(key.as_str(), None).await?;
        let status: kilocard_registry::policy_status::PolicyStatus =
            serde_json::from_slice(found.kvs().first().context("none")?.value())?;
        ensure!(status.revision == revision && status.state == state, "{status:?}");
        Ok(())
    })
    .await
}

/// Writes until etcd raises the alarm. It compares with the quota what it has committed, which it does every 100 ms, so that
/// a fast machine may be well beyond it by then.
async fn fill(etcd: &Etcd) -> Result<()> {
    let mut client = etcd.client().await?;
    for _ in 0..QUOTA_BYTES >> 16 {
        if client.put("/elsewhere", vec![b'x'; 1 << 20], None).await.is_err() {
            return Ok(());
        }
    }
    anyhow::bail!("etcd took more than its quota")
}

/// What an operator does: compact, defragment, disarm.
async fn make_room(etcd: &Etcd) -> Result<()> {
    let mut client = etcd.client().await?;
    let revision = client
        .get("/elsewhere", None)
        .await?
        .header()
        .context("a header")?
        .revision();
    let physical = CompactionOptions::new().with_physical();
    client.compact(revision, Some(physical)).await?;
    client.defragment().await?;
    let raised_by = client.status().await?.header().context("a header")?.member_id();
    let mut options = AlarmOptions::new();
    options.with_member(raised_by);
    client
        .alarm(AlarmAction::Deactivate, AlarmType::Nospace, Some(options))
        .await?;
    Ok(())
}

#[tokio::test]
async fn a_state_file_that_is_damaged_gives_way_to_an_older_one_and_a_disk_that_is_full_stops_nothing() -> Result<()> {
    let (install, mut run) = (Install::locate()?, Run::create("e2e-source-disk")?);
    let mut etcd = Etcd::start(&install, run.dir()).await?;
    let endpoint = etcd.endpoint();
    let mut control_plane =
        ControlPlane::start_alone(&install, run.dir(), "control-plane", &["--etcd", &endpoint]).await?;
    // Two generations at least, with the same policy.
    let revision = put(&etcd, &routing("m", true, "1")).await?;
    for generations in 1..=2 {
        etcd.client().await?.put("/kilocard/v1/unknown/x", "x", None).await?;
        poll::until("a state file", DEADLINE, async || {
            arrives(&control_plane, revision).await?;
            ensure!(state_files(&control_plane)?.len() >= generations);
            Ok(())
        })
        .await?;
    }
    control_plane.kill().await?;
    etcd.stop().await?;
    let files = state_files(&control_plane)?;
    let newest = files.last().context("a file")?;
    let whole = fs::read(newest)?;
    fs::write(newest, &whole[..whole.len() - 7])?;

    control_plane.restart().await?;
    let report = control_plane.report().await?;
    ensure!(report.control_plane.source.serving == "disk" && accepted(&report, "m")? == revision);
    let log = fs::read_to_string(run.dir().join("control-plane.log"))?;
    ensure!(
        log.contains("is cut off") && log.contains("serving the last good state from disk"),
        "{log}"
    );

    // A folder in place of the file that is to be written is what a test can do without filling a disk.
    control_plane.kill().await?;
    fs::remove_dir_all(control_plane.state_dir())?;
    fs::write(control_plane.state_dir(), "not a folder")?;
    etcd.restart().await?;
    control_plane.restart_with(&["--etcd", &endpoint]).await?;
    arrives(&control_plane, revision).await?;
    poll::until("the failure to be counted", DEADLINE, async || {
        let metrics = control_plane.page("/metrics").await?;
        let failures = prometheus::sum(&metrics, "kilocard_control_plane_state_save_failures_total", &[]);
        ensure!(failures >= 1.0, "{metrics}");
        Ok(())
    })
    .await?;
    control_plane.stop().await?;
    run.discard();
    Ok(())
}

/// Sorted, so by time.
fn state_files(control_plane: &ControlPlane) -> Result<Vec<std::path::PathBuf>> {
    let Ok(entries) = fs::read_dir(control_plane.state_dir()) else {
        return Ok(Vec::new());
    };
    let mut files: Vec<_> = entries.map(|entry| Ok(entry?.path())).collect::<Result<_>>()?;
    files.retain(|path| path.extension().is_some_and(|suffix| suffix == "state"));
    files.sort();
    Ok(files)
}
