//! Every input of the fuzz corpus, against the very laws that the fuzz targets check: what was found once, or is needed to
//! reach a place in the code, is tried by every `cargo test`. `cargo xtask fuzz` looks for more.

use std::collections::BTreeSet;
use std::fs;
use std::panic::{AssertUnwindSafe, catch_unwind};
use std::path::{Path, PathBuf};

#[path = "../fuzz/src/lib.rs"]
#[allow(unreachable_pub)]
mod targets;

/// Of the whole corpus: it is checked in.
const MOST_BYTES: u64 = 500_000;

fn files(folder: &Path) -> BTreeSet<PathBuf> {
    fs::read_dir(folder)
        .unwrap_or_else(|error| panic!("list {}: {error}", folder.display()))
        .map(|entry| entry.unwrap().path())
        .collect()
}

fn corpus() -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join("fuzz/corpus")
}

#[test]
fn no_input_of_the_corpus_breaks_a_law() {
    let mut broken = Vec::new();
    for (name, run) in targets::ALL {
        let inputs = files(&corpus().join(name));
        assert!(!inputs.is_empty(), "{name} has no corpus: cargo xtask fuzz {name}");
        for path in inputs {
            let input = fs::read(&path).unwrap();
            if catch_unwind(AssertUnwindSafe(|| run(&input))).is_err() {
                broken.push(path.display().to_string());
            }
        }
    }
    assert!(
        broken.is_empty(),
        "these inputs break a law, as told above:\n{}",
        broken.join("\n")
    );
}

#[test]
fn every_folder_of_the_corpus_belongs_to_a_target_and_all_are_small() {
    let known: BTreeSet<_> = targets::ALL.iter().map(|(name, _)| corpus().join(name)).collect();
    assert_eq!(files(&corpus()), known);
    let inputs = known.iter().flat_map(|folder| files(folder));
    let bytes: u64 = inputs.map(|path| fs::metadata(path).unwrap().len()).sum();
    assert!(
        bytes < MOST_BYTES,
        "the corpus has {bytes} bytes; fuzz again, which minimises it"
    );
}

#[test]
fn every_target_is_fuzzed() {
    let sources = Path::new(env!("CARGO_MANIFEST_DIR")).join("fuzz/fuzz_targets");
    let fuzzed: BTreeSet<_> = files(&sources);
    let known: BTreeSet<_> = targets::ALL
        .iter()
        .map(|(name, _)| sources.join(format!("{name}.rs")))
        .collect();
    assert_eq!(fuzzed, known);
}
