//! Streams: what is long and healthy is never cut, what stalls is.

use super::mesh::{counted, ensure_late, generate, start};
use anyhow::{Result, ensure};
use kilocard_testbed::harness::upstream::{HOLD, MESSAGES, PACE_MS, STALL};
use serde_json::{Value, json};

fn brief() -> Value {
    json!({
        "probe_percent": 0,
        "unary": {"initial_p999_ms": 100, "floor_ms": 100, "ceiling_ms": 500},
        "first_message": {"initial_p999_ms": 400, "floor_ms": 200, "ceiling_ms": 1000},
        "gap": {"initial_p999_ms": 600, "floor_ms": 250, "ceiling_ms": 1000},
    })
}

#[tokio::test]
async fn a_long_healthy_stream_outlasts_every_timeout() -> Result<()> {
    let mesh = start(brief()).await?;
    let reply = generate(mesh.envoy.address(), &[(MESSAGES, b"20"), (PACE_MS, b"100")]).await?;
    ensure!(reply.grpc_status == Some(0), "{reply:?}");
    for cause in ["total", "first_message", "gap"] {
        ensure!(counted(&mesh, cause).await? == 0, "cut by {cause}");
    }
    // Nor was the worker told a deadline.
    ensure!(mesh.v1.seen().iter().all(|seen| seen.header("grpc-timeout").is_none()));
    Ok(())
}

#[tokio::test]
async fn a_stream_that_never_begins_is_ended_and_the_client_told_why() -> Result<()> {
    let mesh = start(brief()).await?;
    let reply = generate(mesh.envoy.address(), &[(STALL, b"1")]).await?;
    ensure_late(&reply, "TIMEOUT_FIRST_MESSAGE")?;
    ensure!(counted(&mesh, "first_message").await? == 1);
    Ok(())
}

#[tokio::test]
async fn a_stream_that_stops_between_two_messages_is_reset() -> Result<()> {
    let mut mesh = start(brief()).await?;
    let reply = generate(mesh.envoy.address(), &[(MESSAGES, b"3"), (HOLD, b"1")]).await;
    // Its headers have passed, so nothing can be said but that it has ended.
    ensure!(reply.is_err(), "{reply:?}");
    ensure!(counted(&mesh, "gap").await? == 1);
    mesh.envoy.check()
}
