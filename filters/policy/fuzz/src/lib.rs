//! The bodies of the fuzz targets: each takes any bytes and panics if a law is broken.
//!
//! A plain library, so that `filters/policy/tests/corpus.rs` can include it by its path and hold every input of the corpus
//! against the very same laws, on any toolchain.

pub mod header_map;
pub mod policy;

/// A target takes any bytes.
pub type Target = fn(&[u8]);

/// Every target, by the name of its folder in the corpus.
pub const ALL: &[(&str, Target)] = &[("header_map", header_map::run), ("policy", policy::run)];
