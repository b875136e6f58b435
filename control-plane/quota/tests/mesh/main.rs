#![allow(clippy::print_stdout)] // The times that docs/adr/0017-leases.md states.
//! The law, on a simulated mesh: whatever is lost, late or repeated, what the proxies may be using sums up to at most the
//! whole. It is read from the proxies, not from the authority. And when all is well, nearly everything is given out.

mod law;
mod life;
mod process;
mod world;
