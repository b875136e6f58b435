//! GPU memory as a condition, in the real mesh: etcd, control plane, a worker with a simulated card, Envoy.

use anyhow::{Result, ensure};
use kilocard_proto::inference::ServerReadyRequest;
use kilocard_testbed::harness::Testbed;
use kilocard_testbed::harness::worker::SimulatedGpu;
use kilocard_testbed::poll::{self, DEADLINE};
use kilocard_testbed::raw::{self, Reply};
use kilocard_testbed::starter::{self, V1_A};
use std::net::SocketAddr;

/// A request needs 10 GiB, and of the card's 80 the watermark keeps 4.
const ADMISSION: &str = "api_version: kilocard/v1
kind: AdmissionPolicy
metadata: {name: minilm}
spec:
  model: minilm
  tokens: {default_output: 1}
  memory: {bytes_per_request: 10737418240, bytes_per_token: 1, watermark_percent: 5, floor_percent: 0}
";

async fn call(gateway: SocketAddr, headers: &[(&str, &[u8])]) -> Result<Reply> {
    raw::call(gateway, "ServerReady", headers, &ServerReadyRequest {}).await
}

fn with_free_gib(gib: u64) -> SimulatedGpu {
    SimulatedGpu {
        memory_free_bytes: gib << 30,
        ..SimulatedGpu::h100("0000:1b:00.0")
    }
}

/// Waits until requests with these headers are answered so.
async fn await_answer(
    gateway: SocketAddr,
    headers: &[(&str, &[u8])],
    (status, reason): (i32, Option<&str>),
) -> Result<Reply> {
    poll::until("the memory to tell", DEADLINE, async || {
        let reply = call(gateway, headers).await?;
        ensure!(
            reply.grpc_status == Some(status) && reply.header("x-kilocard-reason") == reason,
            "{reply:?}"
        );
        Ok(reply)
    })
    .await
}

#[tokio::test]
async fn requests_pass_only_while_a_worker_has_memory_for_them() -> Result<()> {
    let builder = Testbed::builder("e2e-memory")
        .policy(starter::routing(0))
        .policy(ADMISSION);
    let mut testbed = builder
        .worker(starter::v1_a().with_gpu(with_free_gib(60)))
        .start()
        .await?;
    let gateway = testbed.gateway();
    await_answer(gateway, &[], (0, None)).await?;

    testbed.worker(V1_A)?.set_gpu(&with_free_gib(12))?;
    let refused = await_answer(gateway, &[], (8, Some("MEMORY_EXHAUSTED"))).await?;
    ensure!(refused.header("grpc-retry-pushback-ms") == Some("500"), "{refused:?}");
    ensure!(
        refused.grpc_message.contains("minilm/v1 needs 10241 MiB"),
        "{refused:?}"
    );

    // 21 GiB for requests: offline ones leave 15 of the 76 to others.
    testbed.worker(V1_A)?.set_gpu(&with_free_gib(25))?;
    await_answer(gateway, &[], (0, None)).await?;
    await_answer(gateway, &[("x-priority", b"P2")], (8, Some("MEMORY_EXHAUSTED"))).await?;
    await_answer(gateway, &[("x-priority", b"P0")], (0, None)).await?;

    let huge: [(&str, &[u8]); 1] = [("x-max-tokens", b"1000000000000")];
    await_answer(gateway, &huge, (3, Some("COST_ABOVE_MEMORY"))).await?;
    testbed.finish().await
}
