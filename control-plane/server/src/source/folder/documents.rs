//! From a file's text to records as they would stand in etcd. Pure.

use kilocard_registry::layout::{DeviceId, Key, PolicyId};
use serde::Deserialize;
use std::sync::Arc;

/// A record: its key, and its JSON.
pub(super) type Record = (Key, Arc<[u8]>);

/// The records of the file at this path below the root.
///
/// # Errors
/// What is wrong, with the place in the file. Then nothing of it counts.
pub(super) fn records(path: &str, text: &str) -> Result<Vec<Record>, String> {
    let stem = path.rsplit_once('.').map_or(path, |(stem, _)| stem);
    let parts: Vec<&str> = stem.split('/').collect();
    match parts.as_slice() {
        ["policies", ..] => policies(text),
        ["workers", id] => single(text, Key::Worker((*id).to_owned())),
        ["devices", "gpu", node, pci] => {
            let id = DeviceId {
                node: (*node).to_owned(),
                pci: (*pci).to_owned(),
            };
            single(text, Key::Device(id))
        }
        _ => Err("is not where a record can be: write workers/<id>.yaml or devices/gpu/<node>/<pci>.yaml".to_owned()),
    }
}

fn single(text: &str, key: Key) -> Result<Vec<Record>, String> {
    let mut values = values(text)?;
    match (values.pop(), values.is_empty()) {
        (Some((_, value)), true) => Ok(vec![(key, to_json(&value)?)]),
        (None, _) => Err("holds no document".to_owned()),
        (Some(_), false) => Err("holds several documents; such a file holds one record".to_owned()),
    }
}

fn policies(text: &str) -> Result<Vec<Record>, String> {
    let mut records: Vec<Record> = Vec::new();
    for (number, value) in values(text)? {
        let id = policy_id(&value).ok_or_else(|| {
            format!("document {number} does not say which policy it is: it needs kind and metadata.name, without '/'")
        })?;
        let key = Key::Policy(id.clone());
        if records.iter().any(|(other, _)| *other == key) {
            return Err(format!("holds {id} twice"));
        }
        records.push((
            key,
            to_json(&value).map_err(|error| format!("document {number} {error}"))?,
        ));
    }
    Ok(records)
}

/// All documents of a text, with their numbers from 1; what stands after a last `---` is none.
fn values(text: &str) -> Result<Vec<(usize, serde_norway::Value)>, String> {
    let mut values = Vec::new();
    for (index, part) in serde_norway::Deserializer::from_str(text).enumerate() {
        // By way of a YAML value, because a JSON value would silently keep the last of two equal keys.
        match serde_norway::Value::deserialize(part) {
            Ok(serde_norway::Value::Null) => {}
            Ok(value) => values.push((index + 1, value)),
            Err(error) => return Err(yaml_error(index + 1, &error)),
        }
    }
    Ok(values)
}

fn yaml_error(number: usize, error: &serde_norway::Error) -> String {
    let message = error.to_string();
    match error.location() {
        Some(at) if !message.contains("line") => {
            let (line, column) = (at.line(), at.column());
            format!("is not YAML in document {number}: {message} at line {line} column {column}")
        }
        _ => format!("is not YAML in document {number}: {message}"),
    }
}

fn policy_id(value: &serde_norway::Value) -> Option<PolicyId> {
    let usable = |text: &&str| !text.is_empty() && !text.contains('/');
    let kind = value.get("kind")?.as_str().filter(usable)?;
    let name = value.get("metadata")?.get("name")?.as_str().filter(usable)?;
    Some(PolicyId::new(kind, name))
}

fn to_json(value: &serde_norway::Value) -> Result<Arc<[u8]>, String> {
    let json = serde_json::to_vec(value).map_err(|error| format!("has a part that JSON cannot hold: {error}"))?;
    Ok(json.into())
}

#[cfg(test)]
mod tests {
    use super::*;

    fn keys(path: &str, text: &str) -> Vec<String> {
        let layout = kilocard_registry::layout::Layout::default();
        let records = records(path, text).unwrap();
        records.iter().map(|(key, _)| layout.key(key)).collect()
    }

    #[test]
    fn a_file_of_policies_may_hold_several_and_be_called_anything() {
        let text = "kind: A\nmetadata: {name: x}\n---\nkind: B\nmetadata: {name: y}\n---\n# nothing\n";
        assert_eq!(
            keys("policies/all.yaml", text),
            ["/kilocard/v1/policies/A/x", "/kilocard/v1/policies/B/y"]
        );
        assert!(keys("policies/deep/er/empty.yaml", "").is_empty());
    }

    #[test]
    fn a_records_file_is_called_by_its_key() {
        assert_eq!(keys("workers/w-1.json", "{}"), ["/kilocard/v1/workers/w-1"]);
        assert_eq!(
            keys("devices/gpu/n1/0000:3b:00.0.yaml", "memory_gb: 80"),
            ["/kilocard/v1/devices/gpu/n1/0000:3b:00.0"]
        );
    }

    #[test]
    fn what_is_wrong_with_a_file_is_told_with_its_place() {
        for (path, text, told) in [
            (
                "policies/a.yaml",
                "kind: A\nmetadata: {name: x}\n---\nkind: [",
                "document 2",
            ),
            ("policies/a.yaml", "kind: A\nkind: B\n", "duplicate"),
            (
                "policies/a.yaml",
                "kind: A\n",
                "document 1 does not say which policy it is",
            ),
            ("policies/a.yaml", "kind: A\nmetadata: {name: a/b}\n", "without '/'"),
            (
                "policies/a.yaml",
                "{kind: A, metadata: {name: x}}\n---\n{kind: A, metadata: {name: x}}\n",
                "holds A/x twice",
            ),
            ("workers/w.yaml", "", "holds no document"),
            ("workers/w.yaml", "{}\n---\n{}\n", "several documents"),
            ("workers/zone/w.yaml", "{}", "is not where a record can be"),
        ] {
            let error = records(path, text).unwrap_err();
            assert!(error.contains(told), "{path}: {error}");
        }
    }
}
