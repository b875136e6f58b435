//! The laws of the fuzz target, on every input of its corpus and on random ones.

use proptest::prelude::*;
use std::path::Path;
use targets::conversation;

#[path = "../fuzz/src/lib.rs"]
#[allow(unreachable_pub, missing_docs)]
mod targets;

#[test]
fn every_input_of_the_corpus_keeps_the_laws() {
    let corpus = Path::new(env!("CARGO_MANIFEST_DIR")).join("fuzz/corpus/xds");
    let mut inputs = 0;
    for entry in std::fs::read_dir(corpus).expect("a corpus") {
        let input = std::fs::read(entry.expect("an input").path()).expect("an input");
        conversation::run(&input);
        inputs += 1;
    }
    assert!(inputs > 0, "the corpus is empty");
}

proptest! {
    #![proptest_config(ProptestConfig { cases: 3000, ..ProptestConfig::default() })]

    #[test]
    fn messages_that_are_late_reordered_refused_or_nonsense_break_no_law(input in prop::collection::vec(any::<u8>(), 0..400)) {
        conversation::run(&input);
    }
}
