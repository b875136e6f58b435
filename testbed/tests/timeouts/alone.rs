//! The adaptive-timeout module alone, in a mesh that routes by itself.

use super::mesh::{ensure_late, timeouts};
use anyhow::{Result, ensure};
use kilocard_testbed::harness::static_envoy::config::{self, Plugin};
use kilocard_testbed::harness::static_mesh::StaticMesh;
use kilocard_testbed::harness::upstream::STALL;
use kilocard_testbed::open_loop::{Ask, OpenLoop};
use serde_json::json;

/// More than a directory and a thread have room for.
const VERSIONS: u32 = 700;

#[tokio::test]
async fn it_goes_by_the_model_that_the_client_names_and_no_version_makes_it_grow() -> Result<()> {
    let spec = json!({"probe_percent": 0, "unary": {"initial_p999_ms": 300, "floor_ms": 100, "ceiling_ms": 2000}});
    let plugin = Plugin::new(
        "adaptive-timeout",
        "kilocard_adaptive_timeout",
        &json!([timeouts(spec)]),
    );
    let mut mesh = StaticMesh::start(&[plugin], config::everything("minilm/v1")).await?;
    let asks: Vec<Ask> = (0..VERSIONS)
        .map(|number| {
            Ask::new(
                "/inference.GRPCInferenceService/ModelInfer",
                &[
                    ("content-type", "application/grpc"),
                    ("te", "trailers"),
                    ("x-model", "minilm"),
                ],
            )
            .with("x-model-version", number.into())
        })
        .collect();
    let load = OpenLoop {
        requests: VERSIONS,
        rate: 500,
        connections: 2,
    };
    let answers = load.answers(mesh.envoy.address(), &asks).await?;
    ensure!(
        answers.iter().all(|answer| answer.status == "0"),
        "a version was refused"
    );
    let model: (&str, &[u8]) = ("x-model", b"minilm");
    // Who finds no room has the first guess.
    let stalled = mesh.call(&[model, ("x-model-version", b"v1"), (STALL, b"1")]).await?;
    ensure_late(&stalled, "TIMEOUT_TOTAL")?;
    // A model without a policy has no timeout.
    let other = mesh.call(&[("x-model", b"other")]).await?;
    ensure!(other.grpc_status == Some(0), "{other:?}");
    ensure!(
        mesh.v1
            .seen()
            .last()
            .is_some_and(|seen| seen.header("grpc-timeout").is_none()),
        "it was told a timeout"
    );
    mesh.envoy.check()
}
