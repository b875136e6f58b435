//! The JSON Schemas under `schema/`, made from the types. `UPDATE_SCHEMA=1 cargo test -p kilocard-policy` writes them.

use std::path::Path;

use schemars::{JsonSchema, schema_for};
use serde_json::{Value, json};

use crate::config::{Kind, MeshPolicy, RoutingPolicy, ValidationPolicy};

fn document_schema(kind: Kind, spec: Value) -> Value {
    let mut spec = spec;
    let definitions = spec.as_object_mut().and_then(|spec| {
        spec.remove("$schema");
        spec.remove("$defs")
    });
    let mut schema = json!({
        "$schema": "https://json-schema.org/draft/2020-12/schema",
        "title": kind.as_str(),
        "type": "object",
        "additionalProperties": false,
        "required": ["api_version", "kind", "metadata", "spec"],
        "properties": {
            "api_version": {"const": crate::API_VERSION},
            "kind": {"const": kind.as_str()},
            "metadata": {
                "type": "object",
                "additionalProperties": false,
                "required": ["name"],
                "properties": {"name": {"type": "string", "pattern": "^[a-z0-9][a-z0-9._-]{0,62}$"}},
            },
            "spec": spec,
        },
    });
    if let Some(definitions) = definitions {
        schema["$defs"] = definitions;
    }
    schema
}

fn spec_schema<T: JsonSchema>() -> Value {
    schema_for!(T).to_value()
}

fn schema_of(kind: Kind) -> Value {
    match kind {
        Kind::RoutingPolicy => document_schema(kind, spec_schema::<RoutingPolicy>()),
        Kind::ValidationPolicy => document_schema(kind, spec_schema::<ValidationPolicy>()),
        Kind::MeshPolicy => document_schema(kind, spec_schema::<MeshPolicy>()),
    }
}

#[test]
#[allow(
    clippy::disallowed_methods,
    reason = "a test, natively: the variable asks for the files to be written"
)]
fn the_schemas_in_the_repository_are_those_of_the_types() {
    let update = std::env::var("UPDATE_SCHEMA").is_ok();
    for kind in Kind::ALL {
        let path = Path::new(env!("CARGO_MANIFEST_DIR")).join(format!("schema/{kind}.json"));
        let mut made = serde_json::to_string_pretty(&schema_of(*kind)).unwrap();
        made.push('\n');
        if update {
            std::fs::write(&path, &made).unwrap();
        }
        let kept = std::fs::read_to_string(&path).unwrap_or_default();
        assert_eq!(
            kept,
            made,
            "{} has drifted: UPDATE_SCHEMA=1 cargo test -p kilocard-policy",
            path.display()
        );
    }
}

#[test]
fn a_schema_requires_what_the_reader_requires() {
    let spec = &schema_of(Kind::RoutingPolicy)["properties"]["spec"];
    assert_eq!(spec["required"], json!(["model", "versions"]));
    assert_eq!(spec["additionalProperties"], json!(false));
    let spec = &schema_of(Kind::ValidationPolicy)["properties"]["spec"];
    assert_eq!(spec.get("required"), None);
}

/// Follows the defaults that a schema states, and compares them with what the reader fills in.
#[test]
fn the_defaults_in_a_schema_are_those_of_the_reader() {
    let limits = &schema_of(Kind::ValidationPolicy)["$defs"]["HeaderLimits"]["properties"];
    let stated = json!({
        "max_header_value_bytes": limits["max_header_value_bytes"]["default"],
        "max_headers": limits["max_headers"]["default"],
        "max_headers_total_bytes": limits["max_headers_total_bytes"]["default"],
    });
    assert_eq!(
        stated,
        serde_json::to_value(crate::config::HeaderLimits::default()).unwrap()
    );
    let spec = &schema_of(Kind::RoutingPolicy)["properties"]["spec"]["properties"];
    assert_eq!(
        (&spec["default"]["default"], &spec["canary_override"]["default"]),
        (&json!(false), &json!([]))
    );
    // The salt's default is the document's name, which a schema cannot say.
    assert_eq!(spec["salt"].get("default"), None);
}
