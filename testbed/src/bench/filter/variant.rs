//! What is compared: the filters before the router, as configuration of Envoy.

use crate::install::Install;
use crate::starter;
use anyhow::{Context, Result, anyhow, ensure};
use clap::ValueEnum;
use kilocard_policy::config::{self, FilterConfig, MeshState};
use serde::Serialize;
use serde_json::{Value, json};
use std::net::SocketAddr;
use std::path::{Path, PathBuf};

/// The checks of the gateway filter, written in Lua.
const LUA: &str = include_str!("gateway.lua");

/// The cluster of the server that a filter asks.
const SERVER: &str = "server";
/// The cluster of the Envoy's own listener that answers what it forwards.
const ANSWERS: &str = "answers";

/// What stands before the router.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, ValueEnum)]
#[serde(rename_all = "snake_case")]
pub(super) enum Variant {
    /// Nothing
    None,
    /// Validation and routing in one wasm module
    Gateway,
    /// header-validation and model-routing, two wasm modules in two VMs
    TwoFilters,
    /// A Lua filter that does the same
    Lua,
    /// An ext_proc server that does the same
    ExtProc,
    /// One limit that all threads share, in the rate-limit module alone
    RateLimit,
    /// Envoy's own local_ratelimit, which shares one bucket too
    LocalRateLimit,
    /// The gateway module with the same limit
    GatewayLimit,
    /// The rate-limit module with one limit for each user
    UserLimit,
    /// The rate-limit module with ten more limits: what one limit more costs
    ElevenLimits,
    /// Envoy's ratelimit filter, which asks the control plane for the same limit; only with --forward
    Rls,
}

impl Variant {
    pub(super) fn label(self) -> &'static str {
        match self {
            Self::None => "no filter",
            Self::Gateway => "gateway module (wasm)",
            Self::TwoFilters => "two modules (wasm)",
            Self::Lua => "Lua, the same",
            Self::ExtProc => "ext_proc (tonic), the same",
            Self::RateLimit => "rate-limit module (wasm)",
            Self::LocalRateLimit => "Envoy's local_ratelimit",
            Self::GatewayLimit => "gateway module with a limit",
            Self::UserLimit => "rate-limit module, by user",
            Self::ElevenLimits => "rate-limit module, 11 limits",
            Self::Rls => "Envoy's ratelimit (RLS)",
        }
    }

    pub(super) fn name(self) -> &'static str {
        match self {
            Self::None => "none",
            Self::Gateway => "gateway",
            Self::TwoFilters => "two-filters",
            Self::Lua => "lua",
            Self::ExtProc => "ext-proc",
            Self::RateLimit => "rate-limit",
            Self::LocalRateLimit => "local-rate-limit",
            Self::GatewayLimit => "gateway-limit",
            Self::UserLimit => "user-limit",
            Self::ElevenLimits => "eleven-limits",
            Self::Rls => "rls",
        }
    }

    /// Whether it has to show at the border cases what it does: those that only limit let all of them pass.
    pub(super) fn is_verified(self) -> bool {
        !matches!(
            self,
            Self::RateLimit | Self::LocalRateLimit | Self::UserLimit | Self::ElevenLimits | Self::Rls
        )
    }

    /// Whether the filter looks only at requests that go on to a cluster.
    pub(super) fn needs_upstream(self) -> bool {
        self == Self::Rls
    }

    /// The whole configuration of an Envoy of this variant; `server` is where its server is, `upstream` the abstract socket
    /// on which the same Envoy answers, where it is to forward requests.
    pub(super) fn bootstrap(
        self,
        install: &Install,
        server: Option<SocketAddr>,
        upstream: Option<&str>,
    ) -> Result<Value> {
        let config = filter_config()?;
        let filters = match self {
            Self::None => Vec::new(),
            Self::Gateway => vec![wasm("kilocard_gateway", &install.filter, &config)],
            Self::TwoFilters => {
                let modules =
                    ["kilocard_header_validation", "kilocard_model_routing"].map(|name| (name, module(install, name)));
                let absent = modules.iter().find(|(_, module)| !module.is_file());
                ensure!(absent.is_none(), "{absent:?} is not built; run `cargo xtask wasm`");
                modules
                    .iter()
                    .map(|(name, module)| wasm(name, module, &config))
                    .collect()
            }
            Self::Lua => vec![json!({
                "name": "envoy.filters.http.lua",
                "typed_config": {
                    "@type": "type.googleapis.com/envoy.extensions.filters.http.lua.v3.Lua",
                    "default_source_code": {"inline_string": LUA},
                },
            })],
            Self::ExtProc => vec![ext_proc()],
            Self::RateLimit => vec![rate_limit(install, &[limit("all")])?],
            Self::UserLimit => vec![rate_limit(install, &[limit_by_user()])?],
            Self::ElevenLimits => {
                let limits: Vec<_> = (0..11).map(|index| limit(&format!("all-{index}"))).collect();
                vec![rate_limit(install, &limits)?]
            }
            Self::LocalRateLimit => vec![local_rate_limit()],
            Self::GatewayLimit => {
                let routing = serde_json::to_value(starter::routing_document(10)?)?;
                let config = configuration(&[routing, limit("all")])?;
                vec![wasm("kilocard_gateway", &install.filter, &config)]
            }
            Self::Rls => vec![rls()],
        };
        let clusters = match self {
            Self::ExtProc | Self::Rls => vec![cluster(SERVER, &socket(server.context("it needs its server")?))],
            _ => Vec::new(),
        };
        Ok(bootstrap(filters, clusters, upstream))
    }
}

/// The configuration of the filters and of the ext_proc server: the policy of the demonstration and the built-in limits.
/// `gateway.lua` holds the same by hand.
pub(super) fn filter_config() -> Result<String> {
    configuration(&[serde_json::to_value(starter::routing_document(10)?)?])
}

/// So much a second that nothing is refused: what is measured is the decision.
const PLENTY: u32 = 1_000_000;
/// Room for so many users.
pub(super) const KEYS: u32 = 100_000;

/// A limit for all requests.
pub(super) fn limit(name: &str) -> Value {
    json!({
        "api_version": "kilocard/v1", "kind": "RateLimitPolicy", "metadata": {"name": name},
        "spec": {"limits": [{"unit": "requests", "rate": PLENTY, "burst": PLENTY}]},
    })
}

/// The same for each user.
fn limit_by_user() -> Value {
    let mut limit = limit("users");
    limit["spec"]["by"] = json!(["user"]);
    limit["spec"]["max_keys"] = json!(KEYS);
    limit
}

/// The rate-limit module with these limits.
fn rate_limit(install: &Install, limits: &[Value]) -> Result<Value> {
    let module = module(install, "kilocard_rate_limit");
    Ok(wasm("kilocard_rate_limit", &module, &configuration(limits)?))
}

/// The configuration of a filter with these documents.
fn configuration(documents: &[Value]) -> Result<String> {
    let documents = documents.iter().map(config::parse).collect::<Result<_, _>>();
    Ok(serde_json::to_string(&FilterConfig {
        sync_cluster: None,
        revision: "bench".to_owned(),
        documents: documents.map_err(|violations| anyhow!("{violations:?}"))?,
        state: MeshState::default(),
    })?)
}

fn rls() -> Value {
    json!({
        "name": "envoy.filters.http.ratelimit",
        "typed_config": {
            "@type": "type.googleapis.com/envoy.extensions.filters.http.ratelimit.v3.RateLimit",
            "domain": "kilocard",
            // Long enough that no request is refused because the machine was busy.
            "timeout": "30s",
            "failure_mode_deny": true,
            "rate_limit_service": {
                "transport_api_version": "V3",
                "grpc_service": {"envoy_grpc": {"cluster_name": SERVER}},
            },
        },
    })
}

fn local_rate_limit() -> Value {
    let always = json!({"default_value": {"numerator": 100}});
    json!({
        "name": "envoy.filters.http.local_ratelimit",
        "typed_config": {
            "@type": "type.googleapis.com/envoy.extensions.filters.http.local_ratelimit.v3.LocalRateLimit",
            "stat_prefix": "bench",
            "token_bucket": {"max_tokens": PLENTY, "tokens_per_fill": PLENTY, "fill_interval": "1s"},
            "filter_enabled": always,
            "filter_enforced": always,
        },
    })
}

/// Where a module of ours lies: beside the gateway's.
fn module(install: &Install, name: &str) -> PathBuf {
    install.filter.with_file_name(format!("{name}.wasm"))
}

/// The modules that the bench loads and their sizes in bytes.
pub(super) fn module_sizes(install: &Install) -> Result<Vec<(&'static str, u64)>> {
    [
        "kilocard_gateway",
        "kilocard_header_validation",
        "kilocard_model_routing",
        "kilocard_rate_limit",
    ]
    .into_iter()
    .map(|name| {
        let module = module(install, name);
        let size = std::fs::metadata(&module)
            .with_context(|| format!("look at {}; run `cargo xtask wasm`", module.display()))?;
        Ok((name, size.len()))
    })
    .collect()
}

fn wasm(name: &str, module: &Path, config: &str) -> Value {
    json!({
        "name": name,
        "typed_config": {
            "@type": "type.googleapis.com/envoy.extensions.filters.http.wasm.v3.Wasm",
            "config": {
                "name": name,
                "root_id": name,
                "failure_policy": "FAIL_RELOAD",
                "vm_config": {
                    "vm_id": name,
                    "runtime": "envoy.wasm.runtime.v8",
                    "code": {"local": {"filename": module}},
                },
                "configuration": {"@type": "type.googleapis.com/google.protobuf.StringValue", "value": config},
            },
        },
    })
}

fn ext_proc() -> Value {
    json!({
        "name": "envoy.filters.http.ext_proc",
        "typed_config": {
            "@type": "type.googleapis.com/envoy.extensions.filters.http.ext_proc.v3.ExternalProcessor",
            "grpc_service": {"envoy_grpc": {"cluster_name": SERVER}, "timeout": "30s"},
            // Long enough that no request is refused because the machine was busy.
            "message_timeout": "30s",
            "processing_mode": {
                "request_header_mode": "SEND", "response_header_mode": "SKIP",
                "request_body_mode": "NONE", "response_body_mode": "NONE",
                "request_trailer_mode": "SKIP", "response_trailer_mode": "SKIP",
            },
            "metadata_options": {"receiving_namespaces": {"untyped": [super::ext_proc::METADATA]}},
            // Without it, x-envoy-* of a client could not be removed.
            "mutation_rules": {"allow_envoy": true},
        },
    })
}

fn socket(address: SocketAddr) -> Value {
    json!({"socket_address": {"address": address.ip().to_string(), "port_value": address.port()}})
}

fn cluster(name: &str, address: &Value) -> Value {
    json!({
        "name": name,
        "type": "STATIC",
        "load_assignment": {
            "cluster_name": name,
            "endpoints": [{"lb_endpoints": [{"endpoint": {"address": address}}]}],
        },
        "typed_extension_protocol_options": {
            "envoy.extensions.upstreams.http.v3.HttpProtocolOptions": {
                "@type": "type.googleapis.com/envoy.extensions.upstreams.http.v3.HttpProtocolOptions",
                "explicit_http_config": {"http2_protocol_options": {}},
            },
        },
    })
}

/// One listener that answers by itself, or forwards to another that does, and tells what a filter left of the request's
/// headers.
fn bootstrap(mut filters: Vec<Value>, mut clusters: Vec<Value>, upstream: Option<&str>) -> Value {
    let router = json!({
        "name": "envoy.filters.http.router",
        "typed_config": {"@type": "type.googleapis.com/envoy.extensions.filters.http.router.v3.Router"},
    });
    filters.push(router.clone());
    let loopback = json!({"socket_address": {"address": "127.0.0.1", "port_value": 0}});
    let tell = |name: &str, format: &str| json!({"header": {"key": name, "value": format}});
    let answer = json!({
        "match": {"prefix": "/"},
        "direct_response": {"status": 200},
        "response_headers_to_add": [
            tell(super::border::ROUTE, "%REQ(x-kilocard-route)%"),
            tell(super::border::STRAY, super::border::STRAY_FORMAT),
        ],
    });
    let mut listeners = Vec::new();
    if let Some(upstream) = upstream {
        let pipe = json!({"pipe": {"path": upstream}});
        clusters.push(cluster(ANSWERS, &pipe));
        let everything = json!({"generic_key": {"descriptor_value": "all"}});
        let forward = json!({
            "match": {"prefix": "/"},
            "route": {"cluster": ANSWERS, "rate_limits": [{"actions": [everything]}]},
        });
        listeners.push(listener("bench", &loopback, &forward, &filters));
        listeners.push(listener(ANSWERS, &pipe, &answer, &[router]));
    } else {
        listeners.push(listener("bench", &loopback, &answer, &filters));
    }
    json!({
        "node": {"id": "bench", "cluster": "bench"},
        "admin": {"address": loopback},
        "static_resources": {"clusters": clusters, "listeners": listeners},
    })
}

fn listener(name: &str, address: &Value, route: &Value, filters: &[Value]) -> Value {
    let mut listener = json!({
        "name": name,
        "address": address,
        "filter_chains": [{"filters": [{
            "name": "envoy.filters.network.http_connection_manager",
            "typed_config": {
                "@type": "type.googleapis.com/envoy.extensions.filters.network.http_connection_manager.v3.HttpConnectionManager",
                "stat_prefix": name,
                "codec_type": "HTTP2",
                "route_config": {"virtual_hosts": [{"name": name, "domains": ["*"], "routes": [route]}]},
                "http_filters": filters,
            },
        }]}],
    });
    if address.get("pipe").is_none() {
        // Without it, the kernel might give both connections of a bench to one thread.
        listener["connection_balance_config"] = json!({"exact_balance": {}});
    }
    listener
}
