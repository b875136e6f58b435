//! Verdicts as files: `policies/<kind>/<name>.json` below a folder, each whole or not there.

use crate::source::Health;
use crate::source::backoff::Backoff;
use crate::status::Book;
use kilocard_registry::layout::PolicyId;
use kilocard_registry::policy_status::PolicyStatus;
use std::collections::BTreeSet;
use std::fs;
use std::io::{self, ErrorKind};
use std::path::{Path, PathBuf};
use tokio::sync::watch;
use tokio_util::sync::CancellationToken;

/// Keeps the files as the verdicts are, until cancelled. A folder that cannot be written to is told, and tried again.
pub async fn run(root: PathBuf, mut book: watch::Receiver<Book>, health: Health, cancel: CancellationToken) {
    let writing = async {
        let mut backoff = Backoff::new();
        loop {
            let current = book.borrow_and_update().clone();
            if current.complete
                && let Err(error) = write_all(&root, &current)
            {
                let pause = backoff.pause(fastrand::f64());
                health.status_write_failures.inc();
                tracing::warn!(%error, dir = %root.display(), retry_in_ms = pause.as_millis(), "cannot write policy status");
                tokio::time::sleep(pause).await;
                continue;
            }
            backoff.reset();
            if book.changed().await.is_err() {
                return;
            }
        }
    };
    let _ = cancel.run_until_cancelled(writing).await;
}

/// Writes what differs, and removes what no policy is there for any more.
fn write_all(root: &Path, book: &Book) -> io::Result<()> {
    let mut wanted = BTreeSet::new();
    for (id, status) in book.desired.iter() {
        let Some(path) = path(root, id) else { continue };
        write(&path, status)?;
        wanted.insert(path);
    }
    for kind in folders(&root.join("policies"))? {
        for file in folders(&kind)? {
            let ours = file.extension().is_some_and(|suffix| suffix == "json");
            if ours && !wanted.contains(&file) {
                fs::remove_file(file)?;
            }
        }
    }
    Ok(())
}

/// Where the verdict on a policy stands; `None` for a name that would lead elsewhere.
fn path(root: &Path, id: &PolicyId) -> Option<PathBuf> {
    let plain = |part: &str| !part.is_empty() && !part.starts_with('.') && !part.contains('/');
    (plain(&id.kind) && plain(&id.name)).then(|| root.join("policies").join(&id.kind).join(format!("{}.json", id.name)))
}

fn write(path: &Path, status: &PolicyStatus) -> io::Result<()> {
    let json = serde_json::to_vec_pretty(status)?;
    if fs::read(path).is_ok_and(|found| found == json) {
        return Ok(());
    }
    if let Some(folder) = path.parent() {
        fs::create_dir_all(folder)?;
    }
    let beside = path.with_extension(format!("{}.new", std::process::id()));
    fs::write(&beside, json)?;
    fs::rename(&beside, path)
}

fn folders(path: &Path) -> io::Result<Vec<PathBuf>> {
    match fs::read_dir(path) {
        Ok(entries) => entries.map(|entry| Ok(entry?.path())).collect(),
        Err(error) if error.kind() == ErrorKind::NotFound => Ok(Vec::new()),
        Err(error) => Err(error),
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use kilocard_registry::policy_status::PolicyState;
    use std::collections::BTreeMap;
    use std::sync::Arc;

    fn book(names: &[&str]) -> Book {
        let verdict = |revision| PolicyStatus {
            state: PolicyState::Accepted,
            revision,
            serving_revision: Some(revision),
            errors: Vec::new(),
        };
        let desired: BTreeMap<_, _> = names
            .iter()
            .map(|name| (PolicyId::new("RoutingPolicy", *name), verdict(7)))
            .collect();
        Book {
            complete: true,
            desired: Arc::new(desired),
            recorded: Arc::default(),
        }
    }

    #[test]
    fn verdicts_come_and_go_with_their_policies() {
        let dir = tempfile::tempdir().unwrap();
        write_all(dir.path(), &book(&["a", "b", "../../escape"])).unwrap();
        let folder = dir.path().join("policies/RoutingPolicy");
        let read: PolicyStatus = serde_json::from_slice(&fs::read(folder.join("a.json")).unwrap()).unwrap();
        assert_eq!(read.revision, 7);
        write_all(dir.path(), &book(&["b"])).unwrap();
        let left: Vec<_> = folders(&folder).unwrap();
        assert_eq!(left, [folder.join("b.json")]);
        assert_eq!(fs::read_dir(dir.path()).unwrap().count(), 1, "nothing else was written");
    }
}
