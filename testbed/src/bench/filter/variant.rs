//! The Envoys that are compared.

use super::generator::{HEADERS, PASSED};
use crate::harness::static_envoy::StaticEnvoy;
use crate::install::Install;
use crate::starter;
use anyhow::{Context, Result, ensure};
use kilocard_policy::config::FilterConfig;
use kilocard_proto::inference::ServerReadyRequest;
use serde_json::{Value, json};
use std::net::SocketAddr;
use std::path::Path;
use std::time::Duration;

/// The checks of the gateway filter, written in Lua.
const LUA: &str = include_str!("gateway.lua");

/// What stands before the router.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Variant {
    None,
    Wasm,
    Lua,
}

impl Variant {
    pub(super) const ALL: [Self; 3] = [Self::None, Self::Wasm, Self::Lua];

    pub(super) fn label(self) -> &'static str {
        match self {
            Self::None => "none",
            Self::Wasm => "gateway filter (wasm)",
            Self::Lua => "Lua, the same checks",
        }
    }

    fn name(self) -> &'static str {
        match self {
            Self::None => "none",
            Self::Wasm => "wasm",
            Self::Lua => "lua",
        }
    }

    fn filters(self, install: &Install) -> Result<Vec<Value>> {
        let router = json!({
            "name": "envoy.filters.http.router",
            "typed_config": {"@type": "type.googleapis.com/envoy.extensions.filters.http.router.v3.Router"},
        });
        let filter = match self {
            Self::None => return Ok(vec![router]),
            Self::Lua => json!({
                "name": "envoy.filters.http.lua",
                "typed_config": {
                    "@type": "type.googleapis.com/envoy.extensions.filters.http.lua.v3.Lua",
                    "default_source_code": {"inline_string": LUA},
                },
            }),
            Self::Wasm => {
                let documents = vec![starter::routing_document(10)?];
                let config = serde_json::to_string(&FilterConfig {
                    revision: "bench".to_owned(),
                    documents,
                })?;
                json!({
                    "name": "kilocard-gateway",
                    "typed_config": {
                        "@type": "type.googleapis.com/envoy.extensions.filters.http.wasm.v3.Wasm",
                        "config": {
                            "name": "kilocard-gateway",
                            "root_id": "kilocard-gateway",
                            "vm_config": {
                                "vm_id": "kilocard-gateway",
                                "runtime": "envoy.wasm.runtime.v8",
                                "code": {"local": {"filename": install.filter}},
                            },
                            "configuration": {"@type": "type.googleapis.com/google.protobuf.StringValue", "value": config},
                        },
                    },
                })
            }
        };
        Ok(vec![filter, router])
    }
}

/// A running Envoy of one variant.
#[derive(Debug)]
pub(super) struct Proxy {
    variant: Variant,
    envoy: StaticEnvoy,
}

impl Proxy {
    pub(super) async fn start(install: &Install, dir: &Path, variant: Variant) -> Result<Self> {
        let config = bootstrap(&variant.filters(install)?);
        let envoy = StaticEnvoy::start(install, dir, variant.name(), &config).await?;
        Ok(Self { variant, envoy })
    }

    pub(super) fn address(&self) -> SocketAddr {
        self.envoy.address()
    }

    /// That the variant does what it is measured for: it lets the bench's request through and refuses a bad one.
    pub(super) async fn verify(&self) -> Result<()> {
        let good: Vec<(&str, &[u8])> = HEADERS
            .iter()
            .filter(|(name, _)| name.starts_with("x-") || *name == "grpc-timeout")
            .map(|(name, value)| (*name, value.as_bytes()))
            .collect();
        let routed = self.call(&good).await?;
        let label = self.variant.label();
        ensure!(
            routed.grpc_status.map(|status| status.to_string()).as_deref() == Some(PASSED),
            "{label} refuses a good request: {routed:?}"
        );
        let route = routed
            .headers
            .get("x-route")
            .map(|value| value.to_str().unwrap_or_default().to_owned());
        let decided = route.is_some_and(|route| route.starts_with("minilm/"));
        ensure!(
            decided == (self.variant != Variant::None),
            "{label}: the route is {:?}",
            routed.headers.get("x-route")
        );
        for (field, value) in [
            ("x-model-version", ""),
            ("x-canary-weight", "101"),
            ("grpc-timeout", "10"),
            ("x-model", "a b"),
        ] {
            let refused = self.call(&[(field, value.as_bytes())]).await?.grpc_status == Some(3);
            ensure!(
                refused == (self.variant != Variant::None),
                "{label}: {field} {value:?} refused: {refused}"
            );
        }
        Ok(())
    }

    async fn call(&self, headers: &[(&str, &[u8])]) -> Result<crate::raw::Reply> {
        crate::raw::call(self.address(), "ServerReady", headers, &ServerReadyRequest {}).await
    }

    /// CPU time of all its threads so far, as the scheduler accounts it (`/proc/<pid>/task/*/schedstat`, in ns).
    pub(super) fn cpu(&self) -> Result<Duration> {
        let mut nanos = 0;
        let tasks = format!("/proc/{}/task", self.envoy.pid());
        for task in std::fs::read_dir(&tasks).with_context(|| format!("read {tasks}"))? {
            let text = std::fs::read_to_string(task?.path().join("schedstat"))?;
            let spent = text.split_whitespace().next().context("schedstat is empty")?;
            nanos += spent.parse::<u64>()?;
        }
        Ok(Duration::from_nanos(nanos))
    }
}

/// One listener that answers by itself, and tells the route that a filter decided.
fn bootstrap(filters: &[Value]) -> Value {
    let loopback = json!({"socket_address": {"address": "127.0.0.1", "port_value": 0}});
    let route = json!({
        "match": {"prefix": "/"},
        "direct_response": {"status": 200},
        "response_headers_to_add": [{"header": {"key": "x-route", "value": "%REQ(x-kilocard-route)%"}}],
    });
    json!({
        "node": {"id": "bench", "cluster": "bench"},
        "admin": {"address": loopback},
        "static_resources": {"listeners": [{
            "name": "bench",
            "address": loopback,
            "filter_chains": [{"filters": [{
                "name": "envoy.filters.network.http_connection_manager",
                "typed_config": {
                    "@type": "type.googleapis.com/envoy.extensions.filters.network.http_connection_manager.v3.HttpConnectionManager",
                    "stat_prefix": "bench",
                    "codec_type": "HTTP2",
                    "route_config": {"virtual_hosts": [{"name": "bench", "domains": ["*"], "routes": [route]}]},
                    "http_filters": filters,
                },
            }]}],
        }]},
    })
}
