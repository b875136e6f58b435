//! For tests only, never to be shipped: the real filters, but a request that carries `x-provoke-trap: <root_id>` panics
//! the plugin of that root id, and with it the VM. So the tests can see what Envoy does when a filter traps, which no
//! request should ever be able to bring about in the real modules.
//!
//! The `root_id` of the plugin chooses the stages: `header-validation`, `model-routing`, or every other: all of them.
#![allow(
    missing_docs,
    reason = "the macro gives its one function, `_initialize`, no documentation"
)]

use kilocard_filter_host::Stages;
use proxy_wasm::hostcalls;
use proxy_wasm::traits::{Context, HttpContext, RootContext};
use proxy_wasm::types::{Action, Bytes, ContextType, MapType};

proxy_wasm::main! {{
    kilocard_filter_host::start(|_| Box::new(Root::new()));
}}

struct Root {
    root_id: Bytes,
    inner: Box<dyn RootContext>,
}

impl Root {
    fn new() -> Self {
        let root_id = hostcalls::get_property(vec!["plugin_root_id"])
            .ok()
            .flatten()
            .unwrap_or_default();
        let inner = match root_id.as_slice() {
            b"header-validation" => kilocard_filter_host::root("header-validation", Stages::VALIDATION),
            b"model-routing" => kilocard_filter_host::root("model-routing", Stages::ROUTING),
            _ => kilocard_filter_host::root("gateway", Stages::ALL),
        };
        Self { root_id, inner }
    }
}

impl Context for Root {
    fn on_grpc_call_response(&mut self, call: u32, status: u32, size: usize) {
        self.inner.on_grpc_call_response(call, status, size);
    }
}

impl RootContext for Root {
    fn on_configure(&mut self, size: usize) -> bool {
        self.inner.on_configure(size)
    }

    fn on_tick(&mut self) {
        self.inner.on_tick();
    }

    fn create_http_context(&self, context_id: u32) -> Option<Box<dyn HttpContext>> {
        let inner = self.inner.create_http_context(context_id)?;
        let root_id = self.root_id.clone();
        Some(Box::new(Stream { root_id, inner }))
    }

    fn get_type(&self) -> Option<ContextType> {
        self.inner.get_type()
    }
}

struct Stream {
    root_id: Bytes,
    inner: Box<dyn HttpContext>,
}

impl Context for Stream {}

impl HttpContext for Stream {
    fn on_http_request_headers(&mut self, count: usize, end_of_stream: bool) -> Action {
        let provoked = hostcalls::get_map_value_bytes(MapType::HttpRequestHeaders, "x-provoke-trap");
        assert!(
            !matches!(provoked, Ok(Some(root_id)) if root_id == self.root_id),
            "a test provoked this trap"
        );
        self.inner.on_http_request_headers(count, end_of_stream)
    }

    fn on_http_request_body(&mut self, size: usize, end_of_stream: bool) -> Action {
        self.inner.on_http_request_body(size, end_of_stream)
    }

    fn on_http_response_headers(&mut self, count: usize, end_of_stream: bool) -> Action {
        self.inner.on_http_response_headers(count, end_of_stream)
    }

    fn on_http_response_body(&mut self, size: usize, end_of_stream: bool) -> Action {
        self.inner.on_http_response_body(size, end_of_stream)
    }

    fn on_http_response_trailers(&mut self, count: usize) -> Action {
        self.inner.on_http_response_trailers(count)
    }

    fn on_log(&mut self) {
        self.inner.on_log();
    }
}
