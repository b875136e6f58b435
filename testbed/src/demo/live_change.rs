//! Step 4: a policy changed while traffic flows.

use super::{Report, V2_PERCENT};
use crate::effect::observe_rise;
use crate::harness::Testbed;
use crate::starter::Cohorts;
use crate::tally;
use anyhow::Result;

const USERS: usize = 200;

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

    let rise = observe_rise(testbed, &moving, before, after).await?;
    report.check(
        &format!("kilocard apply: v2 from {before} % to {after} %, as {moving} feels it"),
        "v1 → v2, without a failed request",
        rise.to_string(),
        rise.is_smooth(),
    );

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
