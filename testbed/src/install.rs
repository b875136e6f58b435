//! Where the real programs, the models and the filter are.

use anyhow::{Result, bail};
use std::env;
use std::path::{Path, PathBuf};

/// Everything a testbed needs on disk; [`Install::locate`] checks that it is there.
#[derive(Clone, Debug)]
pub struct Install {
    /// The workspace's root.
    pub root: PathBuf,
    /// `kilocard-control-plane`.
    pub control_plane: PathBuf,
    /// `kilocard-worker`.
    pub worker: PathBuf,
    /// `kilocard`, the command line.
    pub cli: PathBuf,
    /// Envoy.
    pub envoy: PathBuf,
    /// etcd.
    pub etcd: PathBuf,
    /// The wasm module for Envoy.
    pub filter: PathBuf,
    /// The model repository: `<model>/<version>/`.
    pub models: PathBuf,
}

impl Install {
    /// Finds everything. Binaries of this workspace stand beside the running executable (or one folder up, for tests and
    /// benches), or in `KILOCARD_BIN_DIR`; `KILOCARD_ENVOY` and `KILOCARD_ETCD_BIN` name other builds of those two.
    ///
    /// # Errors
    /// One error that lists all that is missing and what to run.
    pub fn locate() -> Result<Self> {
        let root = workspace_root()?;
        let bins = binary_dirs();
        let own = |name: &str| first_file(bins.iter().map(|dir| dir.join(name)));
        let tools = root.join(".tools");
        let given = |variable: &str| env::var_os(variable).map(PathBuf::from);
        let envoy = first_file(given("KILOCARD_ENVOY").into_iter().chain([tools.join("bin/envoy")]));
        let etcd_places = given("KILOCARD_ETCD_BIN").into_iter().chain([tools.join("bin/etcd")]);
        let etcd = first_file(etcd_places.chain(on_path("etcd")));
        let filter = first_file([target_dir()?.join("wasm32-wasip1/wasm/kilocard_gateway.wasm")]);
        let models = tools.join("models");
        let models_there = ["v1", "v2"]
            .iter()
            .all(|version| models.join("minilm").join(version).is_dir());

        let mut missing = Vec::new();
        let mut need = |what: &str, found: Option<PathBuf>| {
            found.unwrap_or_else(|| {
                missing.push(what.to_owned());
                PathBuf::new()
            })
        };
        let install = Self {
            control_plane: need("kilocard-control-plane (cargo build)", own("kilocard-control-plane")),
            worker: need("kilocard-worker (cargo build)", own("kilocard-worker")),
            cli: need("kilocard (cargo build)", own("kilocard")),
            envoy: need("Envoy (.tools/bin/envoy)", envoy),
            etcd: need("etcd (.tools/bin/etcd or on the PATH)", etcd),
            filter: need("the filter (target/wasm32-wasip1/wasm/kilocard_gateway.wasm)", filter),
            models: need(
                "the model (.tools/models/minilm/v1 and v2)",
                models_there.then_some(models),
            ),
            root,
        };
        if !missing.is_empty() {
            bail!(
                "missing: {}; run `cargo xtask setup`, then `cargo build`",
                missing.join(", ")
            );
        }
        Ok(install)
    }
}

/// The workspace's root: where this crate was built if that is still there, else the nearest folder above the current
/// one that holds the testbed.
///
/// # Errors
/// If neither is a checkout of Kilocard.
pub fn workspace_root() -> Result<PathBuf> {
    let is_root = |dir: &Path| dir.join("testbed/Cargo.toml").is_file() && dir.join("Cargo.lock").is_file();
    let built_in = Path::new(env!("CARGO_MANIFEST_DIR")).parent().map(Path::to_owned);
    let here = env::current_dir()?;
    let candidates = built_in.into_iter().chain(here.ancestors().map(Path::to_owned));
    match candidates.into_iter().find(|dir| is_root(dir)) {
        Some(root) => Ok(root),
        None => bail!(
            "not inside a checkout of Kilocard: no folder above {} holds it",
            here.display()
        ),
    }
}

/// Cargo's target folder: `CARGO_TARGET_DIR`, or `target` in the workspace.
///
/// # Errors
/// See [`workspace_root`].
pub fn target_dir() -> Result<PathBuf> {
    let root = workspace_root()?;
    // A relative one is meant from where cargo was called, which for this workspace is its root.
    Ok(root.join(env::var_os("CARGO_TARGET_DIR").map_or_else(|| PathBuf::from("target"), PathBuf::from)))
}

/// Where runs keep their folders and `up` its lock and addresses: `KILOCARD_TESTBED_DIR`, or `testbed` in the target
/// folder.
///
/// # Errors
/// See [`workspace_root`].
pub fn state_dir() -> Result<PathBuf> {
    match env::var_os("KILOCARD_TESTBED_DIR") {
        Some(dir) => Ok(std::path::absolute(dir)?),
        None => Ok(target_dir()?.join("testbed")),
    }
}

fn binary_dirs() -> Vec<PathBuf> {
    let given = env::var_os("KILOCARD_BIN_DIR").map(PathBuf::from);
    let executable = env::current_exe().unwrap_or_default();
    given
        .into_iter()
        .chain(executable.ancestors().skip(1).take(2).map(Path::to_owned))
        .collect()
}

fn on_path(program: &str) -> Vec<PathBuf> {
    env::var_os("PATH")
        .map(|path| env::split_paths(&path).map(|dir| dir.join(program)).collect())
        .unwrap_or_default()
}

fn first_file(candidates: impl IntoIterator<Item = PathBuf>) -> Option<PathBuf> {
    candidates.into_iter().find(|path| path.is_file())
}
