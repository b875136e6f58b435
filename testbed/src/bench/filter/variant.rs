//! The Envoys that are compared.

use super::generator::{HEADERS, PASSED};
use crate::harness::static_envoy::StaticEnvoy;
use crate::install::Install;
use crate::raw::{self, Reply};
use crate::starter;
use anyhow::{Context, Result, ensure};
use kilocard_policy::config::FilterConfig;
use kilocard_proto::inference::ServerReadyRequest;
use serde_json::{Value, json};
use std::net::SocketAddr;
use std::path::Path;
use std::time::Duration;

/// The method of the inference service that the bench calls.
const METHOD: &str = "ServerReady";

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

    /// That the variant does what it is measured for: it lets the bench's request through, and both filters draw the
    /// line between good and bad in the same places.
    pub(super) async fn verify(&self) -> Result<()> {
        let good: Vec<(&str, &[u8])> = HEADERS.iter().map(|(name, value)| (*name, value.as_bytes())).collect();
        let (label, filtered) = (self.variant.label(), self.variant != Variant::None);
        let reply = self.call(METHOD, &good).await?;
        ensure!(
            reply.grpc_status.map(|status| status.to_string()).as_deref() == Some(PASSED),
            "{label} refuses a good request: {reply:?}"
        );
        ensure!(
            is_routed(&reply) == filtered,
            "{label}: the route of a good request: {reply:?}"
        );
        if !filtered {
            return Ok(());
        }
        for (field, value, allowed) in border_cases() {
            let mut headers = good.clone();
            headers.retain(|(name, _)| *name != field);
            let method = if field == ":path" { value.as_str() } else { METHOD };
            if field != ":path" {
                headers.push((field, value.as_bytes()));
            }
            let routed = is_routed(&self.call(method, &headers).await?);
            ensure!(
                routed == allowed,
                "{label}: {field} {value:?} passes: {routed}, expected {allowed}"
            );
        }
        let without =
            |absent: &str| -> Vec<(&str, &[u8])> { good.iter().copied().filter(|(name, _)| *name != absent).collect() };
        for (field, allowed) in [
            ("te", true),
            ("x-model", true),
            ("x-user-id", true),
            ("content-type", false),
        ] {
            let routed = is_routed(&self.call(METHOD, &without(field)).await?);
            ensure!(
                routed == allowed,
                "{label}: a request without {field} passes: {routed}, expected {allowed}"
            );
        }
        Ok(())
    }

    async fn call(&self, method: &str, headers: &[(&str, &[u8])]) -> Result<Reply> {
        raw::send(self.address(), method, headers, &ServerReadyRequest {}).await
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

/// Whether a filter let it pass and decided a route.
fn is_routed(reply: &Reply) -> bool {
    let route = reply.headers.get("x-route").and_then(|route| route.to_str().ok());
    route.is_some_and(|route| route.starts_with("minilm/"))
}

/// Values on both sides of the lines that `kilocard_policy` draws, and whether they pass. Of `:path` it is the method.
fn border_cases() -> Vec<(&'static str, String, bool)> {
    let fixed = [
        (":path", "ModelInfer", true),
        (":path", "1st", false),
        (":path", "a.b", false),
        (":path", "a/b", false),
        ("content-type", "application/grpc+proto", true),
        ("content-type", "application/grpc;charset=utf-8", true),
        ("content-type", "application/grpc+proto;charset=utf-8", true),
        ("content-type", "application/grpcx", false),
        ("content-type", "application/grpc+", false),
        ("content-type", "application/grpc-web", false),
        ("grpc-timeout", "99999999H", true),
        ("grpc-timeout", "10", false),
        ("grpc-timeout", "123456789S", false),
        ("x-canary-weight", "100", true),
        ("x-canary-weight", "101", false),
        ("x-canary-weight", "0x10", false),
        ("x-model", "a b", false),
        ("x-model", "absent", false),
        ("x-model-version", "v2", true),
        ("x-model-version", "", false),
        ("x-note", "a\tb", false),
        ("x-user-id", "spiffe://mesh.example/ns/a+b=", true),
        ("x-user-id", "a b", false),
        ("x-user-id", "", false),
    ];
    let sized = [
        ("x-user-id", 128, true),
        ("x-user-id", 129, false),
        ("x-note", 4096, true),
        ("x-note", 4097, false),
    ];
    let fixed = fixed.map(|(field, value, allowed)| (field, value.to_owned(), allowed));
    let sized = sized.map(|(field, bytes, allowed)| (field, "a".repeat(bytes), allowed));
    fixed.into_iter().chain(sized).collect()
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
