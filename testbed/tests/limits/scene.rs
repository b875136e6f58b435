//! An Envoy that answers what its limits let through.

use anyhow::Result;
use kilocard_testbed::harness::static_envoy::StaticEnvoy;
use kilocard_testbed::harness::static_envoy::config::{self, Plugin};
use kilocard_testbed::install::Install;
use kilocard_testbed::open_loop::Ask;
use serde_json::{Value, json};
use std::net::SocketAddr;

/// What the open loop says of a request that was let through: Envoy's own answer to it is a 404, to gRPC `UNIMPLEMENTED`.
pub(crate) const ADMITTED: &str = "12";
/// `RESOURCE_EXHAUSTED`.
pub(crate) const REFUSED: &str = "8";

pub(crate) struct Scene {
    pub(crate) envoy: StaticEnvoy,
    _dir: tempfile::TempDir,
}

impl Scene {
    /// The rate-limit module alone, with these policies, in an Envoy of so many worker threads.
    pub(crate) async fn start(threads: u32, documents: &[Value]) -> Result<Self> {
        Self::of(threads, &rate_limit(documents), &[]).await
    }

    /// One of two worker threads with a channel to this control plane.
    pub(crate) async fn synced(control_plane: SocketAddr, documents: &[Value]) -> Result<Self> {
        let mut plugin = rate_limit(documents);
        plugin.configuration["sync_cluster"] = json!("control-plane");
        Self::of(2, &plugin, &[config::cluster("control-plane", control_plane)]).await
    }

    /// The same, as a process of this node.
    pub(crate) async fn synced_as(node: &str, control_plane: SocketAddr, documents: &[Value]) -> Result<Self> {
        let mut plugin = rate_limit(documents);
        plugin.configuration["sync_cluster"] = json!("control-plane");
        let node = json!({"id": node, "cluster": "test"});
        Self::of_node(&node, 2, &plugin, &[config::cluster("control-plane", control_plane)]).await
    }

    async fn of(threads: u32, plugin: &Plugin, clusters: &[Value]) -> Result<Self> {
        Self::of_node(&json!({}), threads, plugin, clusters).await
    }

    async fn of_node(node: &Value, threads: u32, plugin: &Plugin, clusters: &[Value]) -> Result<Self> {
        let install = Install::locate()?;
        let dir = tempfile::tempdir()?;
        let routes = [config::answer(404, "let through")];
        let mut bootstrap = config::bootstrap(vec![plugin.filter(&install)], &routes, clusters);
        bootstrap["node"].clone_from(node);
        let envoy = StaticEnvoy::with_threads(&install, dir.path(), ("envoy", threads), &bootstrap).await?;
        Ok(Self { envoy, _dir: dir })
    }
}

fn rate_limit(documents: &[Value]) -> Plugin {
    Plugin::new("rate-limit", "kilocard_rate_limit", &json!(documents))
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
