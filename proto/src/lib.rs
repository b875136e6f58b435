//! Wire contracts: messages, clients and servers of the gRPC services that workers and the control plane offer.
//!
//! Owns: the Open Inference Protocol v2 ([`inference`]), as KServe's and Triton's stock clients speak it, and Kilocard's
//! own generation service ([`kilocard::inference::v1`]) and the channel between filters and control plane
//! ([`kilocard::sync::v1`]). The sources are the `.proto` files beside this crate's manifest;
//! they document the messages. Must not know: anything else.

/// The Open Inference Protocol v2: `package inference`, service `GRPCInferenceService`.
#[allow(missing_docs, clippy::all, clippy::pedantic)]
pub mod inference {
    include!(concat!(env!("OUT_DIR"), "/inference.rs"));
}

/// Kilocard's own services.
pub mod kilocard {
    /// Inference.
    pub mod inference {
        /// Version 1: `package kilocard.inference.v1`, service `InferenceService`.
        #[allow(missing_docs, clippy::all, clippy::pedantic)]
        pub mod v1 {
            include!(concat!(env!("OUT_DIR"), "/kilocard.inference.v1.rs"));
        }
    }
    /// Between filters and control plane.
    pub mod sync {
        /// Version 1: `package kilocard.sync.v1`, service `MeshSync`.
        #[allow(missing_docs, clippy::all, clippy::pedantic)]
        pub mod v1 {
            include!(concat!(env!("OUT_DIR"), "/kilocard.sync.v1.rs"));
        }
    }
}
