//! The folder of state files: `<source>-<milliseconds>.state`, a few generations of each source, each whole or not there.

use crate::saved::format::{self, Unusable};
use crate::saved::{Labelled, Origin};
use std::fs::{self, File};
use std::io::{self, Write};
use std::path::{Path, PathBuf};

/// How many files of one source are kept: when the newest cannot be read, an older one can.
pub const GENERATIONS: usize = 3;
const SUFFIX: &str = ".state";

/// Where states are kept.
#[derive(Clone, Debug)]
pub struct Folder {
    path: PathBuf,
}

/// A state could not be written.
#[derive(Debug, thiserror::Error)]
pub enum SaveError {
    /// The disk's word.
    #[error("{path}: {source}", path = path.display())]
    Io {
        /// Which file or folder.
        path: PathBuf,
        /// Why.
        source: io::Error,
    },
    /// See [`format::encode`].
    #[error("cannot encode the state: {0}")]
    Encode(#[from] serde_json::Error),
}

/// A file that was passed over, and why.
#[derive(Debug)]
pub struct Passed {
    /// The file.
    pub path: PathBuf,
    /// Why.
    pub reason: String,
}

impl Folder {
    /// The folder at this path; it is made when something is first written.
    pub fn new(path: impl Into<PathBuf>) -> Self {
        Self { path: path.into() }
    }

    /// Where it is.
    pub fn path(&self) -> &Path {
        &self.path
    }

    /// Writes a new generation and removes those that are too old. A reader sees it whole or not at all, after a loss of
    /// power too.
    ///
    /// # Errors
    /// [`SaveError`]; then nothing has changed, and what is left of the attempt is removed.
    pub fn save(&self, state: &Labelled) -> Result<(), SaveError> {
        let failed = |path: &Path, source| SaveError::Io {
            path: path.to_owned(),
            source,
        };
        fs::create_dir_all(&self.path).map_err(|error| failed(&self.path, error))?;
        let bytes = format::encode(state)?;
        let slug = state.label.origin.slug();
        let target = self
            .path
            .join(format!("{slug}-{:013}{SUFFIX}", state.label.saved_unix_ms));
        // Of this process: replicas may share the folder.
        let beside = self.path.join(format!("{slug}-{}.new", std::process::id()));
        let written = write_through(&beside, &bytes).and_then(|()| fs::rename(&beside, &target));
        if let Err(error) = written {
            let _ = fs::remove_file(&beside);
            return Err(failed(&target, error));
        }
        // The rename itself is on disk once the folder is.
        File::open(&self.path)
            .and_then(|folder| folder.sync_all())
            .map_err(|error| failed(&self.path, error))?;
        for old in self.generations(&state.label.origin).into_iter().skip(GENERATIONS) {
            // One that stays is removed with the next generation.
            let _ = fs::remove_file(old);
        }
        Ok(())
    }

    /// The newest state of the source that can be read, and the files that were passed over on the way to it.
    pub fn load(&self, origin: &Origin) -> (Option<Labelled>, Vec<Passed>) {
        let mut passed = Vec::new();
        for path in self.generations(origin) {
            match read(&path, origin) {
                Ok(state) => return (Some(state), passed),
                Err(reason) => passed.push(Passed { path, reason }),
            }
        }
        (None, passed)
    }

    /// The files of a source, newest first. Times have 13 digits until the year 2286, so names sort by them.
    fn generations(&self, origin: &Origin) -> Vec<PathBuf> {
        let prefix = format!("{}-", origin.slug());
        let entries = fs::read_dir(&self.path).into_iter().flatten().flatten();
        let ours = entries.map(|entry| entry.path()).filter(|path| {
            let name = path.file_name().and_then(|name| name.to_str()).unwrap_or_default();
            let time = name.strip_prefix(&prefix).and_then(|rest| rest.strip_suffix(SUFFIX));
            time.is_some_and(|time| time.len() == 13 && time.bytes().all(|byte| byte.is_ascii_digit()))
        });
        let mut paths: Vec<PathBuf> = ours.collect();
        paths.sort();
        paths.reverse();
        paths
    }
}

fn read(path: &Path, origin: &Origin) -> Result<Labelled, String> {
    let bytes = fs::read(path).map_err(|error| format!("cannot be read: {error}"))?;
    let state = format::decode(&bytes).map_err(|error: Unusable| error.to_string())?;
    if !state.label.origin.may_stand_for(origin) {
        return Err(format!("is the state of another source ({:?})", state.label.origin));
    }
    Ok(state)
}

fn write_through(path: &Path, bytes: &[u8]) -> io::Result<()> {
    let mut file = File::create(path)?;
    file.write_all(bytes)?;
    file.sync_all()
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::saved::tests::{etcd, labelled};

    fn at(unix_ms: u64, revision: i64) -> Labelled {
        let mut state = labelled(revision);
        state.label.saved_unix_ms = unix_ms;
        state
    }

    #[test]
    fn the_newest_of_a_few_generations_is_read() {
        let dir = tempfile::tempdir().unwrap();
        let folder = Folder::new(dir.path().join("deep/er"));
        let origin = etcd(&["http://a:2379"]);
        assert!(folder.load(&origin).0.is_none());
        for n in 1..=5 {
            folder.save(&at(1_790_000_000_000 + n, n as i64)).unwrap();
        }
        let (state, passed) = folder.load(&origin);
        assert_eq!((state.unwrap().saved.revision, passed.len()), (5, 0));
        assert_eq!(fs::read_dir(folder.path()).unwrap().count(), GENERATIONS);
    }

    #[test]
    fn a_generation_that_cannot_be_read_is_passed_over_with_the_reason() {
        let dir = tempfile::tempdir().unwrap();
        let folder = Folder::new(dir.path());
        let origin = etcd(&["http://a:2379"]);
        for n in 1..=3 {
            folder.save(&at(1_790_000_000_000 + n, n as i64)).unwrap();
        }
        let files = folder.generations(&origin);
        fs::write(&files[0], b"").unwrap();
        let whole = fs::read(&files[1]).unwrap();
        fs::write(&files[1], &whole[..whole.len() / 2]).unwrap();
        let (state, passed) = folder.load(&origin);
        assert_eq!(state.unwrap().saved.revision, 1);
        let reasons: Vec<&str> = passed.iter().map(|passed| passed.reason.as_str()).collect();
        assert!(
            reasons[0].contains("not a state file") && reasons[1].contains("cut off"),
            "{reasons:?}"
        );
    }

    #[test]
    fn the_state_of_another_etcd_is_not_taken_for_ours() {
        let dir = tempfile::tempdir().unwrap();
        let folder = Folder::new(dir.path());
        folder.save(&at(1_790_000_000_000, 1)).unwrap();
        let (state, passed) = folder.load(&etcd(&["http://elsewhere:2379"]));
        assert!(state.is_none());
        assert!(passed[0].reason.contains("another source"), "{passed:?}");
    }

    #[test]
    fn what_cannot_be_written_is_told_and_leaves_nothing_behind() {
        let dir = tempfile::tempdir().unwrap();
        let file = dir.path().join("file");
        fs::write(&file, b"").unwrap();
        let error = Folder::new(&file)
            .save(&at(1_790_000_000_000, 1))
            .unwrap_err()
            .to_string();
        assert!(error.contains("file"), "{error}");
        assert_eq!(fs::read_dir(dir.path()).unwrap().count(), 1);
    }
}
