//! The filters in real Envoy: what they refuse and how, what they let through, and that no input harms them.

mod bad_input;
mod filter;
mod flood;
mod frames;
mod outcome;
