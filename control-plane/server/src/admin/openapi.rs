//! The admin API's description (OpenAPI 3.1), made from the types that it answers with. `docs/openapi.json` is its copy for
//! readers; a test holds the two together.

use super::Released;
use super::problem::Problem;
use kilocard_registry::device_report::DevicesReport;
use kilocard_registry::report::MeshReport;
use schemars::generate::SchemaSettings;
use schemars::{JsonSchema, SchemaGenerator};
use serde_json::{Value, json};

const JSON: &str = "application/json";

/// The description.
pub fn document() -> Value {
    // OpenAPI 3.1 takes JSON Schema 2020-12 as it is; only the definitions stand elsewhere.
    let settings = SchemaSettings::draft2020_12().with(|settings| {
        settings.definitions_path = "/components/schemas".into();
        settings.meta_schema = None;
    });
    let mut schemas = settings.for_serialize().into_generator();
    let paths = paths(&mut schemas);
    json!({
        "openapi": "3.1.0",
        "info": {
            "title": "Kilocard control plane, admin API",
            "version": env!("CARGO_PKG_VERSION"),
            "description": "For operators and orchestrators, on --admin-listen. It has no authentication: bind it to a network \
                            that only they reach.",
            "license": {"name": "Apache-2.0", "identifier": "Apache-2.0"},
        },
        "servers": [{"url": "http://127.0.0.1:18001", "description": "the default of --admin-listen"}],
        "paths": paths,
        "components": {"schemas": schemas.take_definitions(true)},
    })
}

fn paths(schemas: &mut SchemaGenerator) -> Value {
    let problem = answer::<Problem>(schemas, "What is wrong, and what to do");
    json!({
        "/ready": {"get": {
            "operationId": "ready",
            "summary": "Whether proxies can be served",
            "description": "Ready from the first snapshot on. An outage of the source later on does not unmake it, since the \
                            last good state is served on.",
            "responses": {"200": text("Ready, and how the source is"), "503": problem},
        }},
        "/status": {"get": {
            "operationId": "status",
            "summary": "The mesh as this control plane sees it",
            "description": "What `kilocard status` shows: policies with verdicts, clusters with endpoints and why they weigh \
                            what they weigh, and how far each proxy is.",
            "responses": {"200": answer::<MeshReport>(schemas, "The report")},
        }},
        "/devices": {"get": {
            "operationId": "devices",
            "summary": "The GPUs, what computes on them, and how they are",
            "description": "What `kilocard devices` shows.",
            "responses": {"200": answer::<DevicesReport>(schemas, "The report")},
        }},
        "/metrics": {"get": {
            "operationId": "metrics",
            "summary": "Counters for Prometheus",
            "description": "The names are documented in docs/metrics.md.",
            "responses": {
                "200": {"description": "OpenMetrics 1.0", "content": {super::OPEN_METRICS: {"schema": {"type": "string"}}}},
                "500": problem,
            },
        }},
        "/hold/release": {"post": {
            "operationId": "releaseHold",
            "summary": "Lets go of the workers that are held",
            "description": "After many workers vanished at once they stay in the mesh for a while. Whoever knows that they \
                            will not come back ends that here, on each replica.",
            "responses": {"200": answer::<Released>(schemas, "How many were held")},
        }},
        "/openapi.json": {"get": {
            "operationId": "openapi",
            "summary": "This description",
            "responses": {"200": {"description": "OpenAPI 3.1", "content": {JSON: {"schema": {"type": "object"}}}}},
        }},
    })
}

fn answer<T: JsonSchema>(schemas: &mut SchemaGenerator, description: &str) -> Value {
    json!({"description": description, "content": {JSON: {"schema": schemas.subschema_for::<T>()}}})
}

fn text(description: &str) -> Value {
    json!({"description": description, "content": {"text/plain": {"schema": {"type": "string"}}}})
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::path::Path;

    #[test]
    fn the_description_in_the_docs_is_the_one_that_is_served() {
        let path = Path::new(env!("CARGO_MANIFEST_DIR")).join("../../docs/openapi.json");
        let made = format!("{:#}\n", document());
        if std::env::var("UPDATE_OPENAPI").is_ok() {
            std::fs::write(&path, &made).unwrap();
        }
        let kept = std::fs::read_to_string(&path).unwrap_or_default();
        assert!(
            kept == made,
            "it has drifted: UPDATE_OPENAPI=1 cargo test -p kilocard-control-plane openapi"
        );
    }

    #[test]
    fn every_reference_of_the_description_leads_somewhere() {
        let document = document();
        let text = document.to_string();
        let references: Vec<&str> = text
            .split("\"$ref\":\"#")
            .skip(1)
            .filter_map(|rest| rest.split('"').next())
            .collect();
        assert!(references.len() > 10, "{references:?}");
        for reference in references {
            assert!(document.pointer(reference).is_some(), "{reference}");
        }
    }
}
