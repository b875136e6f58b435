//! The checks: formatting, clippy, licences, and every test.

use anyhow::Result;

use crate::artifacts::{self, Native};
use crate::program;
use crate::progress::Progress;
use crate::setup::plan::WasmToolchain;
use crate::setup::wasm;
use crate::workspace::Workspace;

/// Progress lines of [`style`].
pub(crate) const STYLE_STEPS: usize = 3;
/// Progress lines of [`licences`].
pub(crate) const LICENCE_STEPS: usize = 1;
/// Progress lines of [`tests`].
pub(crate) const TEST_STEPS: usize = 4 + artifacts::PACK_STEPS;

/// Formatting and clippy, with warnings denied.
pub(crate) fn style(workspace: &Workspace, progress: &mut Progress) -> Result<()> {
    progress.shown_step("formatting", || {
        program::shown(workspace.cargo().args(["fmt", "--all", "--", "--check"]))?;
        Ok("cargo fmt".to_owned())
    })?;
    progress.shown_step("clippy", || {
        program::shown(
            workspace
                .cargo()
                .args(["clippy", "--workspace", "--all-targets", "--", "-D", "warnings"]),
        )?;
        Ok("cargo clippy, warnings denied".to_owned())
    })?;
    progress.shown_step("clippy of the filters for wasm", || {
        if wasm::chosen() == WasmToolchain::Debian {
            return Ok("left out: Debian's toolchain has no clippy for it".to_owned());
        }
        let mut command = workspace.cargo();
        command.args(["clippy", "--target", wasm::TARGET]);
        command
            .args(workspace.filters.iter().flat_map(|name| ["-p", name]))
            .args(["--", "-D", "warnings"]);
        program::shown(&mut command)?;
        Ok("cargo clippy, warnings denied".to_owned())
    })
}

/// Licences, sources, advisories and bans, if cargo-deny is installed.
pub(crate) fn licences(workspace: &Workspace, progress: &mut Progress) -> Result<()> {
    progress.shown_step("licences, advisories, sources", || {
        if program::on_path("cargo-deny").is_none() {
            return Ok("left out: cargo-deny is not installed; cargo install --locked cargo-deny".to_owned());
        }
        program::shown(workspace.cargo().args(["deny", "check"]))?;
        Ok("cargo deny".to_owned())
    })
}

/// Builds everything and runs every test. What it prints last is the test runner's own summary.
pub(crate) fn tests(workspace: &Workspace, progress: &mut Progress) -> Result<()> {
    artifacts::modules(workspace, progress)?;
    artifacts::native(workspace, progress, Native::WithTests)?;
    artifacts::packed_models(workspace, progress, "debug")?;
    progress.shown_step("examples in the documentation", || {
        if workspace.doctested.is_empty() {
            return Ok("there is no library".to_owned());
        }
        let mut command = workspace.cargo();
        // The same selection of packages as above: another one would build other variants of what they lean on.
        command
            .args(["test", "--quiet", "--doc"])
            .args(artifacts::native_workspace(workspace));
        program::shown(&mut command)?;
        Ok("cargo test --doc".to_owned())
    })?;
    let nextest = program::on_path("cargo-nextest").is_some();
    let runner = if nextest { "cargo nextest" } else { "cargo test" };
    println!("everything before the tests took {}", progress.elapsed());
    let mut command = workspace.cargo();
    if nextest {
        command.args(["nextest", "run"]);
    } else {
        command.args(["test", "--no-fail-fast", "--bins", "--lib", "--tests"]);
    }
    command.args(artifacts::native_workspace(workspace));
    progress.last(&format!("tests by {runner}"));
    program::shown(&mut command)
}
