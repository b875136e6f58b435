//! A pool of endpoints under open-loop load, with its time compressed: what happens is drawn, what is decided is decided by
//! the crate. Nothing here is measured on a proxy.

pub(crate) mod law;
pub(crate) mod ours;
pub(crate) mod way;
pub(crate) mod world;
