//! Where things are: the checkout, cargo's target folder, `.tools`, and what the workspace's crates are.

use std::path::{Path, PathBuf};
use std::process::Command;

use anyhow::{Context, Result};
use serde_json::Value;

use crate::program;

/// The checkout and what cargo says about it.
#[derive(Debug, Clone)]
pub(crate) struct Workspace {
    /// The folder of the root `Cargo.toml`.
    pub(crate) root: PathBuf,
    /// Cargo's target folder: `CARGO_TARGET_DIR` and cargo's own settings are respected.
    pub(crate) target: PathBuf,
    /// Packages that are wasm modules (`crate-type = ["cdylib"]`): they link only for Envoy's VM.
    pub(crate) filters: Vec<String>,
    /// Libraries whose documentation has examples to run.
    pub(crate) doctested: Vec<String>,
}

impl Workspace {
    /// Asks cargo, without the network and without resolving dependencies.
    pub(crate) fn find() -> Result<Self> {
        let mut command = cargo();
        command.args(["metadata", "--no-deps", "--format-version", "1"]);
        // `cargo run` sets this for the process it starts; the path compiled in serves a program started by hand.
        let manifest = std::env::var_os("CARGO_MANIFEST_DIR").unwrap_or_else(|| env!("CARGO_MANIFEST_DIR").into());
        command
            .arg("--manifest-path")
            .arg(Path::new(&manifest).join("Cargo.toml"));
        let text = program::answer(&mut command)
            .with_context(|| format!("{} failed: is this a complete checkout?", program::line(&command)))?;
        Self::read(&serde_json::from_str(&text).context("read the answer of cargo metadata")?)
    }

    fn read(metadata: &Value) -> Result<Self> {
        let path = |key: &str| {
            let text = metadata[key]
                .as_str()
                .with_context(|| format!("cargo metadata has no {key}"))?;
            Ok::<_, anyhow::Error>(PathBuf::from(text))
        };
        let mut found = Self {
            root: path("workspace_root")?,
            target: path("target_directory")?,
            filters: Vec::new(),
            doctested: Vec::new(),
        };
        for package in metadata["packages"].as_array().into_iter().flatten() {
            let name = package["name"].as_str().unwrap_or_default().to_owned();
            let targets = || package["targets"].as_array().into_iter().flatten();
            let is_module = targets().any(|target| {
                let mut types = target["crate_types"].as_array().into_iter().flatten();
                types.any(|kind| kind == "cdylib")
            });
            if is_module {
                found.filters.push(name);
                continue;
            }
            if targets().any(|target| target["doctest"] == true && target["kind"][0] == "lib") {
                found.doctested.push(name);
            }
        }
        Ok(found)
    }

    /// Everything that set-up brings, and nothing else: it may be deleted at any time.
    pub(crate) fn tools(&self) -> PathBuf {
        self.root.join(".tools")
    }

    /// A built program of ours, in the folder of a cargo profile (`debug`, `release`).
    pub(crate) fn program(&self, profile: &str, name: &str) -> PathBuf {
        self.target.join(profile).join(name)
    }

    /// Where the wasm modules lie, whichever toolchain built them.
    pub(crate) fn modules(&self) -> PathBuf {
        self.target.join("wasm32-wasip1").join("wasm")
    }

    /// Cargo, run at the root.
    pub(crate) fn cargo(&self) -> Command {
        let mut command = cargo();
        command.current_dir(&self.root);
        command
    }
}

/// The cargo that started this program, or the one on the path.
fn cargo() -> Command {
    Command::new(std::env::var_os("CARGO").unwrap_or_else(|| "cargo".into()))
}

#[cfg(test)]
mod tests {
    use super::*;
    use serde_json::json;

    #[test]
    fn packages_are_told_apart_by_what_they_build() {
        let target = |kind: &str, doctest: bool| json!({"kind": [kind], "crate_types": [kind], "doctest": doctest});
        let found = Workspace::read(&json!({
            "workspace_root": "/a b", "target_directory": "/t",
            "packages": [
                {"name": "gateway", "targets": [target("cdylib", false)]},
                {"name": "policy", "targets": [target("lib", true)]},
                {"name": "worker", "targets": [target("lib", true), target("bin", false)]},
                {"name": "xtask", "targets": [target("bin", false)]},
            ],
        }))
        .unwrap();
        assert_eq!(found.filters, ["gateway"]);
        assert_eq!(found.doctested, ["policy", "worker"]);
        assert_eq!(found.tools(), Path::new("/a b/.tools"));
    }

    #[test]
    fn the_real_workspace_has_its_filters_and_libraries() {
        let found = Workspace::find().unwrap();
        assert!(found.filters.contains(&"kilocard-gateway".to_owned()), "{found:?}");
        assert!(found.doctested.contains(&"kilocard-policy".to_owned()), "{found:?}");
    }
}
