//! What is learnt from requests, by two threads together.

use super::mesh::timeouts;
use anyhow::{Context, Result, ensure};
use kilocard_policy::deadline::parse_timeout;
use kilocard_testbed::harness::static_envoy::StaticEnvoy;
use kilocard_testbed::harness::static_envoy::config::{self, Plugin};
use kilocard_testbed::harness::static_mesh::all_to_v1;
use kilocard_testbed::harness::upstream::Upstream;
use kilocard_testbed::install::Install;
use kilocard_testbed::open_loop::{Ask, OpenLoop};
use serde_json::json;
use std::time::Duration;

/// Requests a second, and for how long: two steps of the slow loop, half a minute each.
const RATE: u32 = 200;
const SECONDS: u32 = 65;

#[tokio::test]
async fn a_timeout_comes_down_to_what_requests_take() -> Result<()> {
    let (install, dir) = (Install::locate()?, tempfile::tempdir()?);
    let upstream = Upstream::start("v1").await?;
    let spec = json!({"probe_percent": 0, "unary": {"initial_p999_ms": 10_000, "floor_ms": 20, "ceiling_ms": 20_000}});
    let plugin = Plugin::new(
        "kilocard-gateway",
        "kilocard_gateway",
        &json!([all_to_v1(), timeouts(spec)]),
    );
    let clusters = [config::cluster("minilm/v1", upstream.address())];
    let routes = [config::decided("minilm/v1")];
    let bootstrap = config::bootstrap(vec![plugin.filter(&install)], &routes, &clusters);
    let envoy = StaticEnvoy::with_threads(&install, dir.path(), ("envoy", 2), &bootstrap).await?;
    let load = OpenLoop {
        requests: RATE * SECONDS,
        rate: RATE,
        connections: 4,
    };
    let ask = Ask::new(
        "/inference.GRPCInferenceService/ModelInfer",
        &[("content-type", "application/grpc"), ("te", "trailers")],
    );
    let answers = load.answers(envoy.address(), &[ask]).await?;
    let late = answers.iter().filter(|answer| answer.status != "0").count();
    ensure!(late * 1000 <= answers.len(), "{late} of {} were cut", answers.len());

    let seen = upstream.seen();
    let told = |at: usize| -> Result<Duration> {
        let value = seen
            .get(at)
            .and_then(|seen| seen.header("grpc-timeout"))
            .context("no timeout")?;
        parse_timeout(value.as_bytes()).context("no timeout")
    };
    let (first, last) = (told(0)?, told(seen.len() - 1)?);
    ensure!(first >= Duration::from_millis(11_500), "begun with {first:?}");
    // A step goes down to four fifths at most, and jitter puts a twentieth on top.
    ensure!(last <= first.mul_f64(0.9), "from {first:?} to {last:?} only");
    Ok(())
}
