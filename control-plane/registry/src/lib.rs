//! The contracts between Kilocard's processes that are not protobuf: what stands in etcd under which key, and the
//! status report that the control plane serves to operators.
//!
//! Owns: key layout ([`layout`]), record types ([`device`], [`worker`] with its [`telemetry`], [`policy_status`], [`history`]), the [`report`] served at
//! `/status`, how a process connects to etcd ([`connect`]), and the [`keepalive`] on which both ends of a connection agree. Must not know: Envoy, xDS, models, policies' contents.
//! The layout is documented for operators in `docs/etcd.md`.

pub mod connect;
pub mod device;
pub mod device_report;
pub mod history;
pub mod keepalive;
pub mod layout;
pub mod policy_status;
pub mod report;
pub mod telemetry;
pub mod worker;
