//! `envoy/rate-limit.yaml`

use super::example::{Running, with_modules};
use anyhow::{Context, Result, ensure};
use futures::future::try_join_all;
use kilocard_policy::capture::Captured;
use kilocard_testbed::harness::upstream::Upstream;
use kilocard_testbed::poll::{self, DEADLINE};
use kilocard_testbed::raw::{self, Reply};
use std::time::Instant;

/// What the example lets a tenant ask for at once, and for how many more in a second.
const BURST: usize = 10;
const A_SECOND: usize = 1;
/// More than these, at once.
const CALLS: usize = 60;

fn is_refused(reply: &Reply) -> bool {
    reply.grpc_status == Some(8)
}

#[tokio::test]
async fn a_tenant_gets_what_its_limit_allows_and_others_are_not_touched() -> Result<()> {
    let upstream = Upstream::start("server").await?;
    let running = Running::start(&with_modules("rate-limit.yaml")?, &[(50051, &upstream)]).await?;
    let began = Instant::now();
    // A route that the client makes up changes nothing, and goes no further.
    let headers: [(&str, &[u8]); 2] = [("x-tenant-id", b"acme"), ("x-kilocard-route", b"a/b")];
    let replies = try_join_all((0..CALLS).map(|_| running.call(&headers))).await?;
    let served = replies.iter().filter(|reply| reply.grpc_status == Some(0)).count();
    let refused: Vec<&Reply> = replies.iter().filter(|reply| is_refused(reply)).collect();
    let most = BURST + A_SECOND * (usize::try_from(began.elapsed().as_secs())? + 1);
    ensure!(
        (BURST..=most).contains(&served) && served + refused.len() == CALLS,
        "{served} served, {} refused: {replies:?}",
        refused.len()
    );
    let told = refused.first().context("none refused")?;
    ensure!(
        told.grpc_message
            .starts_with("tenants.requests: 60 requests a minute, at most 10 at once for tenant=acme")
            && told.header("grpc-retry-pushback-ms").is_some()
            && told
                .header("x-kilocard-decision")
                .is_some_and(|record| record.contains("limit=tenants.requests")),
        "{told:?}"
    );
    let other = running.call(&[("x-tenant-id", b"globex")]).await?;
    ensure!(other.grpc_status == Some(0), "{other:?}");
    let seen = upstream.seen();
    ensure!(seen.len() == served + 1, "{} of {served} and one went on", seen.len());
    ensure!(
        seen.iter().all(|seen| seen.header("x-kilocard-route").is_none()),
        "{seen:?}"
    );
    Ok(())
}

#[tokio::test]
async fn more_tokens_than_can_ever_be_had_are_refused_for_good_and_plain_http_gets_429() -> Result<()> {
    let upstream = Upstream::start("server").await?;
    let running = Running::start(&with_modules("rate-limit.yaml")?, &[(50051, &upstream)]).await?;
    let large = running
        .call(&[("x-tenant-id", b"acme"), ("x-max-tokens", b"20001")])
        .await?;
    ensure!(
        large.grpc_status == Some(3) && large.header("x-kilocard-reason") == Some("COST_ABOVE_BURST"),
        "{large:?}"
    );
    let get = async || {
        let target = (http::Method::GET, "/v2/models");
        let headers: [(&str, &[u8]); 1] = [("x-tenant-id", b"initech")];
        raw::request(running.envoy.address(), target, &headers, bytes::Bytes::new()).await
    };
    let replies = try_join_all((0..CALLS).map(|_| get())).await?;
    let refused = replies.iter().find(|reply| reply.http_status == 429);
    let refused = refused.with_context(|| format!("none refused: {replies:?}"))?;
    ensure!(
        refused.header("retry-after").is_some() && refused.header("ratelimit").is_some(),
        "{refused:?}"
    );
    Ok(())
}

#[tokio::test]
async fn its_captures_can_be_held_against_another_limit() -> Result<()> {
    let upstream = Upstream::start("server").await?;
    let running = Running::start(&with_modules("rate-limit.yaml")?, &[(50051, &upstream)]).await?;
    running
        .call(&[("x-tenant-id", b"acme"), ("x-max-tokens", b"12")])
        .await?;
    let captured = poll::until("a captured request in the access log", DEADLINE, async || {
        let lines = running.envoy.access_log()?;
        let line = lines
            .iter()
            .find_map(|line| line["capture"].as_str())
            .context("none yet")?;
        let captured = Captured::parse(line.as_bytes()).map_err(|why| anyhow::anyhow!("{why}: {line}"))?;
        captured.with_context(|| format!("no capture: {line}"))
    })
    .await?;
    ensure!(
        captured.time().is_some() && captured.sample() == 1_000_000,
        "{captured:?}"
    );
    let tokens = captured.pairs().find(|(name, _)| *name == b"x-max-tokens");
    ensure!(tokens.is_some_and(|(_, value)| value == b"12"), "{captured:?}");
    Ok(())
}
