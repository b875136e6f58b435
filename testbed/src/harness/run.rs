//! A run's folder: logs, bootstrap, etcd's data.

use crate::install::target_dir;
use anyhow::{Context, Result};
use std::fs;
use std::path::{Path, PathBuf};
use std::sync::atomic::{AtomicU32, Ordering};

/// Several testbeds of one process need several folders.
static COUNT: AtomicU32 = AtomicU32::new(0);

/// `target/testbed/<name>-<pid>-<n>/`.
#[derive(Clone, Debug)]
pub(super) struct Run {
    dir: PathBuf,
}

impl Run {
    pub(super) fn create(name: &str) -> Result<Self> {
        let count = COUNT.fetch_add(1, Ordering::Relaxed);
        let dir = target_dir()?
            .join("testbed")
            .join(format!("{name}-{}-{count}", std::process::id()));
        fs::create_dir_all(&dir).with_context(|| format!("create {}", dir.display()))?;
        Ok(Self { dir })
    }

    pub(super) fn dir(&self) -> &Path {
        &self.dir
    }

    /// Removes the folder after a good end; otherwise keeps the logs and says where. Processes may still be ending: the
    /// folder is only unlinked.
    pub(super) fn close(&self, good: bool) {
        if good {
            let _ = fs::remove_dir_all(&self.dir);
        } else {
            tracing::warn!("logs kept in {}", self.dir.display());
        }
    }
}
