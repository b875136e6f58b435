//! An Envoy without a control plane before two versions of one model, `minilm/v1` and `minilm/v2`: to see what a plugin
//! refuses, and what it lets through to whom.

use super::static_envoy::StaticEnvoy;
use super::static_envoy::config::{self, Plugin};
use super::upstream::Upstream;
use crate::install::Install;
use crate::raw::{self, Reply};
use anyhow::Result;
use kilocard_proto::inference::ServerReadyRequest;
use serde_json::{Value, json};

/// A running mesh; it ends when dropped.
#[derive(Debug)]
pub struct StaticMesh {
    /// The proxy.
    pub envoy: StaticEnvoy,
    /// The stable version.
    pub v1: Upstream,
    /// The other one.
    pub v2: Upstream,
    _dir: tempfile::TempDir,
}

impl StaticMesh {
    /// Starts it with these plugins before the router. `last` is the route of what has no decision.
    ///
    /// # Errors
    /// If something is missing or Envoy refuses its configuration.
    pub async fn start(plugins: &[Plugin], last: Value) -> Result<Self> {
        let install = Install::locate()?;
        let dir = tempfile::tempdir()?;
        let (v1, v2) = (Upstream::start("v1").await?, Upstream::start("v2").await?);
        let filters = plugins.iter().map(|plugin| plugin.filter(&install)).collect();
        let routes = [config::decided("minilm/v1"), config::decided("minilm/v2"), last];
        let clusters = [
            config::cluster("minilm/v1", v1.address()),
            config::cluster("minilm/v2", v2.address()),
        ];
        let bootstrap = config::bootstrap(filters, &routes, &clusters);
        let envoy = StaticEnvoy::start(&install, dir.path(), "envoy", &bootstrap).await?;
        Ok(Self {
            envoy,
            v1,
            v2,
            _dir: dir,
        })
    }

    /// A gRPC request with these headers on top of gRPC's own.
    ///
    /// # Errors
    /// If the connection or the stream breaks.
    pub async fn call(&self, headers: &[(&str, &[u8])]) -> Result<Reply> {
        raw::call(self.envoy.address(), "ServerReady", headers, &ServerReadyRequest {}).await
    }

    /// Requests that reached v1 and v2.
    pub fn forwarded(&self) -> (usize, usize) {
        (self.v1.seen().len(), self.v2.seen().len())
    }
}

/// A policy that gives everything to v1, and v2 to those who ask for it.
pub fn all_to_v1() -> Value {
    json!({
        "api_version": "kilocard/v1", "kind": "RoutingPolicy", "metadata": {"name": "minilm"},
        "spec": {
            "model": "minilm", "default": true,
            "versions": [{"version": "v1", "weight": 100}, {"version": "v2", "weight": 0}],
        },
    })
}
