//! Compiles the protos with protox, a protobuf compiler in Rust, so that no protoc is needed.

use std::{env, fs, io, path::PathBuf};

const PROTOS: [&str; 2] = [
    "inference/grpc_predict_v2.proto",
    "kilocard/inference/v1/inference.proto",
];

fn main() -> io::Result<()> {
    for folder in ["inference", "kilocard"] {
        println!("cargo::rerun-if-changed={folder}");
    }
    let mut compiler = protox::Compiler::new(["."]).map_err(io::Error::other)?;
    // Comments become the generated types' documentation.
    compiler
        .include_source_info(true)
        .include_imports(true)
        .open_files(PROTOS)
        .map_err(io::Error::other)?;

    let out = PathBuf::from(env::var_os("OUT_DIR").ok_or_else(|| io::Error::other("cargo sets OUT_DIR"))?);
    fs::write(out.join("kilocard.bin"), compiler.encode_file_descriptor_set())?;
    // `bytes::Bytes` for tensors: they are slices of the received frame, not copies.
    tonic_prost_build::configure()
        .bytes(".inference")
        .compile_fds(compiler.file_descriptor_set())
}
