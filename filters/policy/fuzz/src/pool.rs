//! The documents that requests are decided by: the named ones of the policy parser's corpus.

use std::collections::BTreeSet;
use std::sync::OnceLock;

use kilocard_policy::Policy;
use kilocard_policy::config::{self, Document};
use serde_json::Value;

const TEXTS: &[&str] = &[
    include_str!("../corpus/policy/mesh.json"),
    include_str!("../corpus/policy/validation.json"),
    include_str!("../corpus/policy/routing-three.json"),
    include_str!("../corpus/policy/routing-two.json"),
    include_str!("../corpus/policy/pool.json"),
];

/// The documents, as JSON.
pub(crate) fn documents() -> &'static [Value] {
    static DOCUMENTS: OnceLock<Vec<Value>> = OnceLock::new();
    DOCUMENTS.get_or_init(|| {
        TEXTS
            .iter()
            .map(|text| serde_json::from_str(text).expect("JSON"))
            .collect()
    })
}

/// The same, read.
pub(crate) fn parsed() -> &'static [Document] {
    static PARSED: OnceLock<Vec<Document>> = OnceLock::new();
    let parse = |value| config::parse(value).unwrap_or_else(|violations| panic!("{violations:?}"));
    PARSED.get_or_init(|| documents().iter().map(parse).collect())
}

/// All of them, compiled.
pub(crate) fn rich() -> &'static Policy {
    static RICH: OnceLock<Policy> = OnceLock::new();
    RICH.get_or_init(|| compile(parsed()))
}

/// The same models, with the validation that counts where none is declared.
pub(crate) fn plain() -> &'static Policy {
    static PLAIN: OnceLock<Policy> = OnceLock::new();
    let routes = |document: &&Document| document.kind() != config::Kind::ValidationPolicy;
    PLAIN.get_or_init(|| compile(parsed().iter().filter(routes)))
}

fn compile<'d>(documents: impl IntoIterator<Item = &'d Document>) -> Policy {
    Policy::compile("pool-1", documents).unwrap_or_else(|violations| panic!("{violations:?}"))
}

/// Every text and every field's name in them.
pub(crate) fn words() -> &'static [String] {
    static WORDS: OnceLock<Vec<String>> = OnceLock::new();
    WORDS.get_or_init(|| {
        let mut words = BTreeSet::new();
        documents().iter().for_each(|document| gather(document, &mut words));
        words.into_iter().collect()
    })
}

fn gather(value: &Value, words: &mut BTreeSet<String>) {
    match value {
        Value::String(text) => {
            words.insert(text.clone());
        }
        Value::Array(elements) => elements.iter().for_each(|element| gather(element, words)),
        Value::Object(fields) => {
            words.extend(fields.keys().cloned());
            fields.values().for_each(|field| gather(field, words));
        }
        _ => {}
    }
}
