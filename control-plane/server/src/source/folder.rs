//! The folder side of the source, for those without etcd: the same documents as files, looked at several times a second.
//!
//! ```text
//! policies/**/*.yaml             policy documents, one or several a file (.yml and .json too)
//! devices/gpu/<node>/<pci>.yaml  as under the same key in etcd
//! workers/<id>.yaml              as under the same key in etcd
//! ```
//! It is looked at and not watched: inotify does not tell of the swapped symbolic links of a Kubernetes ConfigMap, nor of
//! network file systems, nor of what it dropped; a look costs a `stat` a file. What is being written is left alone until two
//! looks in a row find it the same, so a half-written file or one between removal and renaming is never taken for a change.
//! A file that cannot be read leaves what it held before in force; a folder that is empty or gone, the whole.

mod documents;
mod scan;
mod shelf;

use crate::source::Health;
use crate::source::intake::Intake;
use kilocard_registry::layout::Layout;
use scan::{Away, Signature};
use shelf::{Held, Shelf};
use std::collections::BTreeMap;
use std::path::PathBuf;
use std::time::{Duration, Instant, SystemTime};
use tokio_util::sync::CancellationToken;

/// Between two looks.
const LOOK_EVERY: Duration = Duration::from_millis(250);
/// A look at a large folder is followed by a pause of this many times as long as it took.
const REST: u32 = 20;

/// The source; [`FolderSource::run`] drives it.
#[derive(Debug)]
pub struct FolderSource {
    root: PathBuf,
    intake: Intake,
    health: Health,
    shelf: Shelf,
    /// What the last look found.
    last: BTreeMap<String, Signature>,
    /// What counts: each file as it was when it last stood still.
    files: BTreeMap<String, (Signature, Held)>,
    begun: bool,
    /// Why the folder cannot be used, as it was last told.
    away: Option<String>,
}

impl FolderSource {
    /// A source that has not begun.
    pub fn new(root: PathBuf, layout: Layout, intake: Intake, health: Health) -> Self {
        Self {
            root,
            shelf: Shelf::new(layout),
            intake,
            health,
            last: BTreeMap::new(),
            files: BTreeMap::new(),
            begun: false,
            away: None,
        }
    }

    /// Keeps up with the folder until cancelled.
    pub async fn run(mut self, cancel: CancellationToken) {
        loop {
            let begun = Instant::now();
            // Reading files blocks; a folder on a network file system may do so for long.
            let looked = tokio::task::spawn_blocking(move || {
                self.look();
                self
            });
            self = match looked.await {
                Ok(source) => source,
                Err(panicked) => {
                    tracing::error!(error = %panicked, "the folder is no longer looked at");
                    return;
                }
            };
            let pause = LOOK_EVERY.max(begun.elapsed() * REST);
            tokio::select! {
                () = cancel.cancelled() => return,
                () = tokio::time::sleep(pause) => {}
            }
        }
    }

    /// Looks once, and takes in what has changed and stands still.
    fn look(&mut self) {
        match scan::scan(&self.root) {
            Ok(found) => self.take(found),
            Err(away) => self.lose(&away),
        }
    }

    fn lose(&mut self, away: &Away) {
        self.health.connected.set(0);
        self.intake.serve_saved();
        let reason = away.to_string();
        if self.away.as_ref() != Some(&reason) {
            tracing::warn!(dir = %self.root.display(), reason, "the folder cannot be used: the last good state stays in force");
            self.away = Some(reason);
        }
    }

    fn take(&mut self, found: BTreeMap<String, Signature>) {
        let mut changed = self.drop_missing(&found);
        let mut restless = false;
        for (path, signature) in &found {
            let still = self.last.get(path) == Some(signature);
            restless |= !still;
            if !still || self.files.get(path).is_some_and(|(known, _)| known == signature) {
                continue;
            }
            if let Some(held) = self.read(path, signature) {
                self.files.insert(path.clone(), (signature.clone(), held));
                changed = true;
            }
        }
        self.last = found;
        // The first listing has everything, or workers would seem to come one by one.
        if !self.begun && restless {
            return;
        }
        if self.away.take().is_some() {
            tracing::info!(dir = %self.root.display(), "the folder can be used again");
        }
        self.health.connected.set(1);
        if changed || !self.begun {
            self.give();
        }
    }

    /// Forgets files that two looks in a row did not find; whether there were any.
    fn drop_missing(&mut self, found: &BTreeMap<String, Signature>) -> bool {
        let before = self.files.len();
        let last = &self.last;
        self.files
            .retain(|path, _| found.contains_key(path) || last.contains_key(path));
        self.files.len() != before
    }

    /// What a file holds; `None` if it was touched meanwhile.
    fn read(&self, path: &str, signature: &Signature) -> Option<Held> {
        let file = self.root.join(path);
        let text = std::fs::read_to_string(&file);
        if scan::signature(&file).ok().as_ref() != Some(signature) {
            return None;
        }
        let records = match text {
            Ok(text) => documents::records(path, &text),
            Err(error) => Err(format!("cannot be read: {error}")),
        };
        if let Err(reason) = &records {
            tracing::warn!(path, reason, "a file is not taken: what it held before stays in force");
        }
        Some(Held {
            modified: signature.modified,
            records,
        })
    }

    fn give(&mut self) {
        if !self.begun
            && let Some(saved) = self.intake.offered()
        {
            self.shelf.seed(&saved.saved);
        }
        let files = self.files.iter().map(|(path, (_, held))| (path.as_str(), held));
        let listing = self.shelf.list(files, SystemTime::now());
        if self.begun {
            self.intake.replace(listing);
            return;
        }
        tracing::info!(dir = %self.root.display(), files = self.files.len(), "the folder was read");
        let mut ledger = self.intake.successor(0);
        ledger.begin(listing, Instant::now());
        ledger.recover(&BTreeMap::new());
        self.intake.install(ledger, 0);
        self.begun = true;
    }
}
