//! A run's folder: logs, bootstrap, etcd's data.

use crate::install::state_dir;
use anyhow::{Context, Result};
use std::fs;
use std::path::{Path, PathBuf};
use std::sync::atomic::{AtomicBool, AtomicU32, Ordering};

/// Several testbeds of one process need several folders.
static COUNT: AtomicU32 = AtomicU32::new(0);

/// Whether somebody asked this process to end: what is cut short then is no failure.
static INTERRUPTED: AtomicBool = AtomicBool::new(false);

/// Says that this process was asked to end, so that unfinished runs leave no folder.
pub fn interrupted() {
    INTERRUPTED.store(true, Ordering::Relaxed);
}

/// `<state>/<name>-<pid>-<n>/`, by default under `target/testbed/`: kept with a word about it when dropped, unless [`Run::discard`] said otherwise.
#[derive(Debug)]
pub struct Run {
    dir: PathBuf,
    keep: bool,
}

impl Run {
    /// A new folder for a run of this name.
    ///
    /// # Errors
    /// If it cannot be made.
    pub fn create(name: &str) -> Result<Self> {
        let count = COUNT.fetch_add(1, Ordering::Relaxed);
        let name = format!("{name}-{}-{count}", std::process::id());
        let dir = state_dir()?.join(name);
        fs::create_dir_all(&dir).with_context(|| format!("create {}", dir.display()))?;
        Ok(Self { dir, keep: true })
    }

    /// The folder.
    pub fn dir(&self) -> &Path {
        &self.dir
    }

    /// The logs are of no more use.
    pub fn discard(&mut self) {
        self.keep = false;
    }
}

impl Drop for Run {
    fn drop(&mut self) {
        if self.keep && !INTERRUPTED.load(Ordering::Relaxed) {
            tracing::warn!("logs kept in {}", self.dir.display());
        } else if let Err(error) = fs::remove_dir_all(&self.dir) {
            tracing::warn!("cannot remove {}: {error}", self.dir.display());
        }
    }
}
