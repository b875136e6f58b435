//! Step 4: a policy changed while traffic flows.

use super::{Report, V2_PERCENT};
use crate::effect::observe_rise;
use crate::harness::Testbed;
use crate::starter::{self, BUCKETS, Cohorts, version_of};
use crate::tally;
use anyhow::{Context, Result, ensure};
use serde_json::Value;

const USERS: usize = 200;
/// Any users, whatever their buckets.
const ANYBODY: usize = 400;

pub(super) async fn run(testbed: &mut Testbed, report: &mut Report) -> Result<()> {
    let [before, after, _] = V2_PERCENT;
    let cohorts = Cohorts::new()?;
    let settled = cohorts.users(0..before, USERS)?;
    let moving = cohorts.users(before..after, 1)?.concat();
    let was = tally::versions_of(testbed, &settled).await?;
    report.check(
        &format!("{USERS} users of the v2 cohort at {before} %"),
        format!("v2={USERS}"),
        was.to_string(),
        was.only("v2"),
    );

    let anybody: Vec<String> = (0..ANYBODY).map(|number| format!("user-{number}")).collect();
    let planned = plan(testbed, after).await?;
    let then = each(testbed, &anybody).await?;

    let rise = observe_rise(testbed, &moving, before, after).await?;
    report.check(
        &format!("kilocard apply: v2 from {before} % to {after} %, as {moving} feels it"),
        "v1 → v2, without a failed request",
        rise.to_string(),
        rise.is_smooth(),
    );

    let now = each(testbed, &anybody).await?;
    plan_came_true(report, &planned, &anybody, &then, &now)?;

    let is = tally::versions_of(testbed, &settled).await?;
    let stayed = format!("v2={USERS}: nobody moves off");
    report.check(
        &format!("the same {USERS} users at {after} %"),
        stayed,
        is.to_string(),
        is.only("v2"),
    );
    let others = tally::versions_of(testbed, &cohorts.users(after..100, USERS)?).await?;
    report.check(
        &format!("{USERS} users beyond {after} %"),
        format!("v1={USERS}"),
        others.to_string(),
        others.only("v1"),
    );
    Ok(())
}

/// Who moves if `v2` gets this share, in the words of `kilocard plan`, which writes nothing.
async fn plan(testbed: &Testbed, v2_percent: u16) -> Result<String> {
    let file = testbed.dir().join("next.yaml");
    std::fs::write(&file, starter::routing(v2_percent))?;
    let output = testbed
        .kilocard(&["plan", "-f", &file.to_string_lossy(), "-o", "json"])
        .await?;
    let told = String::from_utf8_lossy(&output.stderr);
    ensure!(
        output.status.success(),
        "kilocard plan ended with {}: {told}",
        output.status
    );
    let planned: Value = serde_json::from_slice(&output.stdout)?;
    let moves = planned["moves"].as_array().context("plan tells no moves")?;
    let splits = moves.iter().filter_map(|model| model["splits"].as_array()).flatten();
    let shifts = splits.filter_map(|split| split["shifts"].as_array()).flatten();
    let told: Vec<String> = shifts
        .map(|shift| {
            let version = |end: &str| shift[end].as_str().unwrap_or_default().to_owned();
            format!(
                "{} % of users {} → {}",
                shift["percent"],
                version("from"),
                version("to")
            )
        })
        .collect();
    Ok(told.join(", "))
}

/// The version of each of these users.
async fn each(testbed: &Testbed, users: &[String]) -> Result<Vec<String>> {
    let client = testbed.client().await?;
    let mut versions = Vec::with_capacity(users.len());
    for user in users {
        versions.push(version_of(&client.ready(&[("x-user-id", user)]).await?).to_owned());
    }
    Ok(versions)
}

fn plan_came_true(report: &mut Report, planned: &str, users: &[String], then: &[String], now: &[String]) -> Result<()> {
    let [before, after, _] = V2_PERCENT.map(|percent| percent * (BUCKETS / 100));
    let cohorts = Cohorts::new()?;
    let (mut must, mut moved, mut right) = (0, 0, true);
    for (user, (then, now)) in users.iter().zip(then.iter().zip(now)) {
        let should = (before..after).contains(&cohorts.bucket(user)?);
        let did = (then.as_str(), now.as_str()) == ("v1", "v2");
        right &= if should { did } else { then == now };
        must += usize::from(should);
        moved += usize::from(then != now);
    }
    let promised = format!("{}.0 % of users v1 → v2", V2_PERCENT[1] - V2_PERCENT[0]);
    let last = after - 1;
    report.check(
        "kilocard plan, before that change, and whom it moved",
        format!(
            "{promised}: of {} users exactly the {must} with buckets {before} to {last}",
            users.len()
        ),
        format!(
            "{planned}: {moved} moved, {}",
            if right { "exactly those" } else { "not those" }
        ),
        right && planned == promised,
    );
    Ok(())
}
