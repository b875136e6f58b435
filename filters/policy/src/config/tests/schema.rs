//! The JSON Schemas under `schema/`, made from the types. `UPDATE_SCHEMA=1 cargo test -p kilocard-policy` writes them.

use std::path::Path;

use schemars::{JsonSchema, schema_for};
use serde_json::{Value, json};

pub(super) use self::validator::accepts;
use crate::config::{
    AdmissionPolicy, Kind, MeshPolicy, PoolPolicy, RateLimitPolicy, RoutingPolicy, ScalePolicy, TimeoutPolicy,
    ValidationPolicy, WeightPolicy,
};

mod validator;

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

pub(super) fn schema_of(kind: Kind) -> Value {
    match kind {
        Kind::RoutingPolicy => document_schema(kind, spec_schema::<RoutingPolicy>()),
        Kind::ValidationPolicy => document_schema(kind, spec_schema::<ValidationPolicy>()),
        Kind::MeshPolicy => document_schema(kind, spec_schema::<MeshPolicy>()),
        Kind::PoolPolicy => document_schema(kind, spec_schema::<PoolPolicy>()),
        Kind::WeightPolicy => document_schema(kind, spec_schema::<WeightPolicy>()),
        Kind::RateLimitPolicy => document_schema(kind, spec_schema::<RateLimitPolicy>()),
        Kind::AdmissionPolicy => document_schema(kind, spec_schema::<AdmissionPolicy>()),
        Kind::ScalePolicy => document_schema(kind, spec_schema::<ScalePolicy>()),
        Kind::TimeoutPolicy => document_schema(kind, spec_schema::<TimeoutPolicy>()),
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
    for kind in [
        Kind::ValidationPolicy,
        Kind::MeshPolicy,
        Kind::PoolPolicy,
        Kind::WeightPolicy,
    ] {
        let spec = &schema_of(kind)["properties"]["spec"];
        assert_eq!(spec.get("required"), None);
    }
}

/// What a schema can say, it says: an editor tells the slip before `kilocard apply` does.
#[test]
fn a_schema_refuses_what_it_can() {
    let cases = [
        (Kind::RoutingPolicy, json!({"model": "m"})),
        (
            Kind::RoutingPolicy,
            json!({"model": "m", "versions": [{"version": "v1.", "weight": 100}]}),
        ),
        (
            Kind::RoutingPolicy,
            json!({"model": "m", "versions": [{"version": "v1", "weight": 101}]}),
        ),
        (
            Kind::RoutingPolicy,
            json!({"model": "m", "versions": [{"version": "v1", "weight": 100}], "gpu": null}),
        ),
        (
            Kind::RoutingPolicy,
            json!({"model": "m", "versions": [{"version": "v1", "weight": 100}], "rules": [{"name": "r", "match": {"tenants": ["t"]}}]}),
        ),
        (
            Kind::ValidationPolicy,
            json!({"rules": [{"name": "r", "header": "x-a"}]}),
        ),
        (
            Kind::ValidationPolicy,
            json!({"rules": [{"name": "r", "header": "x-a", "required": false}]}),
        ),
        (Kind::ValidationPolicy, json!({"report_only": ["MODEL_NOT_FOUND"]})),
        (Kind::ValidationPolicy, json!({"refusal": {"status": "NOT_FOUND"}})),
        (Kind::ValidationPolicy, json!({"methods": {"deny": ["/a"]}})),
        (Kind::MeshPolicy, json!({"callers": [{"name": "a"}]})),
        (
            Kind::MeshPolicy,
            json!({"callers": [{"name": "anyone", "addresses": ["::1"]}]}),
        ),
        (Kind::MeshPolicy, json!({"gpu_classes": [{"name": "a", "select": {}}]})),
        (Kind::MeshPolicy, json!({"capture": {}})),
        (Kind::MeshPolicy, json!({"captures": {"percent": 1}})),
        (Kind::PoolPolicy, json!({"match": {}})),
        (Kind::PoolPolicy, json!({"match": {"priorities": ["P3"]}})),
        (
            Kind::PoolPolicy,
            json!({"match": {"sla": ["gold"]}, "limits": {"max_requests": 0}}),
        ),
        (Kind::WeightPolicy, json!({"memory": {"floor_percent": 96}})),
        (Kind::WeightPolicy, json!({"cards": [{"product": "L4"}]})),
        (Kind::ScalePolicy, json!({"model": "m", "max_replicas": 4})),
        (
            Kind::ScalePolicy,
            json!({"model": "m", "max_replicas": 4, "targets": {}}),
        ),
        (
            Kind::ScalePolicy,
            json!({"model": "m", "max_replicas": 10_001, "targets": {"qps_per_replica": 50}}),
        ),
        (
            Kind::ScalePolicy,
            json!({"model": "m", "max_replicas": 4, "targets": {"memory_percent": 101}}),
        ),
        (
            Kind::ScalePolicy,
            json!({"model": "m", "max_replicas": 4, "targets": {"qps_per_replica": 0}}),
        ),
    ];
    for (kind, spec) in cases {
        let document =
            json!({"api_version": "kilocard/v1", "kind": kind.as_str(), "metadata": {"name": "d"}, "spec": spec});
        assert!(
            accepts(&schema_of(kind), &document).is_err(),
            "the schema takes {document}"
        );
        assert!(crate::config::parse(&document).is_err(), "the reader takes {document}");
    }
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
    assert_eq!(
        (&spec["sticky_by"]["default"], &spec["pinned_fallback"]["default"]),
        (&json!(["user"]), &json!(false))
    );
    let rule = &schema_of(Kind::ValidationPolicy)["$defs"]["HeaderRule"]["properties"];
    assert_eq!(
        (&rule["action"]["default"], &rule["match"]["default"]),
        (&json!("refuse"), &json!({"models": [], "methods": []}))
    );
    let class = &schema_of(Kind::MeshPolicy)["$defs"]["GpuClass"]["properties"];
    assert_eq!(class["otherwise"]["default"], json!("any"));
    let pool = &schema_of(Kind::PoolPolicy)["properties"]["spec"]["properties"];
    assert_eq!(
        (&pool["limits"]["default"], &pool["connections"]["default"]),
        (
            &serde_json::to_value(crate::config::PoolLimits::default()).unwrap(),
            &serde_json::to_value(crate::config::PoolConnections::default()).unwrap()
        )
    );
    let scale = &schema_of(Kind::ScalePolicy)["properties"]["spec"]["properties"];
    assert_eq!(
        (
            &scale["min_replicas"]["default"],
            &scale["tolerance_percent"]["default"]
        ),
        (&json!(1), &json!(10))
    );
    assert_eq!(
        (&scale["scale_up"]["default"], &scale["scale_down"]["default"]),
        (
            &serde_json::to_value(crate::config::ScaleUp::default()).unwrap(),
            &serde_json::to_value(crate::config::ScaleDown::default()).unwrap()
        )
    );
    // The salt's default is the document's name, which a schema cannot say.
    assert_eq!(spec["salt"].get("default"), None);
}
