//! Between Envoy and `kilocard-policy`: reads the headers, asks for the decision, edits the headers or answers.
//!
//! Knows proxy-wasm and nothing of the rules. A filter module is this crate and a choice of [`Stages`]:
//!
//! ```text
//! proxy_wasm::main! {{ kilocard_filter_host::start(|_| kilocard_filter_host::root("gateway", Stages::ALL)); }}
//! ```
//!
//! Fails closed: a request that could not be read or marked is answered here, never passed on. A filter that only routes
//! sends it to the stable version instead, where there is only one model.
#![deny(clippy::unwrap_used, clippy::expect_used, clippy::panic, clippy::indexing_slicing)]

mod abi;
mod baselines;
mod connection;
mod counters;
mod deadlines;
mod header_map;
mod holds;
mod limits;
mod log_limit;
mod names;
mod peer;
mod reply;
mod root;
mod shadow;
mod shared;
mod stream;
mod sync;
mod waiting;

pub use kilocard_policy::Stages;
pub use root::root;

use proxy_wasm::types::{LogLevel, NewRootContext};

/// Registers the module with Envoy; called once a VM, from `proxy_wasm::main!`.
pub fn start(new_root: NewRootContext) {
    // Also installs the SDK's panic hook: without it, a trap leaves nothing in Envoy's log.
    proxy_wasm::set_log_level(LogLevel::Info);
    proxy_wasm::set_root_context(new_root);
}
