//! An Envoy that answers what its limits let through.

use anyhow::Result;
use kilocard_testbed::harness::static_envoy::StaticEnvoy;
use kilocard_testbed::harness::static_envoy::config::{self, Plugin};
use kilocard_testbed::install::Install;
use kilocard_testbed::open_loop::Ask;
use serde_json::{Value, json};

/// What the open loop says of a request that was let through: Envoy's own answer has no gRPC status.
pub(crate) const ADMITTED: &str = "none: HTTP 200 OK";
/// `RESOURCE_EXHAUSTED`.
pub(crate) const REFUSED: &str = "8";

pub(crate) struct Scene {
    pub(crate) envoy: StaticEnvoy,
    _dir: tempfile::TempDir,
}

impl Scene {
    /// The rate-limit module alone, with these policies, in an Envoy of so many worker threads.
    pub(crate) async fn start(threads: u32, documents: &[Value]) -> Result<Self> {
        let install = Install::locate()?;
        let dir = tempfile::tempdir()?;
        let plugin = Plugin::new("rate-limit", "kilocard_rate_limit", &json!(documents));
        let bootstrap = config::bootstrap(
            vec![plugin.filter(&install)],
            &[config::answer(200, "let through")],
            &[],
        );
        let envoy = StaticEnvoy::with_threads(&install, dir.path(), ("envoy", threads), &bootstrap).await?;
        Ok(Self { envoy, _dir: dir })
    }
}

/// A RateLimitPolicy.
pub(crate) fn rate_limits(name: &str, spec: &Value) -> Value {
    json!({"api_version": "kilocard/v1", "kind": "RateLimitPolicy", "metadata": {"name": name}, "spec": spec})
}

/// What the open loop asks, with these headers.
pub(crate) fn ask(headers: &[(&'static str, &'static str)]) -> Ask {
    let all = [&[("content-type", "application/grpc"), ("te", "trailers")], headers].concat();
    Ask::new("/inference.GRPCInferenceService/ModelInfer", &all)
}
