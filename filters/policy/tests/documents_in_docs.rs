//! The documents shown in `docs/policies.md` are documents: each is valid, and all of them are together.

use std::path::Path;

use kilocard_policy::Policy;
use kilocard_policy::config::{Document, Kind, parse};

/// The YAML blocks of a page that are documents.
fn documents(page: &str) -> Vec<&str> {
    let blocks = page.split("```yaml\n").skip(1);
    let blocks = blocks.map(|rest| rest.split("\n```").next().unwrap_or_default());
    blocks.filter(|block| block.contains("kind:")).collect()
}

fn read(yaml: &str) -> Document {
    let json = serde_norway::from_str(yaml).unwrap_or_else(|error| panic!("{error} in:\n{yaml}"));
    parse(&json).unwrap_or_else(|violations| panic!("{violations:#?} in:\n{yaml}"))
}

#[test]
fn the_documents_of_the_manual_are_valid_alone_and_together() {
    let path = Path::new(env!("CARGO_MANIFEST_DIR")).join("../../docs/policies.md");
    let page = std::fs::read_to_string(path).unwrap();
    let documents: Vec<_> = documents(&page).into_iter().map(read).collect();
    for kind in Kind::ALL {
        assert!(
            documents.iter().any(|document| document.kind() == *kind),
            "no example of {kind}"
        );
    }
    if let Err(violations) = Policy::compile("docs", &documents) {
        panic!("{violations:#?}");
    }
}

/// Every field of a schema is in the manual, by its name.
#[test]
fn every_field_of_the_schemas_is_in_the_manual() {
    let root = Path::new(env!("CARGO_MANIFEST_DIR"));
    let page = std::fs::read_to_string(root.join("../../docs/policies.md")).unwrap();
    let mut missing = Vec::new();
    for kind in Kind::ALL {
        let schema = std::fs::read_to_string(root.join(format!("schema/{kind}.json"))).unwrap();
        let schema: serde_json::Value = serde_json::from_str(&schema).unwrap();
        let section = page.split(&format!("\n## {kind}\n")).nth(1).unwrap_or_default();
        let section = section.split("\n## ").next().unwrap_or_default();
        let spec = &schema["properties"]["spec"];
        let objects = schema["$defs"]
            .as_object()
            .into_iter()
            .flat_map(|defs| defs.values())
            .chain([spec]);
        for name in objects
            .filter_map(|object| object["properties"].as_object())
            .flat_map(|fields| fields.keys())
        {
            if !section.contains(name.as_str()) {
                missing.push(format!("{kind}: {name}"));
            }
        }
    }
    assert!(missing.is_empty(), "{missing:?}");
}
