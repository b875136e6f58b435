//! The two toolchains that can build for wasm32-wasip1: the Rust in use, and Debian's.

use std::path::{Path, PathBuf};
use std::process::Command;

use anyhow::{Context, Result};

use crate::program::{self, answer};
use crate::setup::plan::WasmToolchain;
use crate::workspace::Workspace;

/// The target, by rustc's name.
pub(crate) const TARGET: &str = "wasm32-wasip1";
/// Debian puts wasi-libc here; rustc looks for `libc.a` among the folders it is given.
const DEBIAN_LIBC: &str = "/usr/lib/wasm32-wasi";

/// Whether the Rust in use has the target's standard library.
pub(crate) fn target_installed() -> bool {
    let Some(folder) = answer(Command::new("rustc").args(["--print", "target-libdir", "--target", TARGET])) else {
        return false;
    };
    let is_core = |entry: std::io::Result<std::fs::DirEntry>| {
        entry.is_ok_and(|entry| entry.file_name().to_string_lossy().starts_with("libcore-"))
    };
    std::fs::read_dir(folder).is_ok_and(|mut entries| entries.any(is_core))
}

/// The linker that a Rust from rustup carries.
pub(crate) fn rust_lld() -> Option<PathBuf> {
    let folder = answer(Command::new("rustc").args(["--print", "target-libdir"]))?;
    let linker = Path::new(&folder).parent()?.join("bin/rust-lld");
    program::is_program(&linker).then_some(linker)
}

/// The toolchain that a build uses now: what the environment asks for, else what is there.
pub(crate) fn chosen() -> WasmToolchain {
    match std::env::var("KILOCARD_WASM_TOOLCHAIN").as_deref() {
        Ok("debian") => WasmToolchain::Debian,
        Ok("rust") => WasmToolchain::Rust,
        _ if target_installed() => WasmToolchain::Rust,
        _ => WasmToolchain::Debian,
    }
}

/// The cargo command that builds for the target, and the target folder it fills.
///
/// Debian's Rust has no standard library for the target, so that is built on the spot, which is an unstable option of
/// cargo; its target folder is its own, since another compiler's files would be thrown away at every change of sides.
pub(crate) fn cargo_build(workspace: &Workspace, toolchain: WasmToolchain) -> Result<(Command, PathBuf)> {
    let profile = ["build", "--profile", "wasm", "--target", TARGET];
    match toolchain {
        WasmToolchain::Rust => {
            let mut command = workspace.cargo();
            command.args(profile);
            Ok((command, workspace.target.clone()))
        }
        WasmToolchain::Debian => {
            let target = workspace.target.join("wasm-debian");
            let mut command = Command::new("/usr/bin/cargo");
            command
                .current_dir(&workspace.root)
                .args(profile)
                .arg("-Zbuild-std=std,panic_abort");
            command.arg("--target-dir").arg(&target);
            command.env("RUSTC_BOOTSTRAP", "1").env("RUSTC", "/usr/bin/rustc");
            command.env("CARGO_TARGET_WASM32_WASIP1_RUSTFLAGS", format!("-L {DEBIAN_LIBC}"));
            command.env(
                "CARGO_TARGET_WASM32_WASIP1_LINKER",
                rust_lld().context("the Rust in use brings no rust-lld: use one installed by rustup")?,
            );
            // These come from the cargo that started this program and would lead Debian's back to the other toolchain.
            for name in [
                "CARGO",
                "RUSTUP_TOOLCHAIN",
                "RUSTUP_HOME",
                "RUSTFLAGS",
                "CARGO_ENCODED_RUSTFLAGS",
                "RUSTDOC",
            ] {
                command.env_remove(name);
            }
            Ok((command, target))
        }
    }
}
