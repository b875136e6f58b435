//! Unary calls.

use super::mesh::{counted, ensure_late, start, timeouts};
use anyhow::{Context, Result, ensure};
use kilocard_policy::deadline::parse_timeout;
use kilocard_proto::inference::ServerReadyRequest;
use kilocard_testbed::harness::Testbed;
use kilocard_testbed::harness::record::{Record, StandIn};
use kilocard_testbed::harness::static_mesh::StaticMesh;
use kilocard_testbed::harness::upstream::{STALL, Upstream};
use kilocard_testbed::poll::{self, DEADLINE};
use kilocard_testbed::{raw, starter};
use serde_json::json;
use std::time::{Duration, Instant};

/// The `grpc-timeout` of the newest request at the upstream.
fn told(upstream: &Upstream) -> Result<Duration> {
    let seen = upstream.seen();
    let newest = seen.last().context("nothing has arrived")?;
    let value = newest.header("grpc-timeout").context("no grpc-timeout")?;
    parse_timeout(value.as_bytes()).with_context(|| format!("{value} is no timeout"))
}

const STALLED: [(&str, &[u8]); 1] = [(STALL, b"1")];

fn brief() -> serde_json::Value {
    json!({"probe_percent": 0, "unary": {"initial_p999_ms": 300, "floor_ms": 100, "ceiling_ms": 2000}})
}

#[tokio::test]
async fn a_call_that_takes_too_long_is_ended_and_the_client_told_why() -> Result<()> {
    let mut mesh = start(brief()).await?;
    ensure!(mesh.call(&[]).await?.grpc_status == Some(0));
    let begun = Instant::now();
    let reply = mesh.call(&STALLED).await?;
    let took = begun.elapsed();
    ensure_late(&reply, "TIMEOUT_TOTAL")?;
    // By the first guess, 300 ms, and at least 15 % on top.
    ensure!(took >= Duration::from_millis(345), "ended after {took:?}");
    ensure!(counted(&mesh, "total").await? == 1);
    let told = told(&mesh.v1)?;
    ensure!((345..=362).contains(&told.as_millis()), "the worker was told {told:?}");
    // The worker hears that nobody waits any more.
    await_idle(&mesh).await?;
    mesh.envoy.check()
}

async fn await_idle(mesh: &StaticMesh) -> Result<()> {
    poll::until("the upstream's call to be gone", DEADLINE, async || {
        let active = mesh.envoy.admin().stat("cluster.minilm/v1.upstream_rq_active").await?;
        ensure!(active == 0, "{active} are active");
        Ok(())
    })
    .await
}

#[tokio::test]
async fn a_client_that_gives_less_time_has_its_own_deadline_and_hears_so() -> Result<()> {
    let mesh = start(brief()).await?;
    let reply = mesh.call(&[(STALL, b"1"), ("grpc-timeout", b"150m")]).await?;
    ensure_late(&reply, "CLIENT_DEADLINE")?;
    ensure!(told(&mesh.v1)? <= Duration::from_millis(150));
    ensure!(counted(&mesh, "client_deadline").await? == 1 && counted(&mesh, "total").await? == 0);
    // More than is usual is not given to anybody.
    ensure_late(
        &mesh.call(&[(STALL, b"1"), ("grpc-timeout", b"1H")]).await?,
        "TIMEOUT_TOTAL",
    )
}

#[tokio::test]
async fn a_policy_in_shadow_counts_and_ends_nothing() -> Result<()> {
    let mut spec = brief();
    spec["shadow"] = json!(true);
    let mesh = start(spec).await?;
    let address = mesh.envoy.address();
    let stalled =
        tokio::spawn(async move { raw::call(address, "ServerReady", &STALLED, &ServerReadyRequest {}).await });
    poll::until("the call to be counted", DEADLINE, async || {
        ensure!(counted(&mesh, "shadow").await? == 1);
        Ok(())
    })
    .await?;
    ensure!(!stalled.is_finished(), "it was ended");
    ensure!(mesh.v1.seen().iter().all(|seen| seen.header("grpc-timeout").is_none()));
    mesh.v1.release();
    ensure!(stalled.await??.grpc_status == Some(0));
    Ok(())
}

/// The control plane's routes let Envoy's own timer end the call; the filter adds why.
#[tokio::test]
async fn in_the_mesh_envoys_timer_ends_the_call_and_the_client_is_told_why() -> Result<()> {
    let builder = Testbed::builder("e2e-timeouts")
        .policy(starter::routing(0))
        .policy(timeouts(brief()).to_string());
    let mut testbed = builder.start().await?;
    let upstream = Upstream::start("slow").await?;
    let worker = StandIn {
        id: "slow".to_owned(),
        address: upstream.address(),
        model: "minilm".to_owned(),
        version: "v1".to_owned(),
    };
    let record = Record::keep(testbed.etcd(), worker, || (0, 0)).await?;
    let call = async |headers: &[(&str, &[u8])]| {
        raw::call(testbed.gateway(), "ServerReady", headers, &ServerReadyRequest {}).await
    };
    poll::until("the upstream to be served", DEADLINE, async || {
        let reply = call(&[]).await?;
        ensure!(reply.grpc_status == Some(0), "{reply:?}");
        Ok(())
    })
    .await?;
    let reply = call(&STALLED).await?;
    ensure_late(&reply, "TIMEOUT_TOTAL")?;
    let cut = testbed.envoy().stats("http.").await?;
    let cut = cut
        .iter()
        .filter(|(name, _)| name.ends_with("downstream_rq_max_duration_reached"));
    ensure!(
        cut.map(|(_, count)| count).sum::<u64>() == 1,
        "Envoy's timer ended none"
    );
    ensure!(testbed.envoy().stat("wasmcustom.kilocard_timeouts.total").await? == 1);
    drop(record);
    testbed.finish().await
}
