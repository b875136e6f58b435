//! The xDS transport protocol as pure state machines: state of the world and delta, over opaque bytes.
//!
//! Owns: what a client has been sent, what it acknowledged or refused, what it is owed. Must not know: protobuf, gRPC,
//! sockets, clocks, what a resource means. Source: Envoy's `xds_protocol` specification, quoted where implemented.

pub mod snapshot;
