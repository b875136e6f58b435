//! Whose limit it is, and what a million strangers can do.

use super::scene::{ADMITTED, Scene, ask, rate_limits};
use anyhow::{Result, ensure};
use kilocard_proto::inference::ServerReadyRequest;
use kilocard_testbed::open_loop::OpenLoop;
use kilocard_testbed::raw;
use serde_json::json;

/// Whether a request with these headers is let through.
async fn passes(scene: &Scene, headers: &[(&str, &[u8])]) -> Result<bool> {
    let reply = raw::call(scene.envoy.address(), "ServerReady", headers, &ServerReadyRequest {}).await?;
    Ok(reply.grpc_status == Some(12))
}

#[tokio::test]
async fn each_combination_of_what_a_policy_names_has_the_limit_for_itself() -> Result<()> {
    let limit = json!({
        "by": ["tenant", "model"], "limits": [{"unit": "requests", "rate": 1, "per": "hour", "burst": 2}],
    });
    let scene = Scene::start(2, &[rate_limits("tenants", &limit)]).await?;
    for tenant in ["acme", "umbrella"] {
        for model in ["minilm", "llama"] {
            let headers: [(&str, &[u8]); 3] = [
                ("x-tenant-id", tenant.as_bytes()),
                ("x-model", model.as_bytes()),
                ("x-user-id", b"any"),
            ];
            let passed = [
                passes(&scene, &headers).await?,
                passes(&scene, &headers).await?,
                passes(&scene, &headers).await?,
            ];
            ensure!(passed == [true, true, false], "{tenant} {model}: {passed:?}");
        }
    }
    Ok(())
}

#[tokio::test]
async fn a_flood_of_users_neither_passes_freely_nor_takes_memory() -> Result<()> {
    let limit = json!({
        "by": ["user"], "max_keys": 64, "limits": [{"unit": "requests", "rate": 1, "per": "hour", "burst": 1}],
    });
    let mut scene = Scene::start(1, &[rate_limits("users", &limit)]).await?;
    let users: &'static [String] = Box::leak((0..20_000).map(|user| format!("user-{user}")).collect());
    let asks: Vec<_> = users.iter().map(|user| ask(&[("x-user-id", user.as_str())])).collect();
    let load = OpenLoop {
        requests: 20_000,
        rate: 8_000,
        connections: 2,
    };
    let answers = load.answers(scene.envoy.address(), &asks).await?;
    let passed = answers.iter().filter(|answer| answer.status == ADMITTED).count();
    // Room for twice as many keys as are declared, and the overflow key.
    ensure!((64..=129).contains(&passed), "{passed} let through");
    let stats = scene.envoy.admin().stats("wasmcustom.kilocard_limits").await?;
    ensure!(
        stats
            .iter()
            .any(|(name, value)| name.ends_with("users.overflow") && *value == 1),
        "{stats:?}"
    );
    scene.envoy.check()
}
