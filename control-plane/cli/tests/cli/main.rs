//! The `kilocard` binary against a real etcd.

mod apply;
mod ask;
mod etcd;
mod get_delete;
mod history;
mod kilocard;
mod plan;
mod simulate;
mod status;
