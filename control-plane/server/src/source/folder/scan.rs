//! What files there are, and whether they have changed, without reading them.

use std::collections::BTreeMap;
use std::fs;
use std::io::{self, ErrorKind};
use std::os::unix::fs::MetadataExt;
use std::path::Path;
use std::time::SystemTime;

/// The folders that count.
const ROOMS: [&str; 3] = ["policies", "devices", "workers"];
/// The suffixes that count.
pub(super) const SUFFIXES: [&str; 3] = ["yaml", "yml", "json"];
/// How deep folders may lie in one another; symbolic links may make a circle.
const DEPTH: usize = 5;

/// By what a change of a file is noticed.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) struct Signature {
    len: u64,
    /// When it was last written.
    pub(super) modified: SystemTime,
    /// Which file it is: a renamed one, or another target of a symbolic link, is another.
    inode: (u64, u64),
}

/// Why the folder cannot be used.
#[derive(Debug, thiserror::Error)]
pub(super) enum Away {
    /// It, or a folder in it, cannot be read.
    #[error("{0}")]
    Io(#[from] io::Error),
    /// A volume that is not mounted looks so; an empty mesh has at least one of its folders.
    #[error("it has none of the folders policies, devices and workers")]
    Empty,
}

/// All files that count, by their path below the root.
pub(super) fn scan(root: &Path) -> Result<BTreeMap<String, Signature>, Away> {
    let mut found = BTreeMap::new();
    let mut rooms = 0;
    for room in ROOMS {
        match fs::read_dir(root.join(room)) {
            Ok(entries) => {
                rooms += 1;
                collect(entries, room, DEPTH, &mut found)?;
            }
            Err(error) if error.kind() == ErrorKind::NotFound => {}
            Err(error) => return Err(error.into()),
        }
    }
    if rooms == 0 {
        // Says whether the root itself is there.
        fs::read_dir(root)?;
        return Err(Away::Empty);
    }
    Ok(found)
}

fn collect(
    entries: fs::ReadDir,
    path: &str,
    depth: usize,
    found: &mut BTreeMap<String, Signature>,
) -> Result<(), io::Error> {
    for entry in entries {
        let entry = entry?;
        let name = entry.file_name();
        let Some(name) = name.to_str() else { continue };
        // A ConfigMap's files are symbolic links through `..data`; others hide what they are writing.
        if name.starts_with('.') {
            continue;
        }
        let below = format!("{path}/{name}");
        match fs::metadata(entry.path()) {
            Ok(metadata) if metadata.is_dir() => {
                if let Some(depth) = depth.checked_sub(1) {
                    collect(fs::read_dir(entry.path())?, &below, depth, found)?;
                }
            }
            Ok(metadata) if metadata.is_file() && has_suffix(name) => {
                found.insert(below, of(&metadata)?);
            }
            Ok(_) => {}
            // Gone meanwhile, or a link to nothing.
            Err(error) if error.kind() == ErrorKind::NotFound => {}
            Err(error) => return Err(error),
        }
    }
    Ok(())
}

/// The signature of one file.
pub(super) fn signature(path: &Path) -> io::Result<Signature> {
    of(&fs::metadata(path)?)
}

fn of(metadata: &fs::Metadata) -> io::Result<Signature> {
    Ok(Signature {
        len: metadata.len(),
        modified: metadata.modified()?,
        inode: (metadata.dev(), metadata.ino()),
    })
}

fn has_suffix(name: &str) -> bool {
    name.rsplit_once('.')
        .is_some_and(|(_, suffix)| SUFFIXES.contains(&suffix))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn files_that_count_are_found_and_others_are_not() {
        let dir = tempfile::tempdir().unwrap();
        assert!(matches!(scan(dir.path()), Err(Away::Empty)));
        assert!(matches!(scan(&dir.path().join("none")), Err(Away::Io(_))));
        for (path, text) in [
            ("policies/a.yaml", "x"),
            ("policies/RoutingPolicy/b.json", "x"),
            ("policies/README.md", "x"),
            ("policies/.a.yaml.swp", "x"),
            ("policies/..2026/c.yaml", "x"),
            ("workers/w.yml", "x"),
            ("elsewhere/d.yaml", "x"),
        ] {
            let path = dir.path().join(path);
            fs::create_dir_all(path.parent().unwrap()).unwrap();
            fs::write(path, text).unwrap();
        }
        std::os::unix::fs::symlink("..2026/c.yaml", dir.path().join("policies/c.yaml")).unwrap();
        std::os::unix::fs::symlink("..", dir.path().join("policies/circle")).unwrap();
        let found = scan(dir.path()).unwrap();
        let shallow: Vec<&str> = found
            .keys()
            .map(String::as_str)
            .filter(|path| !path.contains("circle"))
            .collect();
        assert_eq!(
            shallow,
            [
                "policies/RoutingPolicy/b.json",
                "policies/a.yaml",
                "policies/c.yaml",
                "workers/w.yml"
            ]
        );
    }
}
