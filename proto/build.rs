//! Compiles the protos with protox, a protobuf compiler in Rust, so that no protoc is needed.

use std::io;

const PROTOS: [&str; 4] = [
    "externalscaler/externalscaler.proto",
    "inference/grpc_predict_v2.proto",
    "kilocard/inference/v1/inference.proto",
    "kilocard/sync/v1/sync.proto",
];

fn main() -> io::Result<()> {
    for folder in ["externalscaler", "inference", "kilocard"] {
        println!("cargo::rerun-if-changed={folder}");
    }
    let mut compiler = protox::Compiler::new(["."]).map_err(io::Error::other)?;
    // Comments become the generated types' documentation.
    compiler
        .include_source_info(true)
        .include_imports(true)
        .open_files(PROTOS)
        .map_err(io::Error::other)?;

    // Filters in wasm need the messages and have a transport of their own.
    let services = std::env::var_os("CARGO_FEATURE_SERVICES").is_some();
    // `bytes::Bytes` for tensors: they are slices of the received frame, not copies.
    tonic_prost_build::configure()
        .build_client(services)
        .build_server(services)
        .bytes(".inference")
        .compile_fds(compiler.file_descriptor_set())
}
