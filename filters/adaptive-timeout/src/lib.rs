//! The module that runs the timeouts alone: how long requests may take, as is learnt from what they take.
#![allow(
    missing_docs,
    reason = "the macro gives its one function, `_initialize`, no documentation"
)]

proxy_wasm::main! {{
    kilocard_filter_host::start(|_| kilocard_filter_host::root("adaptive-timeout", kilocard_filter_host::Stages::TIMEOUTS));
}}
