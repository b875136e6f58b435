//! Step 3: who goes where.

use super::{Report, V2_PERCENT};
use crate::client::Client;
use crate::harness::Testbed;
use crate::raw;
use crate::starter::Cohorts;
use crate::tally::{self, Tally};
use anyhow::{Context, Result, ensure};

const PINNED_CALLS: usize = 20;
const STICKY_CALLS: usize = 50;
const SPLIT_CALLS: usize = 400;
const LANES: usize = 4;

pub(super) async fn run(testbed: &mut Testbed, report: &mut Report) -> Result<()> {
    let client = testbed.client().await?;
    let pinned = versions(&client, PINNED_CALLS, &[("x-model-version", "v2")]).await?;
    report.check(
        "x-model-version: v2",
        format!("v2={PINNED_CALLS}"),
        pinned.to_string(),
        pinned.only("v2"),
    );

    // Inferences by the version in the reply itself, over several connections, hence over both of Envoy's threads.
    let split = tally::infer_in_lanes(testbed.gateway(), LANES, SPLIT_CALLS, &[]).await?;
    let share = f64::from(V2_PERCENT[0]) / 100.0;
    let band = tally::binomial_band(SPLIT_CALLS, share);
    let expected = format!(
        "v2 by {} %: {} to {} of {SPLIT_CALLS} (4 sigma)",
        V2_PERCENT[0],
        band.start(),
        band.end()
    );
    report.check(
        "no user, no pin",
        expected,
        split.to_string(),
        band.contains(&split.of("v2")),
    );

    let cohorts = Cohorts::new()?;
    for (range, version) in [(0..V2_PERCENT[0], "v2"), (V2_PERCENT[1]..100, "v1")] {
        let user = cohorts.users(range, 1)?.concat();
        let sticky = versions(&client, STICKY_CALLS, &[("x-user-id", &user)]).await?;
        let what = format!("x-user-id: {user}, {STICKY_CALLS} calls");
        report.check(
            &what,
            format!("{version}={STICKY_CALLS}"),
            sticky.to_string(),
            sticky.only(version),
        );
    }

    let user = cohorts.users(0..V2_PERCENT[0], 1)?.concat();
    let told = record_of(testbed, &user).await?;
    let expected = format!("bucket={} version=minilm/v2 why=STICKY", cohorts.bucket(&user)?);
    let right = told.contains(&expected);
    report.check(
        &format!("the decision record of {user}, on the response"),
        expected,
        told,
        right,
    );
    Ok(())
}

async fn versions(client: &Client, calls: usize, metadata: &[(&str, &str)]) -> Result<Tally> {
    let mut tally = Tally::default();
    for _ in 0..calls {
        tally.count(client.infer(&["a short text"], metadata).await?.version);
    }
    Ok(tally)
}

/// The decision record of a request of this user that was served.
pub(super) async fn record_of(testbed: &Testbed, user: &str) -> Result<String> {
    let reply = raw::call(testbed.gateway(), "ServerReady", &[("x-user-id", user.as_bytes())], &()).await?;
    ensure!(reply.grpc_status == Some(0), "{user} is not served: {reply:?}");
    let record = reply.header("x-kilocard-decision");
    Ok(record.context("no x-kilocard-decision on the response")?.to_owned())
}
