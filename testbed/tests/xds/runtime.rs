//! RTDS: the values of MeshPolicy `spec.runtime` in Envoy's own runtime, and what is left of them without the control plane.

use crate::scene::{Given, Place, Scene, policy, routing};
use anyhow::{Context, Result, ensure};
use kilocard_testbed::harness::envoy::{Ads, Envoy};
use kilocard_testbed::poll::{self, DEADLINE};
use serde_json::{Value, json};
use std::time::{Duration, Instant};

const FLAG: &str = "kilocard.test.flag";
const SHARE: &str = "kilocard.test.share";

/// The layer's value of a key, as `GET /runtime` shows it; `None` if Envoy does not have it.
async fn value(envoy: &Envoy, key: &str) -> Result<Option<String>> {
    let page = envoy.json("/runtime").await?;
    let layers = page["layers"].as_array().context("layers")?;
    let place = layers
        .iter()
        .position(|layer| layer == "kilocard")
        .context("the layer")?;
    let value = page["entries"].get(key).map(|entry| &entry["layer_values"][place]);
    let text = value.and_then(Value::as_str).filter(|text| !text.is_empty());
    Ok(text.map(str::to_owned))
}

/// Waits until Envoy has this value of a key.
async fn await_value(envoy: &Envoy, key: &str, expected: Option<&str>) -> Result<()> {
    poll::until(&format!("{key} to be {expected:?}"), DEADLINE, async || {
        let value = value(envoy, key).await?;
        ensure!(value.as_deref() == expected, "{value:?}");
        Ok(())
    })
    .await
}

fn runtime(values: &Value) -> Value {
    policy("MeshPolicy", &json!({"runtime": values}))
}

#[tokio::test]
async fn runtime_values_arrive_change_and_go() -> Result<()> {
    let given = Given {
        versions: &["v1"],
        policies: &[routing(&[("v1", 100)]), runtime(&json!({FLAG: true, SHARE: 25}))],
        ..Given::default()
    };
    let scene = Scene::start(Place::new("e2e-xds-runtime")?, given).await?;
    let envoy = scene.start_envoy(Ads::Incremental)?;
    scene.await_served("v1").await?;
    await_value(&envoy, FLAG, Some("true")).await?;
    await_value(&envoy, SHARE, Some("25")).await?;

    scene.put(&runtime(&json!({FLAG: false, SHARE: 25})))?;
    await_value(&envoy, FLAG, Some("false")).await?;
    await_value(&envoy, SHARE, Some("25")).await?;

    scene.put(&runtime(&json!({SHARE: 30})))?;
    await_value(&envoy, SHARE, Some("30")).await?;
    ensure!(value(&envoy, FLAG).await?.is_none(), "a key that is gone stays");

    scene.put(&policy("MeshPolicy", &json!({})))?;
    await_value(&envoy, SHARE, None).await?;
    scene.ensure_served("v1").await?;
    ensure!(envoy.stat("runtime.load_error").await? == 0);
    scene.finish(envoy).await
}

#[tokio::test]
async fn a_layer_with_a_ttl_outlives_it_by_heartbeats_and_not_the_control_plane() -> Result<()> {
    expires("e2e-xds-ttl-delta", Ads::Incremental).await
}

#[tokio::test]
async fn so_does_one_in_the_state_of_the_world() -> Result<()> {
    expires("e2e-xds-ttl-sotw", Ads::StateOfTheWorld).await
}

/// "The TTL setting allows Envoy to remove a set of resources after a specified period of time if contact with the management
/// server is lost."
async fn expires(name: &str, ads: Ads) -> Result<()> {
    const TTL: Duration = Duration::from_secs(3);
    let given = Given {
        arguments: &["--runtime-ttl", "3"],
        versions: &["v1"],
        policies: &[routing(&[("v1", 100)]), runtime(&json!({FLAG: true}))],
    };
    let mut scene = Scene::start(Place::new(name)?, given).await?;
    let envoy = scene.start_envoy(ads)?;
    scene.await_served("v1").await?;
    await_value(&envoy, FLAG, Some("true")).await?;
    let loads = envoy.stat("runtime.load_success").await?;

    let begun = Instant::now();
    while begun.elapsed() < 2 * TTL {
        let value = value(&envoy, FLAG).await?;
        ensure!(
            value.as_deref() == Some("true"),
            "{value:?} after {:?}",
            begun.elapsed()
        );
        tokio::time::sleep(Duration::from_millis(50)).await;
    }
    if ads == Ads::Incremental {
        // "These resources will not be treated as resource updates, but only as TTL updates."
        let now = envoy.stat("runtime.load_success").await?;
        ensure!(now == loads, "heartbeats were taken for updates: {loads}, {now}");
    }

    // Nothing breaks the stream when the control plane is silent for a while, and nobody asks for the layer anew.
    scene.control_plane.pause();
    await_value(&envoy, FLAG, None).await?;
    scene.control_plane.resume();
    await_value(&envoy, FLAG, Some("true")).await?;

    scene.control_plane.kill().await?;
    let killed = Instant::now();
    await_value(&envoy, FLAG, None).await?;
    // The last heartbeat came up to a third of the time before the end, and it is not the lost connection that takes the layer.
    ensure!(killed.elapsed() > TTL / 3, "gone after {:?}", killed.elapsed());
    scene.ensure_served("v1").await?;
    ensure!(envoy.clusters().await?.contains(&"m/v1".to_owned()));

    scene.control_plane.restart().await?;
    await_value(&envoy, FLAG, Some("true")).await?;
    scene.ensure_served("v1").await?;
    scene.finish(envoy).await
}
