//! Envoy's own rate-limit filter, as docs/existing-mesh.md configures it, asks the control plane.

use super::law::{Law, admitted};
use super::scene::{ADMITTED, REFUSED, Scene, rate_limits};
use super::shares::{LAW, await_share, besiege, limit, used_at_the_end};
use anyhow::{Context, Result, ensure};
use bytes::Bytes;
use http::Method;
use kilocard_proto::inference::ServerReadyRequest;
use kilocard_testbed::harness::Run;
use kilocard_testbed::harness::control_plane::ControlPlane;
use kilocard_testbed::harness::static_envoy::StaticEnvoy;
use kilocard_testbed::harness::static_envoy::config;
use kilocard_testbed::install::Install;
use kilocard_testbed::poll::{self, DEADLINE};
use kilocard_testbed::raw::{self, Reply};
use serde_json::{Value, json};
use std::fs;
use std::path::Path;
use std::time::Duration;

const CLUSTER: &str = "control-plane";

/// A control plane over a folder that holds these policies.
pub(crate) async fn control_plane(install: &Install, run: &Run, policies: &[Value]) -> Result<ControlPlane> {
    let source = run.dir().join("source");
    fs::create_dir_all(source.join("policies"))?;
    for (index, policy) in policies.iter().enumerate() {
        fs::write(source.join(format!("policies/{index}.json")), policy.to_string())?;
    }
    let source = source.display().to_string();
    let control_plane = ControlPlane::start_alone(install, run.dir(), CLUSTER, &["--source-dir", &source]).await?;
    control_plane.await_ready().await?;
    Ok(control_plane)
}

/// The configuration that the documentation shows.
fn documented(install: &Install) -> Result<Value> {
    let page = fs::read_to_string(install.root.join("docs/existing-mesh.md"))?;
    let (_, section) = page
        .split_once("\n## Envoy's own rate-limit filter")
        .context("no section")?;
    let (_, yaml) = section.split_once("```yaml\n").context("no example")?;
    let (yaml, _) = yaml.split_once("```").context("the example has no end")?;
    Ok(serde_norway::from_str(yaml)?)
}

/// An Envoy with no filter of ours. What it lets through goes to the control plane, which has no such service and says so:
/// `UNIMPLEMENTED`, like the answer of the other scenes.
async fn stock_envoy(install: &Install, dir: &Path, control_plane: &ControlPlane) -> Result<StaticEnvoy> {
    let mut example = documented(install)?;
    let mut route = config::everything(CLUSTER);
    route["route"]["rate_limits"] = example["rate_limits"].take();
    let mut cluster = config::cluster(CLUSTER, control_plane.xds());
    cluster["outlier_detection"] = example["outlier_detection"].take();
    // A test machine may be slow; the example is for a network.
    example["http_filters"][0]["typed_config"]["timeout"] = json!("5s");
    let filters = example["http_filters"].as_array().context("no filters")?.clone();
    let bootstrap = config::bootstrap(filters, &[route], &[cluster]);
    StaticEnvoy::with_threads(install, dir, ("stock", 2), &bootstrap).await
}

async fn of_tenant(envoy: &StaticEnvoy, tenant: &str) -> Result<Reply> {
    let headers: [(&str, &[u8]); 1] = [("x-tenant-id", tenant.as_bytes())];
    raw::call(envoy.address(), "ModelInfer", &headers, &ServerReadyRequest {}).await
}

#[tokio::test]
async fn the_stock_filter_refuses_by_our_policies_and_says_which_limit_was_met() -> Result<()> {
    let (install, run) = (Install::locate()?, Run::create("rls")?);
    let spec = json!({"by": ["tenant"], "match": {"methods": ["/inference.GRPCInferenceService/*"]},
        "limits": [{"unit": "requests", "rate": 30, "per": "minute", "burst": 1}]});
    let control_plane = control_plane(&install, &run, &[rate_limits("tenants", &spec)]).await?;
    let envoy = stock_envoy(&install, run.dir(), &control_plane).await?;
    let passed = of_tenant(&envoy, "acme").await?;
    ensure!(passed.grpc_status == Some(12), "{passed:?}");
    let refused = of_tenant(&envoy, "acme").await?;
    ensure!(refused.grpc_status == Some(8), "{refused:?}");
    ensure!(
        refused
            .grpc_message
            .contains("30 requests a minute, at most 1 at once for tenant=acme"),
        "{refused:?}"
    );
    ensure!(
        refused.header("ratelimit-policy") == Some("\"tenants.requests\";q=30;w=60"),
        "{refused:?}"
    );
    let wait: u64 = refused.header("retry-after").context("no wait")?.parse()?;
    ensure!((1..=2).contains(&wait), "{wait}");
    let other = of_tenant(&envoy, "other").await?;
    ensure!(other.grpc_status == Some(12), "{other:?}");

    // The policy is about one service only, so others are asked about and not limited.
    let plain = (Method::GET, "/elsewhere");
    let elsewhere = raw::request(envoy.address(), plain, &[("x-tenant-id", b"acme")], Bytes::new()).await?;
    ensure!(elsewhere.header("retry-after").is_none(), "{elsewhere:?}");
    // A client that does not speak gRPC.
    let plain = (Method::POST, "/inference.GRPCInferenceService/ModelInfer");
    let refused = raw::request(envoy.address(), plain, &[("x-tenant-id", b"acme")], Bytes::new()).await?;
    ensure!(
        refused.http_status == 429 && refused.header("retry-after").is_some(),
        "{refused:?}"
    );

    let metrics = control_plane.page("/metrics").await?;
    for line in [
        "kilocard_control_plane_rls_requests_total{code=\"ok\"} 3",
        "kilocard_control_plane_rls_requests_total{code=\"over_limit\"} 2",
        "kilocard_control_plane_rls_refusals_total{policy=\"tenants\"} 2",
    ] {
        ensure!(
            metrics.lines().any(|found| found == line),
            "{line} is not in\n{metrics}"
        );
    }
    Ok(())
}

#[tokio::test]
async fn the_stock_filter_and_ours_share_a_limit_of_the_mesh_and_never_exceed_it() -> Result<()> {
    let (install, run) = (Install::locate()?, Run::create("rls-shared")?);
    let control_plane = control_plane(&install, &run, &[limit()]).await?;
    let stock = stock_envoy(&install, run.dir(), &control_plane).await?;
    let ours = Scene::synced(control_plane.xds(), &[limit()]).await?;
    let proxies = [stock.address(), ours.envoy.address()];
    for proxy in proxies {
        await_share(proxy).await?;
    }
    poll::until("two proxies to share the limit", DEADLINE, async || {
        let metrics = control_plane.page("/metrics").await?;
        let line = "kilocard_control_plane_quota_proxies 2";
        ensure!(metrics.lines().any(|found| found == line), "{metrics}");
        Ok(())
    })
    .await?;
    let answers = besiege(&proxies, 10).await?;
    for answer in &answers {
        ensure!([ADMITTED, REFUSED].contains(&answer.status.as_str()), "{answer:?}");
    }
    // As a share moves its burst may be spent here before and there after (ADR 0017).
    let law = Law {
        burst: 2 * LAW.burst,
        ..LAW
    };
    law.hold(&mut admitted(&answers))?;
    let used = used_at_the_end(&answers, Duration::from_secs(4));
    let page = control_plane.page("/metrics").await?;
    let through = page
        .lines()
        .find_map(|line| line.strip_prefix("kilocard_control_plane_rls_requests_total{code=\"ok\"} "));
    let by_stock: usize = through.context("nothing was counted")?.parse()?;
    ensure!(used >= 0.9, "{used} of the limit were let through");
    // They are asked for the same, so neither has much more than half.
    let all = admitted(&answers).len();
    ensure!(by_stock * 4 > all && by_stock * 4 < all * 3, "{by_stock} of {all}");
    Ok(())
}
