//! The inference engine: from a folder with a model in it to embeddings, batched.
//!
//! Owns: the model repository on disk ([`repository`]) and how a version gets into it ([`pack`]), the [`backend`] that
//! computes, the pure queue that decides what is computed together ([`batch`]), and the [`embedder`] that joins them on a
//! thread of its own. Must not know: gRPC, etcd, the mesh.

pub mod backend;
pub mod batch;
pub mod embedder;
pub mod pack;
pub mod repository;
pub mod tokenizer;

#[cfg(any(test, feature = "tiny-bert"))]
pub mod tiny_bert;
