//! The routing stage alone: sets `x-kilocard-route`.
#![allow(
    missing_docs,
    reason = "the macro gives its one function, `_initialize`, no documentation"
)]

proxy_wasm::main! {{
    kilocard_filter_host::start(|_| kilocard_filter_host::root("model-routing", kilocard_filter_host::Stages::ROUTING));
}}
