//! Step 6: a limit for one tenant, live, and gone again.

use super::Report;
use crate::client::Client;
use crate::harness::Testbed;
use crate::poll::{self, DEADLINE};
use anyhow::{Context, Result, anyhow, ensure};
use kilocard_policy::details::{QuotaFailure, RetryInfo, Status};
use prost::{Message, Name};
use std::time::Duration;

const TENANT: &str = "acme";
const OTHERS: [&str; 2] = ["globex", "initech"];
/// Calls in a row: more than the burst, so that some are refused while the limit holds and none otherwise.
const CALLS: usize = 6;
const BURST: usize = 2;

/// So slow that nothing worth counting comes back while the step runs.
const LIMIT: &str = "api_version: kilocard/v1
kind: RateLimitPolicy
metadata: {name: acme}
spec:
  match: {tenants: [acme]}
  by: [tenant]
  limits:
    - {unit: requests, rate: 2, per: minute, burst: 2}
";

pub(super) async fn run(testbed: &mut Testbed, report: &mut Report) -> Result<()> {
    let client = testbed.client().await?;
    let before = served(&client, TENANT).await?;
    report.check(
        &format!("tenant {TENANT}, {CALLS} calls in a row, without a limit"),
        format!("{CALLS} served"),
        format!("{before} served"),
        before == CALLS,
    );

    testbed.apply(LIMIT).await?;
    let refused = poll::until("a refusal by the limit", DEADLINE, async || {
        let answer = client.ready(&[("x-tenant-id", TENANT)]).await;
        answer.err().context("still served")
    })
    .await?;
    tell(report, &refused)?;
    let others = [served(&client, OTHERS[0]).await?, served(&client, OTHERS[1]).await?];
    report.check(
        &format!("tenants {} meanwhile, {CALLS} calls each", OTHERS.join(" and ")),
        format!("{CALLS} and {CALLS} served"),
        format!("{} and {} served", others[0], others[1]),
        others == [CALLS; 2],
    );

    let output = testbed.kilocard(&["delete", "ratelimit", TENANT]).await?;
    let words = String::from_utf8_lossy(&output.stderr);
    ensure!(
        output.status.success(),
        "kilocard delete ended with {}: {words}",
        output.status
    );
    let after = poll::until("the limit to be gone", DEADLINE, async || {
        let served = served(&client, TENANT).await?;
        ensure!(served == CALLS, "{served} of {CALLS} served");
        Ok(served)
    })
    .await?;
    report.check(
        &format!("tenant {TENANT}, {CALLS} calls in a row, after kilocard delete ratelimit {TENANT}"),
        format!("{CALLS} served, where the limit let {BURST} through"),
        format!("{after} served"),
        after == CALLS,
    );
    Ok(())
}

/// How many of some calls in a row are served; what is not is refused by a limit.
async fn served(client: &Client, tenant: &str) -> Result<usize> {
    let mut served = 0;
    for _ in 0..CALLS {
        match client.ready(&[("x-tenant-id", tenant)]).await {
            Ok(_) => served += 1,
            Err(status) if status.code() == tonic::Code::ResourceExhausted => {}
            Err(status) => return Err(anyhow!("{tenant}: {status}")),
        }
    }
    Ok(served)
}

/// What a client is told: which limit, whose, and when to come back.
fn tell(report: &mut Report, refused: &tonic::Status) -> Result<()> {
    let details = Status::decode(refused.details())?;
    let quota: QuotaFailure = detail(&details)?;
    let retry: RetryInfo = detail(&details)?;
    let delay = retry.retry_delay.context("no delay")?;
    let delay = Duration::try_from(delay).map_err(|_| anyhow!("a delay below nothing"))?;
    let violation = quota.violations.first().context("no violation")?;
    report.check(
        &format!("kilocard apply: 2 requests a minute for tenant {TENANT}, then one more than these"),
        "RESOURCE_EXHAUSTED, QuotaFailure acme.requests for tenant=acme, RetryInfo of at most 30 s",
        format!(
            "{:?}, QuotaFailure {} for {}, RetryInfo {:.1} s; {:?}",
            refused.code(),
            violation.quota_id,
            violation.subject,
            delay.as_secs_f64(),
            refused.message()
        ),
        refused.code() == tonic::Code::ResourceExhausted
            && violation.quota_id == "acme.requests"
            && violation.subject == "tenant=acme"
            && !delay.is_zero()
            && delay <= Duration::from_secs(30),
    );
    Ok(())
}

fn detail<M: Message + Default + Name>(status: &Status) -> Result<M> {
    let found = status.details.iter().find(|any| any.type_url == M::type_url());
    let any = found.with_context(|| format!("no {} in {status:?}", M::full_name()))?;
    Ok(M::decode(any.value.as_slice())?)
}
