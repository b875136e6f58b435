//! Real processes for demonstrations, end-to-end tests and benches: etcd, the control plane, workers and Envoy, started
//! on ports that nobody else uses and ended with the value that owns them.
//!
//! Owns: where binaries are found ([`install`]), a child process's life ([`process`]), the mesh as a whole ([`harness`]),
//! the clients that talk to it ([`client`], [`raw`], [`load`], [`open_loop`]), and what is shown and measured with it ([`demo`],
//! [`standing`], [`mod@bench`]). Must not know: how a filter decides or what the control plane sends; it judges by outcomes.

pub mod bench;
pub mod changes;
pub mod client;
pub mod demo;
pub mod effect;
pub mod grpc_xds;
pub mod harness;
pub mod install;
pub mod load;
pub mod open_loop;
pub mod outage;
pub mod poll;
pub mod process;
pub mod prometheus;
pub mod raw;
pub mod reference;
pub mod refusals;
pub mod sockets;
pub mod standing;
pub mod starter;
pub mod tally;
