//! The validation stage alone. Put it first in the chain: it removes all `x-kilocard-*` headers that came from outside.
#![allow(
    missing_docs,
    reason = "the macro gives its one function, `_initialize`, no documentation"
)]

proxy_wasm::main! {{
    kilocard_filter_host::start(|_| kilocard_filter_host::root("header-validation", kilocard_filter_host::Stages::VALIDATION));
}}
