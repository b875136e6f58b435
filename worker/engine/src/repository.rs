//! The model repository: folders `<model>/<version>/`, each complete and checked against its [`manifest`].
//!
//! A version's files are hashed as they are read, and what was hashed is what is loaded: nothing can change in between.

pub mod manifest;
mod name;

pub use manifest::{FileEntry, Manifest};
pub use name::{Name, NameError};

use sha2::{Digest, Sha256};
use std::{
    fmt,
    fs::{self, File},
    io::{self, Read, Write},
    path::{Path, PathBuf},
};

/// The manifest's own file name.
pub const MANIFEST: &str = "manifest.json";
/// The architecture, as Hugging Face writes it.
pub const CONFIG: &str = "config.json";
/// The weights.
pub const WEIGHTS: &str = "model.safetensors";
/// The tokenizer, as Hugging Face's tokenizers writes it.
pub const TOKENIZER: &str = "tokenizer.json";

/// Far above any manifest, far below what would hurt.
const MANIFEST_MAX_BYTES: u64 = 1 << 20;
const CHUNK_BYTES: usize = 1 << 20;

/// Which version of which model.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct VersionId {
    /// The model's name: a folder of the repository.
    pub model: Name,
    /// The version's name: a folder of the model.
    pub version: Name,
}

impl fmt::Display for VersionId {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}/{}", self.model, self.version)
    }
}

impl std::str::FromStr for VersionId {
    type Err = NameError;

    /// Reads `model/version`.
    fn from_str(text: &str) -> Result<Self, NameError> {
        let (model, version) = text
            .split_once('/')
            .ok_or_else(|| NameError::NotAVersion(text.to_owned()))?;
        Ok(Self {
            model: model.parse()?,
            version: version.parse()?,
        })
    }
}

/// Why a version cannot be served, or a repository not be read.
#[derive(Debug, thiserror::Error)]
pub enum RepositoryError {
    /// A folder's or file's name breaks the grammar.
    #[error("{path}: {source}")]
    Name {
        /// The folder it stands in.
        path: PathBuf,
        /// What is wrong with it.
        source: NameError,
    },
    /// The file system refused.
    #[error("{path}: {source}")]
    Io {
        /// What was to be read.
        path: PathBuf,
        /// What the system said.
        source: io::Error,
    },
    /// No such version.
    #[error("the repository {repository} holds no {id}; it holds: {}", list(.present))]
    NotFound {
        /// The repository.
        repository: PathBuf,
        /// What was asked for.
        id: VersionId,
        /// What there is.
        present: Vec<VersionId>,
    },
    /// The manifest cannot be read as one.
    #[error("{path}: not a manifest that this release reads: {reason}")]
    Manifest {
        /// The manifest.
        path: PathBuf,
        /// What is wrong.
        reason: String,
    },
    /// The manifest lists a file that is not there.
    #[error("{path}: listed in the manifest (sha256 {expected}) but missing; copy the version again or pack it again")]
    Missing {
        /// The file.
        path: PathBuf,
        /// The digest it should have.
        expected: String,
    },
    /// A file of the folder is not in the manifest.
    #[error("{path}: not listed in the manifest; remove it, or pack the version again")]
    Unlisted {
        /// The file.
        path: PathBuf,
    },
    /// Not a plain file: what a link points to is not under the manifest's control.
    #[error("{path}: not a regular file (a link or a folder); put the file itself there")]
    NotAFile {
        /// The path.
        path: PathBuf,
    },
    /// A file's length differs.
    #[error("{path}: {found} bytes, but the manifest says {expected}; copy the version again or pack it again")]
    Size {
        /// The file.
        path: PathBuf,
        /// By the manifest.
        expected: u64,
        /// On disk.
        found: u64,
    },
    /// A file's content differs.
    #[error("{path}: sha256 is {found}, but the manifest says {expected}; copy the version again or pack it again")]
    Digest {
        /// The file.
        path: PathBuf,
        /// By the manifest, hexadecimal.
        expected: String,
        /// On disk, hexadecimal.
        found: String,
    },
}

fn list(ids: &[VersionId]) -> String {
    if ids.is_empty() {
        return "nothing".to_owned();
    }
    ids.iter().map(ToString::to_string).collect::<Vec<_>>().join(", ")
}

/// A folder of models.
#[derive(Clone, Debug)]
pub struct Repository {
    root: PathBuf,
}

impl Repository {
    /// The repository in this folder. Nothing is read yet.
    pub fn new(root: impl Into<PathBuf>) -> Self {
        Self { root: root.into() }
    }

    /// Every version, sorted by model and then from the oldest to the newest version. Hidden entries (versions being
    /// written) and plain files are passed over.
    ///
    /// # Errors
    /// The folder cannot be read, or a folder's name breaks the grammar.
    pub fn versions(&self) -> Result<Vec<VersionId>, RepositoryError> {
        let mut ids = Vec::new();
        for model in folders(&self.root)? {
            for version in folders(&self.root.join(model.as_str()))? {
                ids.push(VersionId {
                    model: model.clone(),
                    version,
                });
            }
        }
        ids.sort();
        Ok(ids)
    }

    /// One version, its manifest read; its files are checked when they are read or by [`Version::verify`].
    ///
    /// # Errors
    /// There is no such version, or its manifest cannot be used.
    pub fn open(&self, id: &VersionId) -> Result<Version, RepositoryError> {
        let folder = self.root.join(id.model.as_str()).join(id.version.as_str());
        if !folder.is_dir() {
            return Err(RepositoryError::NotFound {
                repository: self.root.clone(),
                id: id.clone(),
                present: self.versions()?,
            });
        }
        let manifest = read_manifest(&folder.join(MANIFEST))?;
        Ok(Version {
            id: id.clone(),
            folder,
            manifest,
        })
    }
}

fn folders(path: &Path) -> Result<Vec<Name>, RepositoryError> {
    let io = |source| RepositoryError::Io {
        path: path.to_owned(),
        source,
    };
    let mut names = Vec::new();
    for entry in fs::read_dir(path).map_err(io)? {
        let entry = entry.map_err(io)?;
        let name = entry.file_name();
        let name = name.to_string_lossy();
        if name.starts_with('.') || !entry.path().is_dir() {
            continue;
        }
        names.push(name.parse().map_err(|source| RepositoryError::Name {
            path: path.to_owned(),
            source,
        })?);
    }
    Ok(names)
}

fn read_manifest(path: &Path) -> Result<Manifest, RepositoryError> {
    let refuse = |reason: String| RepositoryError::Manifest {
        path: path.to_owned(),
        reason,
    };
    let mut text = Vec::new();
    let file = open_regular(path).map_err(|error| match error {
        RepositoryError::Io { source, .. } if source.kind() == io::ErrorKind::NotFound => {
            refuse("there is none; make the version with `kilocard-worker pack`".to_owned())
        }
        other => other,
    })?;
    file.take(MANIFEST_MAX_BYTES + 1)
        .read_to_end(&mut text)
        .map_err(|source| RepositoryError::Io {
            path: path.to_owned(),
            source,
        })?;
    if text.len() as u64 > MANIFEST_MAX_BYTES {
        return Err(refuse(format!("larger than {MANIFEST_MAX_BYTES} bytes")));
    }
    Manifest::parse(&text).map_err(|error| refuse(error.to_string()))
}

/// Opens a file that is one itself: links are refused, since they lead out of the folder.
fn open_regular(path: &Path) -> Result<File, RepositoryError> {
    let io = |source| RepositoryError::Io {
        path: path.to_owned(),
        source,
    };
    if !fs::symlink_metadata(path).map_err(io)?.is_file() {
        return Err(RepositoryError::NotAFile { path: path.to_owned() });
    }
    File::open(path).map_err(io)
}

/// A version on disk and what its manifest says about it.
#[derive(Debug)]
pub struct Version {
    id: VersionId,
    folder: PathBuf,
    manifest: Manifest,
}

impl Version {
    /// Which one it is.
    pub fn id(&self) -> &VersionId {
        &self.id
    }

    /// What it says about itself.
    pub fn manifest(&self) -> &Manifest {
        &self.manifest
    }

    /// Checks every file, and that there are no others; reads each once, in chunks. Returns the bytes checked.
    ///
    /// # Errors
    /// The first file that is missing, unlisted, not a file, or other than the manifest says.
    pub fn verify(&self) -> Result<u64, RepositoryError> {
        self.check_unlisted()?;
        let mut bytes = 0;
        for (name, entry) in &self.manifest.files {
            let (path, file) = self.open_sized(name, entry)?;
            copy_checked(path, file, entry, &mut io::sink())?;
            bytes += entry.bytes;
        }
        Ok(bytes)
    }

    /// A file's content, checked.
    ///
    /// # Errors
    /// The file is not in the manifest, missing, not a file, or other than the manifest says.
    pub fn read(&self, name: &str) -> Result<Vec<u8>, RepositoryError> {
        let path = || self.folder.join(name);
        let entry = self
            .manifest
            .files
            .get(name)
            .ok_or_else(|| RepositoryError::Unlisted { path: path() })?;
        let (path, file) = self.open_sized(name, entry)?;
        let mut content = Vec::new();
        // The file has this size; the manifest alone is not believed.
        usize::try_from(entry.bytes)
            .map_err(|_| io::ErrorKind::OutOfMemory.into())
            .and_then(|bytes| content.try_reserve_exact(bytes).map_err(io::Error::other))
            .map_err(|source| RepositoryError::Io {
                path: path.clone(),
                source,
            })?;
        copy_checked(path, file, entry, &mut content)?;
        Ok(content)
    }

    /// Refuses files that the manifest does not know of.
    ///
    /// # Errors
    /// The first such file.
    pub fn check_unlisted(&self) -> Result<(), RepositoryError> {
        let io = |source| RepositoryError::Io {
            path: self.folder.clone(),
            source,
        };
        for entry in fs::read_dir(&self.folder).map_err(io)? {
            let name = entry.map_err(io)?.file_name();
            let known = name
                .to_str()
                .is_some_and(|name| name == MANIFEST || self.manifest.files.contains_key(name));
            if !known {
                return Err(RepositoryError::Unlisted {
                    path: self.folder.join(name),
                });
            }
        }
        Ok(())
    }

    /// Opens a file if it has the size that it should have.
    fn open_sized(&self, name: &str, entry: &FileEntry) -> Result<(PathBuf, File), RepositoryError> {
        let path = self.folder.join(name);
        let io = |source| RepositoryError::Io {
            path: path.clone(),
            source,
        };
        let file = open_regular(&path).map_err(|error| match error {
            RepositoryError::Io { source, .. } if source.kind() == io::ErrorKind::NotFound => {
                RepositoryError::Missing {
                    path: path.clone(),
                    expected: entry.sha256.clone(),
                }
            }
            other => other,
        })?;
        let found = file.metadata().map_err(io)?.len();
        if found != entry.bytes {
            return Err(RepositoryError::Size {
                path,
                expected: entry.bytes,
                found,
            });
        }
        Ok((path, file))
    }
}

fn copy_checked(
    path: PathBuf,
    mut file: File,
    entry: &FileEntry,
    sink: &mut impl Write,
) -> Result<(), RepositoryError> {
    let io = |source| RepositoryError::Io {
        path: path.clone(),
        source,
    };
    let mut hasher = Sha256::new();
    let mut chunk = vec![0; CHUNK_BYTES];
    loop {
        let read = file.read(&mut chunk).map_err(io)?;
        let Some(part) = chunk.get(..read).filter(|part| !part.is_empty()) else {
            break;
        };
        hasher.update(part);
        sink.write_all(part).map_err(io)?;
    }
    let found = hex(&hasher.finalize());
    if found != entry.sha256 {
        return Err(RepositoryError::Digest {
            path,
            expected: entry.sha256.clone(),
            found,
        });
    }
    Ok(())
}

/// Lower-case hexadecimal, as `sha256sum` prints it.
pub(crate) fn hex(digest: &[u8]) -> String {
    digest
        .iter()
        .fold(String::with_capacity(digest.len() * 2), |mut text, byte| {
            text.push(char::from_digit(u32::from(byte >> 4), 16).unwrap_or('0'));
            text.push(char::from_digit(u32::from(byte & 15), 16).unwrap_or('0'));
            text
        })
}

#[cfg(test)]
mod tests;
