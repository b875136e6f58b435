//! Set-up: looks at the machine, decides, refuses before doing anything, or does what is missing.

use std::fs;
use std::os::unix::fs::symlink;
use std::path::{Path, PathBuf};
use std::process::Command;

use anyhow::{Context, Result, bail};

use crate::program;
use crate::progress::Progress;
use crate::workspace::Workspace;

mod facts;
pub(crate) mod fetch;
pub(crate) mod plan;
pub(crate) mod wasm;

use plan::{Facts, Privilege, Step, Want, WasmToolchain};

/// A set-up that can be carried out: nothing has been changed yet.
pub(crate) struct Setup {
    facts: Facts,
    steps: Vec<Step>,
    want: Want,
    /// Keeps a second set-up of the same checkout waiting until this one is dropped.
    _lock: fs::File,
}

impl Setup {
    /// Looks and decides. An error that is a [`plan::Refusal`] lists what the user has to install.
    pub(crate) fn plan(workspace: &Workspace, want: Want) -> Result<Self> {
        let look = || {
            let facts = facts::gather(workspace, want)?;
            let steps = plan::plan(&facts, want)?;
            Ok::<_, anyhow::Error>((facts, steps))
        };
        // Before the lock, since that makes a folder and a refusal leaves nothing behind.
        let (mut facts, mut steps) = look()?;
        let (lock, waited) = lock(&workspace.tools())?;
        if waited {
            (facts, steps) = look()?;
        }
        Ok(Self {
            facts,
            steps,
            want,
            _lock: lock,
        })
    }

    /// How many progress lines it prints.
    pub(crate) fn len(&self) -> usize {
        self.steps.len() + usize::from(self.want.runtime)
    }

    /// Does it.
    pub(crate) fn carry_out(&self, workspace: &Workspace, progress: &mut Progress) -> Result<()> {
        let tools = workspace.tools();
        for step in &self.steps {
            progress.step(&title(step)?, || self.carry_out_step(step, &tools))?;
        }
        if self.want.runtime {
            progress.step("links in .tools/bin", || self.link(&tools))?;
        }
        Ok(())
    }

    fn carry_out_step(&self, step: &Step, tools: &Path) -> Result<String> {
        let had = || Ok("already there".to_owned());
        match step {
            Step::Packages { names, update } => self.install_packages(tools, names, *update),
            Step::Checks { present: true }
            | Step::Model { present: true }
            | Step::Grpcio { present: true }
            | Step::Wasm { present: true, .. } => had(),
            Step::Checks { present: false } => rustup(tools, &["component", "add", "rustfmt", "clippy"]),
            Step::Wasm {
                toolchain: WasmToolchain::Debian,
                ..
            } => Ok("Debian's rustc-web".to_owned()),
            Step::Wasm { fallback, .. } => self.wasm_target(tools, fallback.as_deref()),
            Step::Etcd { found: Some(path) } | Step::Envoy { found: Some(path) } => Ok(found(path, tools)),
            Step::Etcd { found: None } => fetch::etcd(tools),
            Step::Envoy { found: None } => fetch::envoy()?.fetch(tools),
            Step::Model { present: false } => fetch::minilm()?.fetch(tools),
            Step::Grpcio { present: false } => fetch::grpcio()?.fetch(tools),
        }
    }

    fn wasm_target(&self, tools: &Path, fallback: Option<&[&'static str]>) -> Result<String> {
        let error = match rustup(tools, &["target", "add", wasm::TARGET]) {
            Ok(how) => return Ok(how),
            Err(error) => error,
        };
        let Some(packages) = fallback else {
            return Err(
                error.context("rustup cannot fetch the target, and Debian's toolchain cannot be installed here")
            );
        };
        if !packages.is_empty() {
            let update = packages.iter().any(|name| !self.facts.listed.contains(*name));
            self.install_packages(tools, packages, update)?;
        }
        Ok("rustup could not fetch it; Debian's rustc-web serves".to_owned())
    }

    fn install_packages(&self, tools: &Path, names: &[&str], update: bool) -> Result<String> {
        let refresh = || program::logged(self.apt_get().arg("update"), &fetch::log(tools, "apt-update"));
        // Never at the price of a package that is there: a conflict is for the user to decide.
        let install = || {
            let mut command = self.apt_get();
            command
                .args(["install", "-y", "--no-install-recommends", "--no-remove"])
                .args(names);
            program::logged(&mut command, &fetch::log(tools, "apt-install"))
        };
        if update {
            refresh()?;
        }
        if names.is_empty() {
            return Ok("apt-get update".to_owned());
        }
        if let Err(error) = install() {
            if update {
                return Err(error);
            }
            // Lists that have grown old name files that are gone.
            refresh()?;
            install()?;
        }
        Ok("apt-get install".to_owned())
    }

    fn apt_get(&self) -> Command {
        let mut command = match self.facts.privilege {
            Privilege::Sudo => {
                let mut sudo = Command::new("sudo");
                sudo.args(["-n", "DEBIAN_FRONTEND=noninteractive", "apt-get"]);
                sudo
            }
            Privilege::Root | Privilege::None => Command::new("apt-get"),
        };
        command.env("DEBIAN_FRONTEND", "noninteractive");
        command.args(["-q", "-o", "DPkg::Lock::Timeout=300"]);
        command
    }

    /// One place where processes are started from, whatever each program came from.
    fn link(&self, tools: &Path) -> Result<String> {
        let bin = tools.join("bin");
        fs::create_dir_all(&bin).with_context(|| format!("create {}", bin.display()))?;
        let at = |step: fn(&Step) -> Option<&PathBuf>| self.steps.iter().find_map(step).cloned();
        let envoy = at(|step| {
            if let Step::Envoy { found } = step {
                found.as_ref()
            } else {
                None
            }
        });
        let etcd = at(|step| {
            if let Step::Etcd { found } = step {
                found.as_ref()
            } else {
                None
            }
        });
        let wheel = fetch::envoy()?;
        let mut links = vec![
            ("envoy", envoy.unwrap_or_else(|| wheel.folder(tools).join("envoy"))),
            (
                "etcd",
                etcd.unwrap_or_else(|| tools.join(fetch::ETCD_FOLDER).join("etcd")),
            ),
        ];
        links.extend(facts::protoc().map(|protoc| ("protoc", protoc)));
        for (name, to) in &links {
            // A link inside `.tools` is relative, so that the checkout may be moved.
            let to = to
                .strip_prefix(tools)
                .map_or_else(|_| to.clone(), |inside| Path::new("..").join(inside));
            let link = bin.join(name);
            if fs::read_link(&link).is_ok_and(|now| now == to) {
                continue;
            }
            let fresh = bin.join(format!(".{name}.new"));
            let _ = fs::remove_file(&fresh);
            symlink(&to, &fresh).with_context(|| format!("create {}", fresh.display()))?;
            fs::rename(&fresh, &link).with_context(|| format!("create {}", link.display()))?;
        }
        Ok(links.iter().map(|(name, _)| *name).collect::<Vec<_>>().join(", "))
    }
}

/// Hashes what was fetched again.
pub(crate) fn verify(workspace: &Workspace, progress: &mut Progress) -> Result<()> {
    let tools = workspace.tools();
    let mut folders = vec![
        fetch::envoy()?.folder(&tools),
        fetch::minilm()?.folder(&tools),
        fetch::grpcio()?.folder(&tools),
        tools.join(fetch::ETCD_FOLDER),
    ];
    folders.retain(|folder| folder.exists());
    progress.step("SHA-256 of what was fetched", || {
        folders.iter().try_for_each(|folder| fetch::verify(folder))?;
        Ok(format!("{} folders are as unpacked", folders.len()))
    })
}

fn title(step: &Step) -> Result<String> {
    Ok(match step {
        Step::Packages { names, .. } if names.is_empty() => "apt's package lists".to_owned(),
        Step::Packages { names, .. } => format!("packages {}", names.join(" ")),
        Step::Checks { .. } => "rustfmt and clippy".to_owned(),
        Step::Wasm { .. } => format!("toolchain for {}", wasm::TARGET),
        Step::Etcd { .. } => "etcd".to_owned(),
        Step::Envoy { found: Some(_) } => "Envoy".to_owned(),
        Step::Envoy { found: None } => format!("Envoy {}", fetch::envoy()?.version()),
        Step::Model { .. } => "model all-MiniLM-L6-v2".to_owned(),
        Step::Grpcio { .. } => format!("gRPC {} for Python", fetch::grpcio()?.version()),
    })
}

fn found(path: &Path, tools: &Path) -> String {
    if path.starts_with(tools) {
        "already there".to_owned()
    } else {
        format!("found {}", path.display())
    }
}

fn rustup(tools: &Path, arguments: &[&str]) -> Result<String> {
    program::logged(Command::new("rustup").args(arguments), &fetch::log(tools, "rustup"))?;
    Ok(format!("rustup {}", arguments.join(" ")))
}

/// The lock of a checkout's `.tools`, and whether somebody else held it.
pub(crate) fn lock(tools: &Path) -> Result<(fs::File, bool)> {
    fs::create_dir_all(tools).with_context(|| format!("create {}", tools.display()))?;
    let path = tools.join("lock");
    let file = fs::File::create(&path).with_context(|| format!("create {}", path.display()))?;
    match file.try_lock() {
        Ok(()) => return Ok((file, false)),
        Err(fs::TryLockError::WouldBlock) => println!("another set-up of this checkout is running: waiting for it"),
        Err(fs::TryLockError::Error(error)) => bail!("cannot lock {}: {error}", path.display()),
    }
    file.lock().with_context(|| format!("cannot lock {}", path.display()))?;
    Ok((file, true))
}
