//! The parser of policy documents and of the filter's configuration.

use kilocard_policy::Policy;
use kilocard_policy::config::{self, Document, FilterConfig, Violation};

/// As many bytes as a violation may have: the longest lists 64 names.
const LONGEST_TEXT: usize = 8192;

/// Whatever the bytes are: what is refused is refused with a reason that can be printed; what is accepted is written in its
/// canonical form, which is accepted too, means the same, and is its own canonical form.
pub fn run(data: &[u8]) {
    match config::parse_bytes(data) {
        Ok(document) => {
            check_document(&document);
            compile("alone", std::slice::from_ref(&document));
        }
        Err(violations) => check_violations(&violations),
    }
    match FilterConfig::parse(data) {
        Ok(config) => {
            let written = serde_json::to_vec(&config).expect("a configuration can be written");
            let again = FilterConfig::parse(&written).expect("what was written can be read");
            assert_eq!(again, config, "the canonical form means something else");
            config.documents.iter().for_each(check_document);
            compile(&config.revision, &config.documents);
        }
        Err(violations) => check_violations(&violations),
    }
}

fn check_document(document: &Document) {
    let written = serde_json::to_vec(document).expect("a document can be written");
    let again = match config::parse_bytes(&written) {
        Ok(again) => again,
        Err(violations) => panic!(
            "the canonical form is refused: {violations:?}\n{}",
            String::from_utf8_lossy(&written)
        ),
    };
    assert_eq!(&again, document, "the canonical form means something else");
    let twice = serde_json::to_vec(&again).expect("a document can be written");
    assert_eq!(twice, written, "the canonical form has another one");
}

fn compile(revision: &str, documents: &[Document]) {
    match Policy::compile(revision, documents) {
        Ok(policy) => assert_eq!(policy.revision(), revision),
        Err(violations) => check_violations(&violations),
    }
}

/// At least one, not endlessly many, and fit for a log.
pub(crate) fn check_violations(violations: &[Violation]) {
    // 64, and how many more there are.
    assert!((1..=65).contains(&violations.len()), "{} violations", violations.len());
    for violation in violations {
        let text = violation.to_string();
        assert!(!violation.message.is_empty(), "no message at {}", violation.path);
        assert!(!text.chars().any(char::is_control), "control characters in {text:?}");
        assert!(text.len() < LONGEST_TEXT, "a violation of {} bytes", text.len());
    }
}
