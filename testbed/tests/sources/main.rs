//! Where the control plane's documents come from: what holds of every source (`contract`), and what is etcd's own: its
//! members, its disk, its clients' credentials, and the election among the replicas.

mod cluster;
mod contract;
mod credentials;
mod election;
mod faults;
mod store;
