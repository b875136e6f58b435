//! Every stage in one module, one VM and one read of the headers: the filter to use unless there is a reason not to.
#![allow(
    missing_docs,
    reason = "the macro gives its one function, `_initialize`, no documentation"
)]

proxy_wasm::main! {{
    kilocard_filter_host::start(|_| kilocard_filter_host::root("gateway", kilocard_filter_host::Stages::ALL));
}}
