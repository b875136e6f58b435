//! The configurations that users copy are loaded by real Envoy.

use anyhow::{Context, Result, ensure};
use kilocard_proto::inference::ServerReadyRequest;
use kilocard_testbed::harness::static_envoy::StaticEnvoy;
use kilocard_testbed::install::Install;
use kilocard_testbed::raw;
use serde_json::{Value, json};
use std::fs;

/// The example as it is shipped, but for ports and for where the module lies.
fn static_gateway(install: &Install) -> Result<Value> {
    let mut config: Value =
        serde_norway::from_str(&fs::read_to_string(install.root.join("envoy/static-gateway.yaml"))?)?;
    let mut set = |pointer: &str, value: Value| -> Result<()> {
        *config
            .pointer_mut(pointer)
            .with_context(|| format!("{pointer} is not in the example"))? = value;
        Ok(())
    };
    let manager = "/static_resources/listeners/0/filter_chains/0/filters/0/typed_config";
    set("/admin/address/socket_address/port_value", json!(0))?;
    set(
        "/static_resources/listeners/0/address/socket_address/port_value",
        json!(0),
    )?;
    set(
        &format!("{manager}/http_filters/0/typed_config/config/vm_config/code/local/filename"),
        json!(install.filter),
    )?;
    Ok(config)
}

#[tokio::test]
async fn the_filter_serves_in_an_envoy_without_a_control_plane() -> Result<()> {
    let install = Install::locate()?;
    let dir = tempfile::tempdir()?;
    let envoy = StaticEnvoy::start(&install, dir.path(), "static-gateway", &static_gateway(&install)?).await?;
    let call = async |headers: &[(&str, &[u8])]| {
        raw::call(envoy.address(), "ServerReady", headers, &ServerReadyRequest {}).await
    };
    // Each route of the example answers by itself and says which it is; Envoy gives a gRPC client the text as the message.
    for (headers, route) in [
        ([("x-model-version", b"v2".as_slice())], "here would be minilm/v2"),
        ([("x-model-version", b"v1")], "here would be minilm/v1"),
        ([("x-canary-weight", b"100")], "here would be minilm/v2"),
        ([("x-canary-weight", b"0")], "here would be minilm/v1"),
    ] {
        let reply = call(&headers).await?;
        ensure!(reply.grpc_message.starts_with(route), "{headers:?}: {reply:?}");
    }
    let forged = call(&[("x-kilocard-route", b"minilm/v2"), ("x-model-version", b"v1")]).await?;
    ensure!(forged.grpc_message.starts_with("here would be minilm/v1"), "{forged:?}");
    let refused = call(&[("x-model-version", b"")]).await?;
    ensure!(
        refused.grpc_status == Some(3) && refused.ended_by_headers,
        "{refused:?}"
    );
    Ok(())
}
