//! Configurations for an Envoy without a control plane: plugins before the router, and routes by the header they set.

use crate::install::Install;
use kilocard_policy::headers;
use serde_json::{Value, json};
use std::net::SocketAddr;

/// What Envoy does with the requests that come after one that trapped a plugin.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Failure {
    /// They get a new VM; after a further trap only when the back-off that begins with this interval is over.
    Reload(&'static str),
    /// They pass without the plugin.
    Open,
}

/// One wasm plugin.
#[derive(Clone, Debug)]
pub struct Plugin {
    /// Root id, plugin name and VM id in one: every plugin has a VM of its own.
    pub root_id: &'static str,
    /// The module's file name without its ending.
    pub module: &'static str,
    /// What happens after a trap.
    pub failure: Failure,
    /// `{revision, documents}`.
    pub configuration: Value,
}

impl Plugin {
    /// A plugin that is started anew after a trap, as in the examples.
    pub fn new(root_id: &'static str, module: &'static str, documents: &Value) -> Self {
        Self {
            root_id,
            module,
            failure: Failure::Reload("1s"),
            configuration: json!({"revision": "test", "documents": documents}),
        }
    }

    /// The same with another answer to a trap.
    #[must_use]
    pub fn failing(mut self, failure: Failure) -> Self {
        self.failure = failure;
        self
    }

    /// The plugin as an HTTP filter.
    pub fn filter(&self, install: &Install) -> Value {
        let file = install.filter.with_file_name(format!("{}.wasm", self.module));
        let mut plugin = json!({
            "name": self.root_id,
            "root_id": self.root_id,
            "vm_config": {
                "vm_id": self.root_id,
                "runtime": "envoy.wasm.runtime.v8",
                "code": {"local": {"filename": file}},
            },
            "configuration": {
                "@type": "type.googleapis.com/google.protobuf.StringValue",
                "value": self.configuration.to_string(),
            },
        });
        match self.failure {
            Failure::Open => plugin["failure_policy"] = json!("FAIL_OPEN"),
            Failure::Reload(base_interval) => {
                plugin["failure_policy"] = json!("FAIL_RELOAD");
                plugin["reload_config"] = json!({"backoff": {"base_interval": base_interval}});
            }
        }
        json!({
            "name": self.root_id,
            "typed_config": {"@type": "type.googleapis.com/envoy.extensions.filters.http.wasm.v3.Wasm", "config": plugin},
        })
    }
}

/// A route to the cluster `<model>/<version>` for the requests that were decided so.
pub fn decided(route_key: &str) -> Value {
    json!({
        "match": {"prefix": "/", "headers": [{"name": headers::ROUTE, "string_match": {"exact": route_key}}]},
        "route": {"cluster": route_key, "timeout": "0s"},
    })
}

/// A route to a cluster for everything.
pub fn everything(cluster: &str) -> Value {
    json!({"match": {"prefix": "/"}, "route": {"cluster": cluster, "timeout": "0s"}})
}

/// A route that answers every request itself with this HTTP status and text.
pub fn answer(status: u16, text: &str) -> Value {
    json!({"match": {"prefix": "/"}, "direct_response": {"status": status, "body": {"inline_string": text}}})
}

/// A cluster of one endpoint that speaks HTTP/2.
pub fn cluster(name: &str, address: SocketAddr) -> Value {
    let socket = json!({"address": address.ip().to_string(), "port_value": address.port()});
    json!({
        "name": name,
        "load_assignment": {
            "cluster_name": name,
            "endpoints": [{"lb_endpoints": [{"endpoint": {"address": {"socket_address": socket}}}]}],
        },
        "typed_extension_protocol_options": {"envoy.extensions.upstreams.http.v3.HttpProtocolOptions": {
            "@type": "type.googleapis.com/envoy.extensions.upstreams.http.v3.HttpProtocolOptions",
            "explicit_http_config": {"http2_protocol_options": {}},
        }},
    })
}

/// One listener that takes its peers' addresses for the clients', with these filters before the router, and an access log in
/// JSON on stdout: `code`, `details`, `decision`, `capture`.
pub fn bootstrap(filters: Vec<Value>, routes: &[Value], clusters: &[Value]) -> Value {
    let mut filters = filters;
    filters.push(json!({
        "name": "envoy.filters.http.router",
        "typed_config": {"@type": "type.googleapis.com/envoy.extensions.filters.http.router.v3.Router"},
    }));
    let manager = json!({
        "@type": "type.googleapis.com/envoy.extensions.filters.network.http_connection_manager.v3.HttpConnectionManager",
        "stat_prefix": "ingress",
        "codec_type": "AUTO",
        "use_remote_address": true,
        "max_request_headers_kb": 192,
        "common_http_protocol_options": {"max_headers_count": 1000},
        "access_log": [{
            "name": "stdout",
            "typed_config": {
                "@type": "type.googleapis.com/envoy.extensions.access_loggers.stream.v3.StdoutAccessLog",
                "log_format": {"json_format": {
                    "code": "%RESPONSE_CODE%",
                    "details": "%RESPONSE_CODE_DETAILS%",
                    "decision": "%FILTER_STATE(wasm.kilocard.decision:PLAIN)%",
                    "capture": "%FILTER_STATE(wasm.kilocard.capture:PLAIN)%",
                }},
            },
        }],
        "http_filters": filters,
        "route_config": {"virtual_hosts": [{"name": "all", "domains": ["*"], "routes": routes}]},
    });
    let free_port = json!({"socket_address": {"address": "127.0.0.1", "port_value": 0}});
    json!({
        "admin": {"address": free_port},
        "static_resources": {
            "listeners": [{
                "name": "ingress",
                "address": free_port,
                "filter_chains": [{"filters": [{"name": "manager", "typed_config": manager}]}],
            }],
            "clusters": clusters,
        },
    })
}
