//! What Envoy refuses of a response: told resource by resource in its own words, and a hindrance to nothing else.

use crate::relay::{Flaw, Relay};
use crate::scene::{Given, Place, Scene, policy, routing};
use anyhow::{Context, Result, ensure};
use envoy_types::pb::envoy::service::status::v3::client_config::GenericXdsConfig;
use envoy_types::pb::envoy::service::status::v3::client_status_discovery_service_client::ClientStatusDiscoveryServiceClient;
use envoy_types::pb::envoy::service::status::v3::{ClientStatusRequest, ConfigStatus};
use kilocard_registry::report::{NodeTypeReport, RefusedResource};
use kilocard_testbed::harness::envoy::{Ads, Envoy};
use kilocard_testbed::poll::{self, DEADLINE};
use kilocard_testbed::prometheus;
use serde_json::{Value, json};

/// As the documented bootstrap calls it.
const NODE: &str = "kilocard-gateway-1";

/// The pool of everything with this many connections at most.
fn pool(max_connections: u32) -> Value {
    policy("PoolPolicy", &json!({"limits": {"max_connections": max_connections}}))
}

/// How many connections Envoy's cluster may have.
async fn limit(envoy: &Envoy, cluster: &str) -> Result<u32> {
    let page = envoy.page("/clusters").await?;
    let prefix = format!("{cluster}::default_priority::max_connections::");
    let limit = page.lines().find_map(|line| line.strip_prefix(&prefix));
    Ok(limit.with_context(|| format!("no {prefix}"))?.parse()?)
}

async fn await_limit(envoy: &Envoy, cluster: &str, expected: u32) -> Result<()> {
    poll::until(
        &format!("{cluster} to have {expected} connections"),
        DEADLINE,
        async || {
            let limit = limit(envoy, cluster).await?;
            ensure!(limit == expected, "{limit}");
            Ok(())
        },
    )
    .await
}

/// The one refusal of a type, once it is there and everything has been answered.
async fn await_refusal(scene: &Scene, message: &str) -> Result<(NodeTypeReport, RefusedResource)> {
    let report = scene
        .await_report(message, "a refusal", |report| {
            ensure!(report.refused_total == 1 && !report.in_flight);
            Ok(())
        })
        .await?;
    let refused = report.refused.first().context("a refused resource")?.clone();
    Ok((report, refused))
}

async fn await_mended(scene: &Scene, message: &str) -> Result<()> {
    let report = scene
        .await_report(message, "the refusal to be over", |report| {
            ensure!(report.refused_total == 0 && report.behind_ms.is_none());
            Ok(())
        })
        .await?;
    ensure!(
        report.nack.is_none() && report.refused.is_empty() && report.acked_version == report.served_version,
        "{report:?}"
    );
    Ok(())
}

/// A metric of a resource type.
async fn metric(scene: &Scene, name: &str, message: &str) -> Result<f64> {
    let page = scene.control_plane.page("/metrics").await?;
    let name = format!("kilocard_control_plane_{name}");
    Ok(prometheus::sum(&page, &name, &[("type", message)]))
}

/// What CSDS says of a resource of the one proxy.
async fn csds(scene: &Scene, message: &str, name: &str) -> Result<GenericXdsConfig> {
    let server = format!("http://{}", scene.control_plane.xds());
    let mut client = ClientStatusDiscoveryServiceClient::connect(server).await?;
    let answer = client
        .fetch_client_status(ClientStatusRequest::default())
        .await?
        .into_inner();
    let client = answer.config.into_iter().next().context("a client")?;
    ensure!(client.node.is_some_and(|node| node.id == NODE));
    let mut resources = client.generic_xds_configs.into_iter();
    let found = resources.find(|resource| resource.name == name && resource.type_url.ends_with(message));
    found.context("the resource")
}

/// "If Envoy had instead rejected configuration update X, it would reply with error_detail populated and its previous version."
#[tokio::test]
async fn a_refused_cluster_is_told_by_name_and_the_others_of_its_response_are_in_force() -> Result<()> {
    let given = Given {
        versions: &["v1", "v2"],
        policies: &[routing(&[("v1", 100), ("v2", 0)]), pool(1001)],
        ..Given::default()
    };
    let scene = Scene::start(Place::new("e2e-xds-refused-cluster")?, given).await?;
    let relay = Relay::start(scene.control_plane.xds()).await?;
    let envoy = scene.start_envoy_at(relay.address(), Ads::Incremental)?;
    for version in ["v1", "v2"] {
        scene.await_served(version).await?;
    }
    ensure!((limit(&envoy, "m/v1").await?, limit(&envoy, "m/v2").await?) == (1001, 1001));

    relay.spoil(Some(("m/v2", Flaw::Contradiction)));
    scene.put(&pool(1002))?;
    let (report, refused) = await_refusal(&scene, "Cluster").await?;
    ensure!(refused.name == "m/v2", "{refused:?}");
    ensure!(
        refused.reason.contains("CLUSTER_PROVIDED"),
        "Envoy's own words: {refused:?}"
    );
    let nack = report.nack.as_ref().context("the whole refusal")?;
    ensure!(
        nack.message.contains(&refused.reason) && nack.message.contains("m/v2"),
        "{nack:?}"
    );
    ensure!(report.behind_ms.is_some(), "{report:?}");
    the_refusal_is_shown_everywhere(&scene, &refused).await?;

    // The other cluster of the response has changed; the refused one is as it was, and both serve.
    await_limit(&envoy, "m/v1", 1002).await?;
    ensure!(limit(&envoy, "m/v2").await? == 1001);
    for version in ["v1", "v2"] {
        scene.ensure_served(version).await?;
    }
    // What comes after clusters goes on, and what was refused is not tried again.
    scene.put(&routing(&[("v1", 0), ("v2", 100)]))?;
    poll::until("v2 to be chosen", DEADLINE, async || scene.ensure_chosen("v2").await).await?;
    ensure!(metric(&scene, "xds_nacks_total", "Cluster").await? == 1.0);

    // This one Envoy prints as a whole, a page, and names it nowhere else.
    relay.spoil(Some(("m/v2", Flaw::Unknown)));
    scene.put(&pool(1003))?;
    let unknown = |report: &NodeTypeReport| {
        let refused = report.refused.first().context("none")?;
        ensure!(refused.name == "m/v2" && report.refused_total == 1);
        let words = "\"m/v2\": Proto constraint validation failed (ClusterValidationError.LbPolicy";
        ensure!(refused.reason.starts_with(words));
        Ok(())
    };
    scene.await_report("Cluster", "the next refusal", unknown).await?;

    relay.spoil(None);
    scene.put(&pool(1004))?;
    await_mended(&scene, "Cluster").await?;
    ensure!((limit(&envoy, "m/v1").await?, limit(&envoy, "m/v2").await?) == (1004, 1004));
    ensure!(metric(&scene, "xds_refused_resources", "Cluster").await? == 0.0);
    ensure!(metric(&scene, "xds_behind", "Cluster").await? == 0.0);
    ensure!(!scene.kilocard_status().await?.contains("REFUSED"));
    let synced = csds(&scene, "Cluster", "m/v2").await?;
    ensure!(
        synced.config_status() == ConfigStatus::Synced && synced.error_state.is_none(),
        "{synced:?}"
    );
    scene.finish(envoy).await
}

async fn the_refusal_is_shown_everywhere(scene: &Scene, refused: &RefusedResource) -> Result<()> {
    for (name, expected) in [
        ("xds_nacks_total", 1.0),
        ("xds_refused_resources", 1.0),
        ("xds_behind", 1.0),
    ] {
        let value = metric(scene, name, "Cluster").await?;
        ensure!(value == expected, "{name} is {value}");
    }
    let text = scene.kilocard_status().await?;
    let (_, shown) = text.split_once("REFUSED RESOURCES").with_context(|| text.clone())?;
    for word in [NODE, "Cluster", &refused.name, &refused.reason] {
        ensure!(shown.contains(word), "{word:?} is not in {shown}");
    }
    let row = csds(scene, "Cluster", &refused.name).await?;
    ensure!(row.config_status() == ConfigStatus::Error, "{row:?}");
    let error = row.error_state.context("an error")?;
    ensure!(
        error.details == refused.reason && Some(&error.version_info) == refused.version.as_ref(),
        "{error:?}"
    );
    Ok(())
}

/// "If Envoy had instead rejected configuration update X, it would reply with error_detail populated and its previous version":
/// here the filter's, with a module that proxies read from a file of their own.
#[tokio::test]
async fn case_44_a_wasm_configuration_that_envoy_refuses_leaves_the_old_filter_in_force() -> Result<()> {
    let mut place = Place::new("e2e-xds-refused-filter")?;
    let module = place.run.dir().join("gateway.wasm");
    std::fs::copy(&place.install.filter, &module)?;
    let good = std::mem::replace(&mut place.install.filter, module.clone());
    let given = Given {
        arguments: &["--filter-delivery", "path"],
        versions: &["v1", "v2"],
        policies: &[routing(&[("v1", 100), ("v2", 0)]), pool(1001)],
    };
    let scene = Scene::start(place, given).await?;
    let envoy = scene.start_envoy(Ads::Incremental)?;
    poll::until("v1 to be chosen", DEADLINE, async || scene.ensure_chosen("v1").await).await?;

    // The header of a module, and nothing of one.
    std::fs::write(&module, b"\0asm\x01\0\0\0 and then something else")?;
    scene.put(&routing(&[("v1", 0), ("v2", 100)]))?;
    scene.put(&pool(1002))?;
    let (report, refused) = await_refusal(&scene, "TypedExtensionConfig").await?;
    ensure!(refused.name == "kilocard-gateway", "{refused:?}");
    ensure!(
        refused.reason.contains("Unable to create Wasm plugin"),
        "Envoy's own words: {refused:?}"
    );
    ensure!(
        report.acked_version.is_some() && report.acked_version != report.served_version,
        "{report:?}"
    );
    await_limit(&envoy, "m/v2", 1002).await?;
    scene.ensure_chosen("v1").await?;
    let row = csds(&scene, "TypedExtensionConfig", &refused.name).await?;
    ensure!(row.config_status() == ConfigStatus::Error, "{row:?}");

    std::fs::copy(&good, &module)?;
    // It takes a change for the filter to be sent again, any change of what the filter is told.
    let salted = json!({"model": "m", "default": true, "salt": "2", "versions": [{"version": "v2", "weight": 100}]});
    scene.put(&policy("RoutingPolicy", &salted))?;
    await_mended(&scene, "TypedExtensionConfig").await?;
    poll::until("v2 to be chosen", DEADLINE, async || scene.ensure_chosen("v2").await).await?;
    scene.finish(envoy).await
}
