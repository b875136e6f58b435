//! Secrets from a folder, served over SDS: `NAME/tls.crt` with `NAME/tls.key` as the secret `NAME`, `NAME/ca.crt` as `NAME/ca`.
//!
//! The folder is looked at every two seconds. What has changed is read and checked; a file that is missing, half written or does
//! not fit its other half leaves the last good secret in force and is reported. A secret goes when its files do. Bodies appear
//! in no log and no report.

mod pair;

use kilocard_policy::config::is_name;
use kilocard_registry::report::SecretReport;
use kilocard_xds::snapshot::{Resource, ResourceSet};
use pair::BrokenSecret;
use std::collections::BTreeMap;
use std::io;
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::time::{Duration, SystemTime};
use tokio::sync::watch;
use tokio_util::sync::CancellationToken;

/// How often the folder is looked at.
const POLL: Duration = Duration::from_secs(2);
/// Largest file, in bytes: chains and bundles take some kilobytes.
const MAX_FILE_BYTES: u64 = 1 << 20;

/// What is served, and what cannot be.
#[derive(Clone, Debug, Default, PartialEq)]
pub struct Secrets {
    /// As SDS resources.
    pub set: ResourceSet,
    /// Why the newest files of a secret are not in force, by the secret's name.
    pub problems: BTreeMap<String, String>,
}

impl Secrets {
    /// All of them, by name.
    pub fn report(&self) -> Vec<SecretReport> {
        let mut reports: BTreeMap<&str, SecretReport> = BTreeMap::new();
        let names = self
            .set
            .iter()
            .map(|resource| &resource.name)
            .chain(self.problems.keys());
        for name in names {
            let report = SecretReport {
                name: name.clone(),
                version: self.set.get(name).map(|resource| resource.version.to_string()),
                problem: self.problems.get(name).cloned(),
            };
            reports.insert(name, report);
        }
        reports.into_values().collect()
    }
}

/// Watches the folder, if there is one.
#[derive(Debug)]
pub struct Watcher {
    folder: Option<Folder>,
}

impl Watcher {
    /// Takes a first look, so that no proxy is told meanwhile that there are no secrets.
    pub fn open(folder: Option<PathBuf>) -> (Self, Secrets) {
        let mut folder = folder.map(Folder::new);
        let secrets = folder.as_mut().map(Folder::look).unwrap_or_default();
        (Self { folder }, secrets)
    }

    /// Looks again and again until cancelled.
    pub async fn run(self, out: watch::Sender<Arc<Secrets>>, cancel: CancellationToken) {
        let Some(mut folder) = self.folder else { return };
        let watching = async {
            loop {
                tokio::time::sleep(POLL).await;
                let look = tokio::task::spawn_blocking(move || {
                    let secrets = folder.look();
                    (folder, secrets)
                });
                let Ok((looked, secrets)) = look.await else { return };
                folder = looked;
                out.send_if_modified(|current| {
                    let changed = **current != secrets;
                    if changed {
                        *current = Arc::new(secrets);
                    }
                    changed
                });
            }
        };
        let _ = cancel.run_until_cancelled(watching).await;
    }
}

/// When a file was written last, and how large it is; `None` if it is not there.
type Stamp = Option<(SystemTime, u64)>;

/// A folder of secrets, and what was made of its files.
#[derive(Debug)]
struct Folder {
    path: PathBuf,
    /// By the secret's name.
    known: BTreeMap<String, Known>,
    /// Why the folder cannot be listed.
    unlisted: Option<String>,
}

#[derive(Debug)]
struct Known {
    stamps: [Stamp; 2],
    good: Option<Resource>,
    problem: Option<String>,
}

/// Which files make a secret.
#[derive(Clone, Copy, Debug)]
enum Shape {
    Pair,
    Authority,
}

impl Shape {
    fn files(self) -> [Option<&'static str>; 2] {
        match self {
            Self::Pair => [Some("tls.crt"), Some("tls.key")],
            Self::Authority => [Some("ca.crt"), None],
        }
    }

    fn name(self, folder: &str) -> String {
        match self {
            Self::Pair => folder.to_owned(),
            Self::Authority => format!("{folder}/ca"),
        }
    }
}

impl Folder {
    fn new(path: PathBuf) -> Self {
        Self {
            path,
            known: BTreeMap::new(),
            unlisted: None,
        }
    }

    /// Reads what has changed, and says what there is now.
    fn look(&mut self) -> Secrets {
        match self.list() {
            Ok(names) => {
                self.unlisted = None;
                let mut known = BTreeMap::new();
                for folder in names {
                    for shape in [Shape::Pair, Shape::Authority] {
                        let name = shape.name(&folder);
                        let last = self.known.remove(&name);
                        known.extend(self.look_at(&folder, shape, last).map(|now| (name, now)));
                    }
                }
                self.known = known;
            }
            // Everything stays as it was: an unmounted folder is no order to take certificates away.
            Err(error) => self.unlisted = Some(format!("cannot list {}: {error}", self.path.display())),
        }
        self.secrets()
    }

    fn secrets(&self) -> Secrets {
        let problems = self
            .known
            .iter()
            .filter_map(|(name, known)| Some((name.clone(), known.problem.clone()?)));
        let unlisted = self.unlisted.iter().map(|problem| ("*".to_owned(), problem.clone()));
        Secrets {
            set: ResourceSet::new(self.known.values().filter_map(|known| known.good.clone())),
            problems: problems.chain(unlisted).collect(),
        }
    }

    /// The names of the sub-folders. What begins with a dot is not for us: Kubernetes keeps its own things there.
    fn list(&self) -> io::Result<Vec<String>> {
        let mut names = Vec::new();
        for entry in std::fs::read_dir(&self.path)? {
            let entry = entry?;
            let name = entry.file_name().to_string_lossy().into_owned();
            if !name.starts_with('.') && entry.path().is_dir() {
                names.push(name);
            }
        }
        Ok(names)
    }

    /// `None` if no file of such a secret is there.
    fn look_at(&self, folder: &str, shape: Shape, last: Option<Known>) -> Option<Known> {
        let paths = shape.files().map(|file| Some(self.path.join(folder).join(file?)));
        let stamps = paths.each_ref().map(|path| stamp(path.as_deref()?));
        if stamps.iter().all(Option::is_none) {
            return None;
        }
        if let Some(last) = last.as_ref().filter(|last| last.stamps == stamps) {
            return Some(Known {
                stamps,
                good: last.good.clone(),
                problem: last.problem.clone(),
            });
        }
        let good = last.and_then(|last| last.good);
        let name = shape.name(folder);
        Some(match read(&name, shape, &paths) {
            Ok(resource) => {
                tracing::info!(secret = name, version = %resource.version, "secret in force");
                Known {
                    stamps,
                    good: Some(resource),
                    problem: None,
                }
            }
            Err(error) => {
                let kept = good.is_some();
                tracing::warn!(secret = name, %error, kept, "secret cannot be used; the last good one is kept if there is one");
                Known {
                    stamps,
                    good,
                    problem: Some(error.to_string()),
                }
            }
        })
    }
}

fn stamp(path: &Path) -> Stamp {
    let metadata = std::fs::metadata(path).ok()?;
    Some((metadata.modified().ok()?, metadata.len()))
}

fn read(name: &str, shape: Shape, paths: &[Option<PathBuf>; 2]) -> Result<Resource, BrokenSecret> {
    let folder = name.split('/').next().unwrap_or_default();
    if !is_name(folder) {
        return Err(BrokenSecret::Name(folder.to_owned()));
    }
    let [first, second] = paths.each_ref().map(|path| path.as_deref().map(contents).transpose());
    match (shape, first?, second?) {
        (Shape::Pair, Some(chain), Some(key)) => pair::certificate(name, chain, key),
        (Shape::Authority, Some(bundle), _) => pair::authority(name, bundle),
        (Shape::Pair, _, _) => Err(BrokenSecret::Half),
        (Shape::Authority, None, _) => Err(BrokenSecret::Empty("ca.crt")),
    }
}

fn contents(path: &Path) -> Result<Vec<u8>, BrokenSecret> {
    let failed = |source| BrokenSecret::Read {
        file: path.to_owned(),
        source,
    };
    let length = std::fs::metadata(path).map_err(failed)?.len();
    if length > MAX_FILE_BYTES {
        return Err(BrokenSecret::Large {
            file: path.to_owned(),
            bytes: length,
        });
    }
    std::fs::read(path).map_err(failed)
}

#[cfg(test)]
mod tests;
