//! Step 4: a policy changed while traffic flows.

use super::{Report, V2_PERCENT};
use crate::effect::{CommitWatch, Probe};
use crate::harness::Testbed;
use crate::starter::{self, Cohorts, version_of};
use crate::tally::Tally;
use anyhow::{Context, Result};
use kilocard_registry::layout::{Key, PolicyId};
use std::time::{Duration, Instant};

const USERS: usize = 200;

pub(super) async fn run(testbed: &mut Testbed, report: &mut Report) -> Result<()> {
    let [before, after, _] = V2_PERCENT;
    let cohorts = Cohorts::new()?;
    let settled = cohorts.users(0..before, USERS)?;
    let moving = cohorts.users(before..after, 1)?.concat();
    let was = versions_of(testbed, &settled).await?;
    report.check(
        &format!("{USERS} users of the v2 cohort at {before} %"),
        format!("v2={USERS}"),
        was.to_string(),
        was.only("v2"),
    );

    let times = change(testbed, &moving, before, after).await?;
    let what = format!("kilocard apply: v2 from {before} % to {after} %; {moving} was on v1");
    let seen = format!(
        "v2, {:.1} ms after etcd's commit, {:.1} ms after the command was started",
        times.since_commit.as_secs_f64() * 1e3,
        times.since_command.as_secs_f64() * 1e3
    );
    report.check(&what, "v2, without a failed request", seen, true);

    let is = versions_of(testbed, &settled).await?;
    let stayed = format!("v2={USERS}: nobody moves off");
    report.check(
        &format!("the same {USERS} users at {after} %"),
        stayed,
        is.to_string(),
        is.only("v2"),
    );
    let others = versions_of(testbed, &cohorts.users(after..100, USERS)?).await?;
    report.check(
        &format!("{USERS} users beyond {after} %"),
        format!("v1={USERS}"),
        others.to_string(),
        others.only("v1"),
    );
    Ok(())
}

/// How long a change took to be felt.
pub(super) struct Times {
    pub(super) since_commit: Duration,
    pub(super) since_command: Duration,
}

/// Raises v2's share through the command line while `user`, whose bucket lies between, asks back to back.
pub(super) async fn change(testbed: &mut Testbed, user: &str, before: u16, after: u16) -> Result<Times> {
    let probe = Probe::start(testbed, user).await?;
    probe
        .await_version("v1")
        .await
        .with_context(|| format!("at {before} %"))?;
    let key = testbed
        .layout()
        .key(&Key::Policy(PolicyId::new("RoutingPolicy", "minilm")));
    let watch = CommitWatch::open(testbed.etcd().client().await?, &key).await?;
    let committed = tokio::spawn(watch.committed());
    let command = Instant::now();
    testbed.apply(&starter::routing(after)).await?;
    let effect = probe.await_version("v2").await?;
    let commit = committed.await??;
    // The watch may tell the testbed a moment later than it told the control plane.
    Ok(Times {
        since_commit: effect.saturating_duration_since(commit),
        since_command: effect.duration_since(command),
    })
}

async fn versions_of(testbed: &Testbed, users: &[String]) -> Result<Tally> {
    let client = testbed.client().await?;
    let mut tally = Tally::default();
    for user in users {
        tally.count(version_of(&client.ready(&[("x-user-id", user)]).await?));
    }
    Ok(tally)
}
