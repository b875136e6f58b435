//! Tokens: reserved before, settled after, and what can never be had.

use super::answers::start;
use super::scene::rate_limits;
use anyhow::{Result, bail, ensure};
use kilocard_proto::inference::ServerReadyRequest;
use kilocard_testbed::harness::upstream::{HOLD, MESSAGES};
use kilocard_testbed::poll::{self, DEADLINE};
use kilocard_testbed::raw;
use serde_json::json;

#[tokio::test]
async fn what_was_reserved_and_not_used_comes_back_when_the_answer_has_ended() -> Result<()> {
    let limit = json!({"limits": [{"unit": "tokens", "rate": 1, "per": "hour", "burst": 1000}]});
    let mesh = start(&[rate_limits("tokens", &limit)]).await?;
    // Each reserves 410 of the 1000, and uses 10: its prompt, for the answer has no message.
    for number in 0..30 {
        let reply = mesh
            .call(&[("x-prompt-tokens", b"10"), ("x-max-tokens", b"400")])
            .await?;
        ensure!(reply.grpc_status == Some(0), "request {number}: {reply:?}");
    }
    let reply = mesh.call(&[("x-max-tokens", b"701")]).await?;
    ensure!(reply.grpc_status == Some(8), "{reply:?}");
    ensure!(
        reply.header("ratelimit").is_some_and(|left| left.contains(";r=700;")),
        "{reply:?}"
    );
    Ok(())
}

#[tokio::test]
async fn more_tokens_than_the_burst_are_refused_for_good() -> Result<()> {
    let limit = json!({"limits": [{"unit": "tokens", "rate": 1000, "burst": 1000}]});
    let mesh = start(&[rate_limits("tokens", &limit)]).await?;
    for tokens in ["1001", "1000000000000", "99999999999999999999999999"] {
        let reply = mesh.call(&[("x-max-tokens", tokens.as_bytes())]).await?;
        ensure!(reply.grpc_status == Some(3), "{tokens}: {reply:?}");
        ensure!(
            reply.header("x-kilocard-reason") == Some("COST_ABOVE_BURST"),
            "{reply:?}"
        );
        ensure!(reply.header("grpc-retry-pushback-ms").is_none(), "{reply:?}");
    }
    ensure!(mesh.call(&[("x-max-tokens", b"12")]).await?.grpc_status == Some(0));
    Ok(())
}

#[tokio::test]
async fn what_a_stream_takes_beyond_its_reservation_is_taken_while_it_runs() -> Result<()> {
    let limit = json!({"limits": [{"unit": "tokens", "rate": 1, "per": "hour", "burst": 1000}]});
    let hundred = json!({
        "api_version": "kilocard/v1", "kind": "AdmissionPolicy", "metadata": {"name": "minilm"},
        "spec": {"model": "minilm", "tokens": {"tokens_per_message": 100}},
    });
    let mesh = start(&[rate_limits("tokens", &limit), hundred]).await?;
    let address = mesh.envoy.address();
    // It reserves 10 tokens and takes 700.
    let headers: [(&str, &[u8]); 3] = [("x-max-tokens", b"10"), (MESSAGES, b"7"), (HOLD, b"1")];
    let stream = tokio::spawn(async move { raw::call(address, "ServerReady", &headers, &ServerReadyRequest {}).await });
    poll::until("the overrun to be taken", DEADLINE, async || {
        let reply = mesh.call(&[("x-max-tokens", b"400")]).await?;
        ensure!(reply.grpc_status == Some(8), "{reply:?}");
        Ok(())
    })
    .await?;
    if stream.is_finished() {
        bail!("the stream has ended: {:?}", stream.await?);
    }
    mesh.v1.release();
    let reply = stream.await??;
    ensure!(reply.grpc_status == Some(0), "{reply:?}");
    Ok(())
}
