//! The rate-limit stage alone: after a filter that routes, or in a mesh that routes by itself.
#![allow(
    missing_docs,
    reason = "the macro gives its one function, `_initialize`, no documentation"
)]

proxy_wasm::main! {{
    kilocard_filter_host::start(|_| kilocard_filter_host::root("rate-limit", kilocard_filter_host::Stages::LIMITS));
}}
