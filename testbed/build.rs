//! Compiles the proto of the bench's ext_proc server with protox, a protobuf compiler in Rust, so that no protoc is needed.

use std::io;

const PROTO: &str = "proto/ext_proc.proto";

fn main() -> io::Result<()> {
    println!("cargo::rerun-if-changed={PROTO}");
    let mut compiler = protox::Compiler::new(["proto"]).map_err(io::Error::other)?;
    // Comments become the generated types' documentation.
    compiler
        .include_source_info(true)
        .include_imports(true)
        .open_file(PROTO)
        .map_err(io::Error::other)?;
    tonic_prost_build::configure()
        .build_client(false)
        .compile_fds(compiler.file_descriptor_set())
}
