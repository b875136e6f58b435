//! Step 7: parts fail while traffic flows.

use super::routing::record_of;
use super::{Report, V2_PERCENT};
use crate::effect::observe_rise;
use crate::harness::Testbed;
use crate::load::{Load, Sample};
use crate::outage;
use crate::poll::{self, DEADLINE};
use crate::starter::{self, Cohorts, V1_B, V2, version_of};
use anyhow::{Context, Result, ensure};
use std::time::{Duration, Instant};

const LANES: usize = 4;
/// Requests that must be served during and after each failure.
const SERVED: usize = 40;
/// etcd stays away for longer than the workers' leases last.
const OUTAGE: Duration = Duration::from_secs(4);
/// What etcd may take to notice that a lease has run out (it looks twice a second), and the mesh to follow, on a busy
/// machine.
const EXPIRY_SLACK: Duration = Duration::from_secs(4);

pub(super) async fn run(testbed: &mut Testbed, report: &mut Report) -> Result<()> {
    worker_killed(testbed, report).await?;
    canary_not_ready(testbed, report).await?;
    etcd_away(testbed, report).await?;
    control_plane_killed(testbed, report).await
}

async fn worker_killed(testbed: &mut Testbed, report: &mut Report) -> Result<()> {
    let address = testbed.worker(V1_B)?.grpc().context("its address")?;
    let ttl = Duration::from_secs(testbed.worker(V1_B)?.spec().lease_ttl_s.into());
    let load = Load::start(testbed.gateway(), LANES, &[("x-model-version", "v1")]).await?;
    outage::await_served_by(&load, V1_B).await?;
    let killed = Instant::now();
    testbed.worker(V1_B)?.sigkill().await?;
    testbed.envoy().await_endpoint(address, false).await?;
    let left = killed.elapsed();
    load.await_served(SERVED, Instant::now()).await?;
    let samples = load.stop().await;
    let verdict = outage::KillVerdict::of(&samples, killed, LANES);
    let expected = format!("at most the {LANES} in flight fail, none before and none that was sent later");
    report.check(
        &format!("{V1_B} killed with SIGKILL under load"),
        expected,
        verdict.to_string(),
        verdict.passed(),
    );
    report.check(
        "its lease runs out",
        format!(
            "its endpoint leaves Envoy: {} s, and at most {} s for the rest",
            ttl.as_secs(),
            EXPIRY_SLACK.as_secs()
        ),
        format!("gone after {:.1} s", left.as_secs_f64()),
        left <= ttl + EXPIRY_SLACK,
    );
    testbed.start_worker(starter::v1_b()).await?;
    report.note(format!("{V1_B} was started again and is back in Envoy"));
    Ok(())
}

/// Users of the canary while it has no worker and until its new one is ready.
async fn canary_not_ready(testbed: &mut Testbed, report: &mut Report) -> Result<()> {
    let user = Cohorts::new()?.users(0..V2_PERCENT[0], 1)?.concat();
    let load = Load::start(testbed.gateway(), 1, &[("x-user-id", &user)]).await?;
    outage::await_served_by(&load, V2).await?;
    testbed.worker(V2)?.drain().await?;
    load.await_served(SERVED, Instant::now()).await?;
    let told = record_of(testbed, &user).await?;
    testbed.start_worker(starter::v2()).await?;
    poll::until("the canary to serve again", DEADLINE, async || {
        let last = load.samples().pop();
        ensure!(
            last.as_ref().is_some_and(|last| last.outcome.as_deref() == Ok(V2)),
            "{last:?}"
        );
        Ok(())
    })
    .await?;
    let samples = load.stop().await;
    let turns = turns(&samples);
    let ready = record_of(testbed, &user).await?;
    let is_told = told.contains("version=minilm/v1") && told.contains("fallback=v2>v1") && !ready.contains("fallback=");
    report.check(
        &format!("{V2}, the only worker of v2, ended and started again, as {user} feels it"),
        "v2 → v1 → v2, nothing fails, and the record says fallback=v2>v1 meanwhile",
        format!("{}; {told}", turns.join(" → ")),
        turns == ["v2", "v1", "v2"] && is_told,
    );
    Ok(())
}

/// The versions that served, or what the client was told instead, each time that it changed.
fn turns(samples: &[Sample]) -> Vec<&str> {
    let served = samples.iter().map(|sample| match &sample.outcome {
        Ok(worker) => version_of(worker),
        Err(told) => told,
    });
    let mut turns: Vec<&str> = served.collect();
    turns.dedup();
    turns
}

async fn etcd_away(testbed: &mut Testbed, report: &mut Report) -> Result<()> {
    let load = Load::start(testbed.gateway(), LANES, &[]).await?;
    load.await_served(SERVED, Instant::now()).await?;
    let stopped = Instant::now();
    testbed.etcd().stop().await?;
    load.await_served(SERVED, stopped + OUTAGE).await?;
    let away = stopped.elapsed();
    testbed.etcd().restart().await?;
    outage::await_etcd_connected(testbed).await?;
    load.await_served(SERVED, Instant::now()).await?;
    let what = format!("etcd stopped for {:.1} s and started again", away.as_secs_f64());
    no_error(report, &what, &load.stop().await);
    Ok(())
}

async fn control_plane_killed(testbed: &mut Testbed, report: &mut Report) -> Result<()> {
    let load = Load::start(testbed.gateway(), LANES, &[]).await?;
    load.await_served(SERVED, Instant::now()).await?;
    testbed.control_plane().kill().await?;
    load.await_served(SERVED, Instant::now()).await?;
    testbed.control_plane().restart().await?;
    load.await_served(SERVED, Instant::now()).await?;
    no_error(
        report,
        "the control plane killed with SIGKILL and started again",
        &load.stop().await,
    );

    let [_, before, after] = V2_PERCENT;
    let user = Cohorts::new()?.users(before..after, 1)?.concat();
    let rise = observe_rise(testbed, &user, before, after).await?;
    report.check(
        &format!("a policy change after that: v2 to {after} %, as {user} feels it"),
        "v1 → v2, without a failed request",
        rise.to_string(),
        rise.is_smooth(),
    );
    Ok(())
}

fn no_error(report: &mut Report, what: &str, samples: &[Sample]) {
    let failures: Vec<&String> = samples
        .iter()
        .filter_map(|sample| sample.outcome.as_ref().err())
        .collect();
    let first = failures
        .first()
        .map(|told| format!(", first: {told}"))
        .unwrap_or_default();
    let seen = format!("{} failed of {}{first}", failures.len(), samples.len());
    report.check(
        what,
        "traffic goes on, 0 failed",
        seen,
        failures.is_empty() && !samples.is_empty(),
    );
}
