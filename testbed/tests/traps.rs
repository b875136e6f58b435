//! What Envoy does when a filter traps, provoked by a module made for it: `filters/trap`.

use anyhow::{Result, ensure};
use kilocard_proto::inference::ServerReadyRequest;
use kilocard_testbed::harness::static_envoy::StaticEnvoy;
use kilocard_testbed::harness::static_envoy::config::{self, Failure, Plugin};
use kilocard_testbed::harness::upstream::{HOLD, Upstream};
use kilocard_testbed::install::Install;
use kilocard_testbed::poll::{self, DEADLINE};
use kilocard_testbed::raw::{self, Reply};
use serde_json::{Value, json};
use std::net::SocketAddr;

/// A request with this header traps the plugin whose root id is its value.
const PROVOKE: &str = "x-provoke-trap";
const OK: Option<i32> = Some(0);
const INVALID_ARGUMENT: Option<i32> = Some(3);
const UNAVAILABLE: Option<i32> = Some(14);

fn documents() -> Value {
    json!([{
        "api_version": "kilocard/v1", "kind": "RoutingPolicy", "metadata": {"name": "minilm"},
        "spec": {
            "model": "minilm", "default": true,
            "versions": [{"version": "v1", "weight": 100}, {"version": "v2", "weight": 0}],
        },
    }])
}

/// An Envoy with traps in its filters, before two versions.
struct Mesh {
    envoy: StaticEnvoy,
    v1: Upstream,
    v2: Upstream,
    _dir: tempfile::TempDir,
}

impl Mesh {
    /// `last` is the route of what has no decision.
    async fn start(plugins: &[Plugin], last: Value) -> Result<Self> {
        let install = Install::locate()?;
        let dir = tempfile::tempdir()?;
        let (v1, v2) = (Upstream::start("v1").await?, Upstream::start("v2").await?);
        let filters = plugins.iter().map(|plugin| plugin.filter(&install)).collect();
        let routes = [config::decided("minilm/v1"), config::decided("minilm/v2"), last];
        let clusters = [
            config::cluster("minilm/v1", v1.address()),
            config::cluster("minilm/v2", v2.address()),
        ];
        let bootstrap = config::bootstrap(filters, &routes, &clusters);
        let envoy = StaticEnvoy::start(&install, dir.path(), "traps", &bootstrap).await?;
        Ok(Self {
            envoy,
            v1,
            v2,
            _dir: dir,
        })
    }

    async fn call(&self, headers: &[(&str, &[u8])]) -> Result<Reply> {
        call(self.envoy.address(), headers).await
    }

    /// Requests that reached v1 and v2.
    fn forwarded(&self) -> (usize, usize) {
        (self.v1.seen().len(), self.v2.seen().len())
    }
}

async fn call(gateway: SocketAddr, headers: &[(&str, &[u8])]) -> Result<Reply> {
    raw::call(gateway, "ServerReady", headers, &ServerReadyRequest {}).await
}

#[tokio::test]
async fn a_trap_in_the_gateway_costs_what_is_under_way_and_the_next_requests_are_served() -> Result<()> {
    let gateway = Plugin::new("kilocard-gateway", "kilocard_trap", &documents());
    let mut mesh = Mesh::start(&[gateway], config::answer(503, "no version was decided")).await?;
    ensure!(mesh.call(&[]).await?.header("x-upstream") == Some("v1"));

    // A stream of the same worker that has its response headers, and waits for the rest.
    let address = mesh.envoy.address();
    let held = tokio::spawn(async move { call(address, &[(HOLD, b"1")]).await });
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
async fn while_validation_is_down_nothing_passes_it() -> Result<()> {
    let validation = Plugin::new("header-validation", "kilocard_trap", &documents()).failing(Failure::Reload("3600s"));
    let routing = Plugin::new("model-routing", "kilocard_trap", &documents()).failing(Failure::Open);
    let mesh = Mesh::start(&[validation, routing], config::everything("minilm/v1")).await?;
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
    let validation = Plugin::new("header-validation", "kilocard_trap", &documents());
    let routing = Plugin::new("model-routing", "kilocard_trap", &documents()).failing(Failure::Open);
    let mesh = Mesh::start(&[validation, routing], config::everything("minilm/v1")).await?;
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
