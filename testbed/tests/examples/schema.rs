//! Checks a resource against the schema of its kind as an API server does, unknown fields refused: the structural schema of a
//! CustomResourceDefinition (Kubernetes, "Specifying a structural schema"). Rules in CEL (`x-kubernetes-validations`), formats
//! and patterns are not looked at.

use anyhow::{Context, Result};
use serde_json::Value;
use std::fs;
use std::path::Path;

/// All definitions in the YAML files of a folder.
pub(crate) fn read_definitions(folder: &Path) -> Result<Vec<Value>> {
    let mut definitions = Vec::new();
    for entry in fs::read_dir(folder).with_context(|| format!("read {}", folder.display()))? {
        let path = entry?.path();
        if path.extension().is_some_and(|extension| extension == "yaml") {
            let text = fs::read_to_string(&path)?;
            let all = documents(&text).with_context(|| format!("read {}", path.display()))?;
            definitions.extend(all.into_iter().filter(|one| one["kind"] == "CustomResourceDefinition"));
        }
    }
    Ok(definitions)
}

/// The documents of a YAML file that are not empty.
pub(crate) fn documents(text: &str) -> Result<Vec<Value>> {
    let mut documents = Vec::new();
    for document in serde_norway::Deserializer::from_str(text) {
        let document: Value = serde::Deserialize::deserialize(document)?;
        if !document.is_null() {
            documents.push(document);
        }
    }
    Ok(documents)
}

/// The schema of a resource's kind and version.
pub(crate) fn schema_of<'d>(definitions: &'d [Value], resource: &Value) -> Option<&'d Value> {
    let (group, version) = resource["apiVersion"].as_str()?.split_once('/')?;
    let definition = definitions
        .iter()
        .map(|definition| &definition["spec"])
        .find(|spec| spec["group"] == group && spec["names"]["kind"] == resource["kind"])?;
    let versions = definition["versions"].as_array()?;
    let found = versions.iter().find(|candidate| candidate["name"] == version)?;
    found.pointer("/schema/openAPIV3Schema")
}

/// Everything that is wrong with a resource.
pub(crate) fn violations(schema: &Value, resource: &Value) -> Vec<String> {
    let mut out = Vec::new();
    let mut resource = resource.clone();
    // These are the API server's own; a definition only mentions them.
    if let Some(fields) = resource.as_object_mut() {
        fields.retain(|name, _| !matches!(name.as_str(), "apiVersion" | "kind" | "metadata"));
    }
    check(schema, &resource, "", &mut out);
    out
}

fn check(schema: &Value, value: &Value, path: &str, out: &mut Vec<String>) {
    if !has_type(schema, value) {
        out.push(format!(
            "{path}: is not of type {}",
            schema["type"].as_str().unwrap_or("integer or string")
        ));
        return;
    }
    if schema["enum"]
        .as_array()
        .is_some_and(|allowed| !allowed.contains(value))
    {
        out.push(format!("{path}: {value} is none of {}", schema["enum"]));
    }
    for (name, field) in value.as_object().into_iter().flatten() {
        let path = format!("{path}.{name}");
        match (&schema["properties"][name], &schema["additionalProperties"]) {
            (known @ Value::Object(_), _) => check(known, field, &path, out),
            (_, more @ Value::Object(_)) => check(more, field, &path, out),
            _ if schema["x-kubernetes-preserve-unknown-fields"] == true => {}
            _ => out.push(format!("{path}: unknown field")),
        }
    }
    for (index, item) in value.as_array().into_iter().flatten().enumerate() {
        check(&schema["items"], item, &format!("{path}[{index}]"), out);
    }
    check_presence(schema, value, path, out);
}

fn has_type(schema: &Value, value: &Value) -> bool {
    if schema["x-kubernetes-int-or-string"] == true {
        return value.is_i64() || value.is_string();
    }
    match schema["type"].as_str() {
        Some("object") => value.is_object(),
        Some("array") => value.is_array(),
        Some("string") => value.is_string(),
        Some("integer") => value.is_i64() || value.is_u64(),
        Some("number") => value.is_number(),
        Some("boolean") => value.is_boolean(),
        _ => true,
    }
}

/// `required`, the length of lists, and the combinations of `required` that Istio's schemas have.
fn check_presence(schema: &Value, value: &Value, path: &str, out: &mut Vec<String>) {
    let list = |name: &str| schema[name].as_array().map_or(&[][..], Vec::as_slice);
    for name in list("required").iter().filter_map(Value::as_str) {
        if value.is_object() && value.get(name).is_none() {
            out.push(format!("{path}: lacks {name}"));
        }
    }
    if let (Some(items), Some(most)) = (value.as_array(), schema["maxItems"].as_u64())
        && items.len() as u64 > most
    {
        out.push(format!("{path}: has more than {most} items"));
    }
    let holds = |schema: &Value| {
        let mut found = Vec::new();
        check_presence(schema, value, path, &mut found);
        found.is_empty()
    };
    if !list("allOf").iter().all(holds) {
        out.push(format!("{path}: does not fit all of {}", schema["allOf"]));
    }
    if !list("anyOf").is_empty() && !list("anyOf").iter().any(holds) {
        out.push(format!("{path}: fits none of {}", schema["anyOf"]));
    }
    if !list("oneOf").is_empty() && list("oneOf").iter().filter(|one| holds(one)).count() != 1 {
        out.push(format!("{path}: does not fit exactly one of {}", schema["oneOf"]));
    }
    if schema["not"].is_object() && holds(&schema["not"]) {
        out.push(format!("{path}: must not be {}", schema["not"]));
    }
}

#[test]
fn what_an_api_server_would_refuse_is_found() {
    use serde_json::json;

    let schema = json!({"type": "object", "properties": {"spec": {
        "type": "object",
        "required": ["url"],
        "properties": {
            "url": {"type": "string"},
            "strategy": {"type": "string", "enum": ["A", "B"]},
            "config": {"type": "object", "x-kubernetes-preserve-unknown-fields": true},
            "labels": {"type": "object", "additionalProperties": {"type": "string"}},
            "ports": {"type": "array", "maxItems": 1, "items": {"x-kubernetes-int-or-string": true}},
        },
        "oneOf": [{"not": {"anyOf": [{"required": ["ports"]}]}}, {"required": ["ports"]}],
    }}});
    let found = |spec: Value| {
        violations(
            &schema,
            &json!({"apiVersion": "a/v1", "kind": "K", "metadata": {}, "spec": spec}),
        )
    };
    let good = json!({"url": "u", "strategy": "A", "config": {"any": [1]}, "labels": {"a": "b"}, "ports": [1]});
    assert_eq!(found(good), Vec::<String>::new());
    for (bad, told) in [
        (json!({}), ".spec: lacks url"),
        (json!({"url": 1}), ".spec.url: is not of type string"),
        (json!({"url": "u", "uri": "u"}), ".spec.uri: unknown field"),
        (
            json!({"url": "u", "strategy": "C"}),
            ".spec.strategy: \"C\" is none of [\"A\",\"B\"]",
        ),
        (
            json!({"url": "u", "labels": {"a": 1}}),
            ".spec.labels.a: is not of type string",
        ),
        (
            json!({"url": "u", "ports": [true]}),
            ".spec.ports[0]: is not of type integer or string",
        ),
        (
            json!({"url": "u", "ports": [1, 2]}),
            ".spec.ports: has more than 1 items",
        ),
    ] {
        assert_eq!(found(bad), [told]);
    }
}
