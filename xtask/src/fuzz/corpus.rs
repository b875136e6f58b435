//! The corpus in the checkout: small, and the same coverage as all that was found.
//!
//! libFuzzer names an input by its hash. A file with any other name was put there by a person, or ended a target once; it
//! stays whatever it covers.

use std::collections::BTreeSet;
use std::fs;
use std::path::{Path, PathBuf};
use std::process::Command;

use anyhow::{Context, Result};

use super::Target;
use crate::program;

/// Copies an input that ended a target into the corpus, under the name that libFuzzer gave it (`crash-…`, `timeout-…`).
pub(super) fn keep(corpus: &Path, input: &Path) -> Result<PathBuf> {
    let to = corpus.join(input.file_name().context("an input without a name")?);
    fs::copy(input, &to).with_context(|| format!("copy {} to {}", input.display(), to.display()))?;
    Ok(to)
}

/// Replaces the inputs of the corpus by the smallest ones that reach the same edges as all that was found; what was found
/// and is not needed for that is kept in the target folder, for the next run to begin with.
pub(super) fn minimise(target: &Target) -> Result<()> {
    let fresh = target.work.join("minimised");
    if fresh.exists() {
        fs::remove_dir_all(&fresh).with_context(|| format!("remove {}", fresh.display()))?;
    }
    fs::create_dir_all(&fresh).with_context(|| format!("create {}", fresh.display()))?;
    let mut command = Command::new(&target.program);
    // How often an edge is taken guides the search; for what the tests replay, that it is taken is enough.
    command.args(["-set_cover_merge=1", "-use_counters=0"]);
    command.arg(&fresh).arg(&target.corpus).arg(target.work.join("corpus"));
    program::logged(&mut command, &target.work.join("log-merge"))?;
    replace(&target.corpus, &fresh)
}

fn replace(corpus: &Path, fresh: &Path) -> Result<()> {
    let wanted = names(fresh)?;
    let there = names(corpus)?;
    for name in there.difference(&wanted).filter(|name| is_hash(name)) {
        fs::remove_file(corpus.join(name)).with_context(|| format!("remove {name} from {}", corpus.display()))?;
    }
    let mut by_hand = BTreeSet::new();
    for name in there.iter().filter(|name| !is_hash(name)) {
        by_hand.insert(fs::read(corpus.join(name)).with_context(|| format!("read {name}"))?);
    }
    for name in wanted.difference(&there) {
        let input = fs::read(fresh.join(name)).with_context(|| format!("read {name}"))?;
        if !by_hand.contains(&input) {
            fs::write(corpus.join(name), input).with_context(|| format!("write {name} to {}", corpus.display()))?;
        }
    }
    Ok(())
}

/// How many inputs the corpus has, and how many bytes they are together.
pub(super) fn size(corpus: &Path) -> Result<(usize, u64)> {
    let names = names(corpus)?;
    let mut bytes = 0;
    for name in &names {
        let file = corpus.join(name);
        bytes += fs::metadata(&file)
            .with_context(|| format!("look at {}", file.display()))?
            .len();
    }
    Ok((names.len(), bytes))
}

/// SHA-1 in hexadecimal.
fn is_hash(name: &str) -> bool {
    name.len() == 40 && name.bytes().all(|byte| byte.is_ascii_hexdigit())
}

fn names(folder: &Path) -> Result<BTreeSet<String>> {
    let list = || format!("list {}", folder.display());
    let mut names = BTreeSet::new();
    for entry in fs::read_dir(folder).with_context(list)? {
        names.insert(entry.with_context(list)?.file_name().to_string_lossy().into_owned());
    }
    Ok(names)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn folder(files: &[(&str, &str)]) -> tempfile::TempDir {
        let folder = tempfile::tempdir().unwrap();
        for (name, text) in files {
            fs::write(folder.path().join(name), text).unwrap();
        }
        folder
    }

    #[test]
    fn a_smaller_corpus_replaces_the_old_one_and_leaves_what_has_a_name() {
        let [old, still, new, seed] = ["0a", "1b", "2c", "3d"].map(|two| two.repeat(20));
        let corpus = folder(&[
            (&old, "old"),
            (&still, "still"),
            ("stock-client", "seed"),
            ("crash-1b", "ended it"),
        ]);
        let fresh = folder(&[(&still, "still"), (&new, "new"), (&seed, "seed")]);
        replace(corpus.path(), fresh.path()).unwrap();
        let left: Vec<_> = names(corpus.path()).unwrap().into_iter().collect();
        assert_eq!(left, [still.as_str(), &new, "crash-1b", "stock-client"]);
        assert_eq!(size(corpus.path()).unwrap(), (4, 20));
    }

    #[test]
    fn an_input_that_ended_a_target_keeps_its_name() {
        let artifacts = folder(&[("timeout-77", "slow")]);
        let corpus = folder(&[]);
        let kept = keep(corpus.path(), &artifacts.path().join("timeout-77")).unwrap();
        assert_eq!(fs::read_to_string(kept).unwrap(), "slow");
    }
}
