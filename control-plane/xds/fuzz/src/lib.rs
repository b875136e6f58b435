//! The body of the fuzz target: takes any bytes and panics if a law is broken.
//!
//! A plain library, so that `control-plane/xds/tests/conversations.rs` can include it by its path and hold every input of the
//! corpus, and random ones, against the very same laws, on any toolchain.

pub mod conversation;
mod machine;
