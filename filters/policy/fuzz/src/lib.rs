//! The bodies of the fuzz targets: each takes any bytes and panics if a law is broken.
//!
//! A plain library, so that `filters/policy/tests/corpus.rs` can include it by its path and hold every input of the corpus
//! against the very same laws, on any toolchain.

pub mod allocation;
pub mod capture;
pub mod decision;
pub mod details;
pub mod header_map;
pub mod headers;
pub mod policy;
pub mod request;

mod laws;
mod mutation;
mod peer;
mod pool;

/// A target takes any bytes.
pub type Target = fn(&[u8]);

/// Every target, by the name of its folder in the corpus.
pub const ALL: &[(&str, Target)] = &[
    ("allocation", allocation::run),
    ("capture", capture::run),
    ("decision", decision::run),
    ("details", details::run),
    ("header_map", header_map::run),
    ("headers", headers::run),
    ("policy", policy::run),
];
