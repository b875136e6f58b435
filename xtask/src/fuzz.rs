//! `cargo xtask fuzz`: libFuzzer on the targets of `filters/policy/fuzz` and `control-plane/xds/fuzz`.
//!
//! The compiler pass that libFuzzer needs is a stable option of rustc, and the code under test has no `unsafe`, so that a
//! sanitizer (nightly only) would add little: a stable toolchain and a C++ compiler, for libFuzzer itself, are all it takes.
//! New inputs gather in the target folder; afterwards the checked-in corpus is replaced by the smallest set of inputs with
//! the same coverage. An input that ends a target is copied into the corpus, where the tests see it.

use std::collections::{BTreeMap, BTreeSet};
use std::fs;
use std::path::{Path, PathBuf};

use anyhow::{Context, Result, bail, ensure};
use clap::Args;

use crate::program;
use crate::progress::Progress;
use crate::setup::plan::{Need, Refusal};
use crate::workspace::Workspace;

mod corpus;
mod report;
mod session;

use report::Outcome;

/// The folders of fuzz targets, each a workspace of its own: libFuzzer's licence and its C++ concern nobody else.
const FOLDERS: [&str; 2] = ["filters/policy/fuzz", "control-plane/xds/fuzz"];

/// What cargo-fuzz passes too: counters at every edge of the control flow, and the operands of comparisons.
const INSTRUMENTATION: &str = "--cfg fuzzing -Cpasses=sancov-module -Cllvm-args=-sanitizer-coverage-level=4 \
    -Cllvm-args=-sanitizer-coverage-inline-8bit-counters -Cllvm-args=-sanitizer-coverage-pc-table \
    -Cllvm-args=-sanitizer-coverage-trace-compares -Cllvm-args=-simplifycfg-branch-fold-threshold=0";

/// What to fuzz, and how long.
#[derive(Debug, Args)]
pub(crate) struct Wanted {
    /// One of `--list`; all, one after another, when left out
    target: Option<String>,
    /// Say which targets there are, and end
    #[arg(long)]
    list: bool,
    /// How long each target runs
    #[arg(long, default_value_t = 600, value_parser = clap::value_parser!(u32).range(1..))]
    seconds: u32,
    /// How many processes work on a target at the same time
    #[arg(long, default_value_t = 1, value_parser = clap::value_parser!(u16).range(1..=256))]
    jobs: u16,
}

/// A built target and its folders.
struct Target {
    name: String,
    program: PathBuf,
    /// The corpus in the checkout.
    corpus: PathBuf,
    /// Everything of this target that is not in the checkout: inputs found, logs, inputs that ended it.
    work: PathBuf,
    dictionary: Option<PathBuf>,
}

/// Builds, fuzzes, minimises, and says how it went.
pub(crate) fn run(workspace: &Workspace, wanted: &Wanted) -> Result<()> {
    let folders = all_targets(&workspace.root)?;
    let known: Vec<String> = folders.keys().cloned().collect();
    let names = select(&known, wanted.target.as_deref())?;
    if wanted.list {
        println!("{}", names.join("\n"));
        return Ok(());
    }
    check_compiler()?;
    let mut progress = Progress::new(1 + names.len());
    let needed: BTreeSet<&PathBuf> = names.iter().filter_map(|name| folders.get(name)).collect();
    let mut built = PathBuf::new();
    progress.shown_step("fuzz targets", || {
        for folder in needed {
            built = build(workspace, folder)?;
        }
        Ok("cargo, with coverage".to_owned())
    })?;
    let mut outcomes = Vec::new();
    for name in names {
        let folder = folders.get(&name).context("a target has a folder")?;
        let target = Target {
            program: built.join(&name),
            corpus: folder.join("corpus").join(&name),
            work: workspace.target.join("fuzz").join("work").join(&name),
            dictionary: Some(folder.join("dictionaries").join(format!("{name}.dict"))).filter(|file| file.is_file()),
            name,
        };
        progress.step(&format!("{} for {} s", target.name, wanted.seconds), || {
            let outcome = fuzz(&target, wanted).with_context(|| format!("fuzz {}", target.name))?;
            let how = outcome.summary();
            outcomes.push(outcome);
            Ok(how)
        })?;
    }
    report::print(&outcomes);
    let found: Vec<_> = outcomes.iter().flat_map(|outcome| &outcome.found).collect();
    ensure!(
        found.is_empty(),
        "{} input(s) ended a target; they are in the corpus now, where `cargo test -p kilocard-policy --test corpus` or \
         `cargo test -p kilocard-xds --test conversations` fails on them until the cause is mended",
        found.len()
    );
    Ok(())
}

fn fuzz(target: &Target, wanted: &Wanted) -> Result<Outcome> {
    let mut outcome = session::run(target, wanted.seconds, wanted.jobs)?;
    for ended in &outcome.ended {
        outcome.found.push(corpus::keep(&target.corpus, &ended.input)?);
    }
    // An input that ends the target would end the minimiser as well; the corpus waits until the cause is mended.
    if outcome.found.is_empty() {
        corpus::minimise(target)?;
    }
    (outcome.inputs, outcome.bytes) = corpus::size(&target.corpus)?;
    Ok(outcome)
}

/// Every target with its folder. No two folders have a target of one name.
fn all_targets(root: &Path) -> Result<BTreeMap<String, PathBuf>> {
    let mut all = BTreeMap::new();
    for folder in FOLDERS {
        let folder = root.join(folder);
        for name in target_names(&folder)? {
            let other = all.insert(name.clone(), folder.clone());
            ensure!(other.is_none(), "two fuzz targets are called {name}");
        }
    }
    Ok(all)
}

/// The targets are what lies in `fuzz_targets`, as cargo-fuzz has it.
fn target_names(folder: &Path) -> Result<Vec<String>> {
    let sources = folder.join("fuzz_targets");
    let entries = fs::read_dir(&sources).with_context(|| format!("list {}", sources.display()))?;
    let mut names = Vec::new();
    for entry in entries {
        let path = entry.with_context(|| format!("list {}", sources.display()))?.path();
        if path.extension().is_some_and(|extension| extension == "rs") {
            names.extend(path.file_stem().map(|name| name.to_string_lossy().into_owned()));
        }
    }
    names.sort();
    Ok(names)
}

fn select(known: &[String], wanted: Option<&str>) -> Result<Vec<String>> {
    match wanted {
        None => Ok(known.to_vec()),
        Some(name) if known.iter().any(|known| known == name) => Ok(vec![name.to_owned()]),
        Some(name) => bail!("there is no fuzz target {name:?}; there are: {}", known.join(", ")),
    }
}

/// libFuzzer comes as C++ source.
fn check_compiler() -> Result<(), Refusal> {
    let named = std::env::var("CXX").is_ok_and(|name| !name.is_empty());
    if named || program::on_path("c++").is_some() {
        return Ok(());
    }
    Err(Refusal {
        reason: "libFuzzer is C++ and there is no compiler for it",
        needs: vec![Need {
            what: "a C++ compiler: `c++` on the PATH, or its name in CXX",
            debian: "apt-get install --no-install-recommends g++".to_owned(),
            elsewhere: "gcc-c++, clang++, or Xcode's command-line tools",
        }],
    })
}

/// Where the built programs lie. Cargo's target is named, so that build scripts and macros are not instrumented.
fn build(workspace: &Workspace, folder: &Path) -> Result<PathBuf> {
    let host = host()?;
    let into = workspace.target.join("fuzz");
    let mut command = workspace.cargo();
    command
        .args(["build", "--release", "--bins", "--target", &host])
        .arg("--manifest-path")
        .arg(folder.join("Cargo.toml"))
        .arg("--target-dir")
        .arg(&into)
        .env_remove("CARGO_ENCODED_RUSTFLAGS")
        .env("RUSTFLAGS", INSTRUMENTATION);
    program::shown(&mut command)?;
    Ok(into.join(host).join("release"))
}

fn host() -> Result<String> {
    let rustc = std::env::var_os("RUSTC").unwrap_or_else(|| "rustc".into());
    let mut command = std::process::Command::new(rustc);
    let text = program::answer(command.arg("-vV")).context("rustc -vV does not answer")?;
    let host = text.lines().find_map(|line| line.strip_prefix("host: "));
    Ok(host.context("rustc -vV names no host")?.to_owned())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_target_that_is_not_there_is_refused_with_those_that_are() {
        let known = ["decision".to_owned(), "policy".to_owned()];
        assert_eq!(select(&known, None).unwrap(), known);
        assert_eq!(select(&known, Some("policy")).unwrap(), ["policy"]);
        let error = select(&known, Some("polcy")).unwrap_err().to_string();
        assert!(error.contains("decision, policy"), "{error}");
    }

    #[test]
    fn the_checkout_has_its_targets() {
        let targets = all_targets(&Workspace::find().unwrap().root).unwrap();
        for name in ["header_map", "xds"] {
            assert!(targets.contains_key(name), "{targets:?}");
        }
    }
}
