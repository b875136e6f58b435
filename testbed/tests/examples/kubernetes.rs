//! `envoy/istio-wasmplugin.yaml` and `envoy/envoy-gateway-extensionpolicy.yaml`, as far as they can be checked without a
//! cluster: what they configure is valid, the routes fit it, and, where `KILOCARD_CRDS` names a folder with the
//! CustomResourceDefinitions of Istio, Envoy Gateway, the Gateway API and KEDA, every resource fits its schema, that of
//! `envoy/kubernetes/keda-scaledobject.yaml` as well.

use super::autoscaling::KEDA;
use super::example::{Running, text};
use super::schema;
use anyhow::{Context, Result, anyhow, ensure};
use kilocard_policy::Policy;
use kilocard_policy::config::{FilterConfig, Violation};
use kilocard_testbed::harness::static_envoy::config::{self, Plugin};
use kilocard_testbed::harness::upstream::Upstream;
use kilocard_testbed::install::Install;
use serde_json::{Value, json};
use std::path::Path;

const ISTIO: &str = "istio-wasmplugin.yaml";
const ENVOY_GATEWAY: &str = "envoy-gateway-extensionpolicy.yaml";

/// The one resource of this kind in an example.
fn resource(example: &str, kind: &str) -> Result<Value> {
    let all = schema::documents(&text(example)?)?;
    let mut found = all.into_iter().filter(|document| document["kind"] == kind);
    let one = found.next().with_context(|| format!("{example} has no {kind}"))?;
    ensure!(found.next().is_none(), "{example} has more than one {kind}");
    Ok(one)
}

/// The route keys of a plugin's configuration; it must be one that the filter takes.
fn route_keys(configuration: &Value) -> Result<Vec<String>> {
    let told = |violations: Vec<Violation>| {
        let lines: Vec<String> = violations.iter().map(Violation::to_string).collect();
        anyhow!(lines.join("; "))
    };
    let config = FilterConfig::parse(configuration.to_string().as_bytes()).map_err(told)?;
    let policy = Policy::compile(&config.revision, &config.documents).map_err(told)?;
    let mut keys = Vec::new();
    for model in policy.models() {
        keys.extend(model.versions().iter().map(|version| version.route_key().to_owned()));
    }
    Ok(keys)
}

fn list(value: &Value) -> &[Value] {
    value.as_array().map_or(&[], Vec::as_slice)
}

#[test]
fn istio_is_given_a_filter_that_starts_and_a_route_for_each_version() -> Result<()> {
    let plugin = resource(ISTIO, "WasmPlugin")?;
    let keys = route_keys(&plugin["spec"]["pluginConfig"])?;
    ensure!(plugin["spec"]["failStrategy"] == "FAIL_RELOAD", "{plugin}");
    let service = resource(ISTIO, "VirtualService")?;
    let (last, routes) = list(&service["spec"]["http"]).split_last().context("no routes")?;
    let matched = routes
        .iter()
        .map(|route| &route["match"][0]["headers"]["x-kilocard-route"]["exact"]);
    ensure!(matched.eq(keys.iter()), "{routes:?}");
    ensure!(
        last.get("match").is_none() && last["directResponse"]["status"] == 503,
        "{last}"
    );
    Ok(())
}

#[test]
fn envoy_gateway_is_given_a_filter_that_starts_and_a_route_for_each_version() -> Result<()> {
    let policy = resource(ENVOY_GATEWAY, "EnvoyExtensionPolicy")?;
    let wasm = &policy["spec"]["wasm"][0];
    let keys = route_keys(&wasm["config"])?;
    ensure!(wasm["failOpen"] == false, "{wasm}");
    let routes = resource(ENVOY_GATEWAY, "GRPCRoute")?;
    // For all routes of the Gateway: see the example.
    let target = &policy["spec"]["targetRefs"][0];
    ensure!(
        target["kind"] == "Gateway" && target["name"] == routes["spec"]["parentRefs"][0]["name"],
        "{target}"
    );
    let (last, rules) = list(&routes["spec"]["rules"]).split_last().context("no rules")?;
    for (rule, key) in rules.iter().zip(&keys) {
        let header = &rule["matches"][0]["headers"][0];
        ensure!(
            header["name"] == "x-kilocard-route" && header["value"] == *key,
            "{rule}"
        );
    }
    ensure!(rules.len() == keys.len(), "{rules:?}");
    let filter = resource(ENVOY_GATEWAY, "HTTPRouteFilter")?;
    ensure!(
        last.get("matches").is_none()
            && last["filters"][0]["extensionRef"]["name"] == filter["metadata"]["name"]
            && filter["spec"]["directResponse"]["statusCode"] == 503,
        "{last}"
    );
    Ok(())
}

#[test]
#[expect(
    clippy::print_stderr,
    reason = "who runs the tests is to know what they did not check"
)]
fn every_resource_fits_the_schema_of_its_kind_where_the_schemas_are_at_hand() -> Result<()> {
    let Some(folder) = std::env::var_os("KILOCARD_CRDS") else {
        eprintln!("not checked: KILOCARD_CRDS names no folder of CustomResourceDefinitions; see docs/existing-mesh.md");
        return Ok(());
    };
    let definitions = schema::read_definitions(Path::new(&folder))?;
    for example in [ISTIO, ENVOY_GATEWAY, KEDA] {
        for document in schema::documents(&text(example)?)? {
            let kind = document["kind"].as_str().context("a resource without a kind")?;
            let schema = schema::schema_of(&definitions, &document)
                .with_context(|| format!("no definition of {kind} in {}", document["apiVersion"]))?;
            let violations = schema::violations(schema, &document);
            ensure!(violations.is_empty(), "{example}, {kind}: {violations:#?}");
        }
    }
    Ok(())
}

/// Envoy Gateway adds a wasm filter switched off, and switches it on for each route that its policy targets. The route is
/// picked before the filter runs, and again after it has set its header.
#[tokio::test]
async fn a_filter_that_is_switched_on_route_by_route_lets_no_forged_route_pass() -> Result<()> {
    let policy = resource(ENVOY_GATEWAY, "EnvoyExtensionPolicy")?;
    let documents = &policy["spec"]["wasm"][0]["config"]["documents"];
    let mut filter = Plugin::new("kilocard-gateway", "kilocard_gateway", documents).filter(&Install::locate()?);
    filter["disabled"] = json!(true);
    let mut routes = [
        config::decided("minilm/v1"),
        config::decided("minilm/v2"),
        config::answer(503, "no version was decided"),
    ];
    for route in &mut routes {
        route["typed_per_filter_config"] = json!({"kilocard-gateway": {
            "@type": "type.googleapis.com/envoy.config.route.v3.FilterConfig",
            "config": {},
        }});
    }
    let (v1, v2) = (Upstream::start("v1").await?, Upstream::start("v2").await?);
    let clusters = [
        config::cluster("minilm/v1", v1.address()),
        config::cluster("minilm/v2", v2.address()),
    ];
    let bootstrap = config::bootstrap(vec![filter], &routes, &clusters);
    let running = Running::start(&bootstrap.to_string(), &[]).await?;
    for (version, forged) in [("v1", "minilm/v2"), ("v2", "minilm/v1"), ("v1", "minilm/v9")] {
        let headers: &[(&str, &[u8])] = &[
            ("x-model-version", version.as_bytes()),
            ("x-kilocard-route", forged.as_bytes()),
        ];
        let reply = running.call(headers).await?;
        ensure!(reply.header("x-upstream") == Some(version), "{forged}: {reply:?}");
    }
    let plain = running.call(&[("x-model-version", b"v2")]).await?;
    ensure!(plain.header("x-upstream") == Some("v2"), "{plain:?}");
    Ok(())
}
