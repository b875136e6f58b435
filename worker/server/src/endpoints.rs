//! The file that tells whoever started this process where it listens.

use serde::Serialize;
use std::{fs, io, net::SocketAddr, path::Path};

/// The bound addresses.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize)]
pub struct Endpoints {
    /// Inference and health.
    pub grpc: SocketAddr,
    /// `/ready` and `/metrics`.
    pub admin: SocketAddr,
}

/// Writes the addresses as JSON, atomically: a reader sees all or nothing.
///
/// # Errors
/// The file cannot be written.
pub fn write(path: &Path, endpoints: &Endpoints) -> io::Result<()> {
    let mut name = path.file_name().ok_or(io::ErrorKind::InvalidInput)?.to_owned();
    name.push(format!(".{}", std::process::id()));
    let staging = path.with_file_name(name);
    fs::write(&staging, serde_json::to_vec(endpoints)?)?;
    fs::rename(&staging, path)
}
