//! `runtime`: values of Envoy's runtime, which proxies take without a new listener or cluster.

use std::collections::BTreeMap;

use serde::Serialize;
use serde_json::Number;

use crate::config::limits::{MAX_RUNTIME_KEY_BYTES, MAX_RUNTIME_KEYS, MAX_RUNTIME_TEXT_BYTES};
use crate::config::reader::Node;
use crate::config::violation::{Violations, quote};

/// Runtime keys and their values.
pub type Runtime = BTreeMap<String, RuntimeValue>;

/// A value of Envoy's runtime: a feature flag, a number or percentage, or a text.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
#[cfg_attr(test, derive(schemars::JsonSchema))]
#[serde(untagged)]
pub enum RuntimeValue {
    /// A flag.
    Flag(bool),
    /// A number.
    Number(#[cfg_attr(test, schemars(with = "f64"))] Number),
    /// A text.
    Text(#[cfg_attr(test, schemars(length(max = 1024)))] String),
}

pub(super) fn read(node: &Node<'_>, out: &mut Violations) -> Option<Runtime> {
    let entries = node.entries(out)?;
    if entries.len() > MAX_RUNTIME_KEYS {
        let message = format!("has {} keys; {MAX_RUNTIME_KEYS} are allowed", entries.len());
        out.add(node.path(), message);
        return None;
    }
    let count = entries.len();
    let read: Runtime = entries
        .into_iter()
        .filter_map(|(key, value)| {
            let known = is_key(key);
            if !known {
                let message = format!(
                    "{} is not a runtime key: words of a-z, A-Z, 0-9, `_` and `-` with single dots between them, at most \
                     {MAX_RUNTIME_KEY_BYTES} bytes",
                    quote(key)
                );
                out.add(value.path(), message);
            }
            let value = read_value(&value, out);
            known.then_some(())?;
            Some((key.to_owned(), value?))
        })
        .collect();
    (read.len() == count).then_some(read)
}

fn read_value(node: &Node<'_>, out: &mut Violations) -> Option<RuntimeValue> {
    use serde_json::Value;
    match node.value() {
        Value::Bool(flag) => Some(RuntimeValue::Flag(*flag)),
        Value::Number(number) => Some(RuntimeValue::Number(number.clone())),
        Value::String(text) if text.len() <= MAX_RUNTIME_TEXT_BYTES => Some(RuntimeValue::Text(text.clone())),
        Value::String(text) => {
            let message = format!("has {} bytes; {MAX_RUNTIME_TEXT_BYTES} are allowed", text.len());
            out.add(node.path(), message);
            None
        }
        _ => {
            node.wrong_type("true, false, a number or a string", out);
            None
        }
    }
}

/// As Envoy's own keys are: `upstream.healthy_panic_threshold`.
fn is_key(key: &str) -> bool {
    let word = |word: &str| {
        let rest = word
            .bytes()
            .all(|byte| byte.is_ascii_alphanumeric() || matches!(byte, b'_' | b'-'));
        !word.is_empty() && rest
    };
    key.len() <= MAX_RUNTIME_KEY_BYTES && key.split('.').all(word)
}
