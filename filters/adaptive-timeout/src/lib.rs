//! The place of the adaptive-timeout stage. This release has none: the module refuses every configuration and says so.
#![allow(
    missing_docs,
    reason = "the macro gives its one function, `_initialize`, no documentation"
)]

proxy_wasm::main! {{
    kilocard_filter_host::start(|_| kilocard_filter_host::root("adaptive-timeout", kilocard_filter_host::Stages::empty()));
}}
