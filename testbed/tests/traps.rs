//! What Envoy does when a filter traps, provoked by a module made for it: `filters/trap`.

use anyhow::{Result, ensure};
use kilocard_proto::inference::ServerReadyRequest;
use kilocard_testbed::harness::static_envoy::config::{self, Failure, Plugin};
use kilocard_testbed::harness::static_mesh::{StaticMesh, all_to_v1};
use kilocard_testbed::harness::upstream::HOLD;
use kilocard_testbed::poll::{self, DEADLINE};
use kilocard_testbed::raw;
use serde_json::json;

/// A request with this header traps the plugin whose root id is its value.
const PROVOKE: &str = "x-provoke-trap";
const OK: Option<i32> = Some(0);
const INVALID_ARGUMENT: Option<i32> = Some(3);
const RESOURCE_EXHAUSTED: Option<i32> = Some(8);
const UNAVAILABLE: Option<i32> = Some(14);

fn trap(root_id: &'static str) -> Plugin {
    Plugin::new(root_id, "kilocard_trap", &json!([all_to_v1()]))
}

#[tokio::test]
async fn a_trap_in_the_gateway_costs_what_is_under_way_and_the_next_requests_are_served() -> Result<()> {
    let gateway = trap("kilocard-gateway");
    let mut mesh = StaticMesh::start(&[gateway], config::answer(503, "no version was decided")).await?;
    ensure!(mesh.call(&[]).await?.header("x-upstream") == Some("v1"));

    // A stream of the same worker that has its response headers, and waits for the rest.
    let address = mesh.envoy.address();
    let held =
        tokio::spawn(async move { raw::call(address, "ServerReady", &[(HOLD, b"1")], &ServerReadyRequest {}).await });
    poll::until("the held stream to be forwarded", DEADLINE, async || {
        ensure!(mesh.forwarded().0 == 2);
        Ok(())
    })
    .await?;

    let trapped = mesh.call(&[(PROVOKE, b"kilocard-gateway")]).await?;
    ensure!(
        trapped.grpc_status == UNAVAILABLE && trapped.ended_by_headers,
        "{trapped:?}"
    );
    poll::until("the filter to be loaded anew", DEADLINE, async || {
        let reply = mesh.call(&[("x-model-version", b"v2")]).await?;
        ensure!(
            reply.grpc_status == OK && reply.header("x-upstream") == Some("v2"),
            "{reply:?}"
        );
        Ok(())
    })
    .await?;
    let refused = mesh.call(&[("x-model-version", b"")]).await?;
    ensure!(refused.grpc_status == INVALID_ARGUMENT, "{refused:?}");
    mesh.v1.release();
    // What was under way through the VM that is gone is reset; a gRPC client sees INTERNAL.
    let held = held.await?;
    ensure!(held.is_err(), "{held:?}");
    mesh.envoy.check()
}

#[tokio::test]
async fn what_limits_have_counted_outlives_a_trap() -> Result<()> {
    let limits = json!([{"unit": "requests", "rate": 1, "per": "day", "burst": 3}]);
    let limit = json!({"api_version": "kilocard/v1", "kind": "RateLimitPolicy", "metadata": {"name": "all"},
        "spec": {"by": ["tenant"], "limits": limits}});
    let gateway = Plugin::new("kilocard-gateway", "kilocard_trap", &json!([all_to_v1(), limit]));
    let mesh = StaticMesh::start(&[gateway], config::answer(503, "no version was decided")).await?;
    let acme: &[(&str, &[u8])] = &[("x-tenant-id", b"acme")];
    for _ in 0..3 {
        ensure!(mesh.call(acme).await?.grpc_status == OK);
    }
    let trapped = mesh.call(&[(PROVOKE, b"kilocard-gateway")]).await?;
    ensure!(trapped.grpc_status == UNAVAILABLE, "{trapped:?}");
    poll::until("the filter to be loaded anew", DEADLINE, async || {
        let other = mesh.call(&[("x-tenant-id", b"other")]).await?;
        ensure!(other.grpc_status == OK, "{other:?}");
        Ok(())
    })
    .await?;
    let refused = mesh.call(acme).await?;
    ensure!(refused.grpc_status == RESOURCE_EXHAUSTED, "{refused:?}");
    Ok(())
}

#[tokio::test]
async fn while_validation_is_down_nothing_passes_it() -> Result<()> {
    let validation = trap("header-validation").failing(Failure::Reload("3600s"));
    let routing = trap("model-routing").failing(Failure::Open);
    let mesh = StaticMesh::start(&[validation, routing], config::everything("minilm/v1")).await?;
    ensure!(mesh.call(&[]).await?.grpc_status == OK);

    // The first new VM comes at once, the second only after the back-off.
    for _ in 0..2 {
        let trapped = mesh.call(&[(PROVOKE, b"header-validation")]).await?;
        ensure!(trapped.grpc_status == UNAVAILABLE, "{trapped:?}");
    }
    for headers in [
        &[][..],
        &[("x-model-version", b"".as_slice())],
        &[("x-kilocard-route", b"minilm/v2")],
        &[("grpc-timeout", b"123456789S")],
    ] {
        let reply = mesh.call(headers).await?;
        ensure!(reply.grpc_status == UNAVAILABLE, "{headers:?}: {reply:?}");
    }
    ensure!(mesh.forwarded() == (1, 0), "{:?}", mesh.forwarded());
    let refused = "wasm.header-validation.vm_reload_backoff";
    ensure!(mesh.envoy.admin().stat(refused).await? > 0, "it was never down");
    Ok(())
}

#[tokio::test]
async fn while_routing_is_down_all_goes_to_the_stable_version_and_is_still_validated() -> Result<()> {
    let validation = trap("header-validation");
    let routing = trap("model-routing").failing(Failure::Open);
    let mesh = StaticMesh::start(&[validation, routing], config::everything("minilm/v1")).await?;
    let pin: &[(&str, &[u8])] = &[("x-model-version", b"v2")];
    ensure!(mesh.call(pin).await?.header("x-upstream") == Some("v2"));

    let trapped = mesh.call(&[(PROVOKE, b"model-routing")]).await?;
    ensure!(trapped.grpc_status == UNAVAILABLE, "{trapped:?}");
    for headers in [&[][..], pin, &[("x-kilocard-route", b"minilm/v2")]] {
        let reply = mesh.call(headers).await?;
        ensure!(
            reply.grpc_status == OK && reply.header("x-upstream") == Some("v1"),
            "{headers:?}: {reply:?}"
        );
    }
    let seen = mesh.v1.seen();
    ensure!(
        seen.iter().all(|seen| seen.header("x-kilocard-route").is_none()),
        "{seen:?}"
    );
    let refused = mesh.call(&[("x-model-version", b"")]).await?;
    ensure!(refused.grpc_status == INVALID_ARGUMENT, "{refused:?}");
    ensure!(mesh.forwarded() == (3, 1), "{:?}", mesh.forwarded());
    Ok(())
}
