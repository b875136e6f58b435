//! A limit that all proxies share: three real Envoys, of which one joins and one is killed, and a control plane that is
//! killed. Together they never let through more than the limit.

use super::law::{Law, admitted, within};
use super::scene::{ADMITTED, Scene, ask, rate_limits};
use anyhow::{Result, ensure};
use kilocard_proto::inference::ServerReadyRequest;
use kilocard_testbed::harness::Run;
use kilocard_testbed::harness::control_plane::ControlPlane;
use kilocard_testbed::harness::etcd::Etcd;
use kilocard_testbed::install::Install;
use kilocard_testbed::open_loop::{Answer, OpenLoop};
use kilocard_testbed::poll::{self, DEADLINE};
use kilocard_testbed::raw;
use serde_json::{Value, json};
use std::net::SocketAddr;
use std::time::Duration;
use tokio::task::JoinSet;

/// Each proxy's part of the burst is at least a request.
pub(crate) const LAW: Law = Law { rate: 200, burst: 100 };
/// What each proxy is asked, whatever its share: all of the limit, and half as much again.
const LOAD: u32 = 300;

pub(crate) fn limit() -> Value {
    let spec = json!({"scope": "mesh", "limits": [{"unit": "requests", "rate": LAW.rate, "burst": LAW.burst}]});
    rate_limits("shared", &spec)
}

/// Every proxy besieged for so long, at the same time.
pub(crate) async fn besiege(proxies: &[SocketAddr], seconds: u32) -> Result<Vec<Answer>> {
    let load = OpenLoop {
        requests: LOAD * seconds,
        rate: LOAD,
        connections: 4,
    };
    let mut sieges = JoinSet::new();
    for proxy in proxies.iter().copied() {
        sieges.spawn(async move { load.answers(proxy, &[ask(&[])]).await });
    }
    let mut answers = Vec::new();
    while let Some(of_one) = sieges.join_next().await {
        answers.extend(of_one??);
    }
    Ok(answers)
}

/// What part of the limit was let through in the last seconds of a siege.
pub(crate) fn used_at_the_end(answers: &[Answer], last: Duration) -> f64 {
    let Some(end) = answers.iter().map(|answer| answer.sent).max() else {
        return 0.0;
    };
    let Some(begin) = end.checked_sub(last) else { return 0.0 };
    within(&admitted(answers), begin, end) as f64 / (f64::from(LAW.rate) * last.as_secs_f64())
}

pub(crate) async fn await_share(proxy: SocketAddr) -> Result<()> {
    poll::until("a proxy to get a share", DEADLINE, async || {
        let reply = raw::call(proxy, "ServerReady", &[], &ServerReadyRequest {}).await?;
        ensure!(reply.grpc_status == Some(12), "{}", reply.grpc_message);
        Ok(())
    })
    .await
}

#[tokio::test]
#[expect(clippy::print_stdout, reason = "the figures are quoted in the docs")]
async fn proxies_that_come_and_go_never_let_through_more_than_the_limit() -> Result<()> {
    let install = Install::locate()?;
    let run = Run::create("shares")?;
    let etcd = Etcd::start(&install, run.dir()).await?;
    let mut control_plane = ControlPlane::start(&install, run.dir(), &etcd.endpoint()).await?;
    let xds = control_plane.xds();
    let (first, second) = (
        Scene::synced(xds, &[limit()]).await?,
        Scene::synced(xds, &[limit()]).await?,
    );
    for proxy in [&first, &second] {
        await_share(proxy.envoy.address()).await?;
    }
    let mut all = besiege(&[first.envoy.address(), second.envoy.address()], 6).await?;
    let two = used_at_the_end(&all, Duration::from_secs(2));

    let third = Scene::synced(xds, &[limit()]).await?;
    await_share(third.envoy.address()).await?;
    let proxies = [first.envoy.address(), second.envoy.address(), third.envoy.address()];
    let joined = besiege(&proxies, 10).await?;
    let three = used_at_the_end(&joined, Duration::from_secs(2));
    all.extend(joined);

    drop(first);
    let proxies = [second.envoy.address(), third.envoy.address()];
    let left = besiege(&proxies, 10).await?;
    let killed = used_at_the_end(&left, Duration::from_secs(2));
    all.extend(left);

    control_plane.kill().await?;
    // Leases end within 10 s; then each of the two has the third that it had.
    let alone = besiege(&proxies, 16).await?;
    let lost = used_at_the_end(&alone, Duration::from_secs(3));
    all.extend(alone);

    println!("of the limit: two {two:.3}, three {three:.3}, one killed {killed:.3}, control plane killed {lost:.3}");
    ensure!(
        all.iter().filter(|answer| answer.status == ADMITTED).count() > 1000,
        "hardly anything was let through"
    );
    LAW.hold(&mut admitted(&all))?;
    ensure!(two >= 0.9, "two proxies let through {two} of the limit");
    ensure!(three >= 0.9, "three proxies let through {three} of the limit");
    ensure!(killed >= 0.6, "two of three let through {killed} of the limit");
    ensure!(
        lost >= 0.6,
        "without the control plane {lost} of the limit are let through"
    );
    Ok(())
}

#[tokio::test]
async fn a_proxy_that_is_restarted_has_the_share_that_it_had() -> Result<()> {
    let install = Install::locate()?;
    let run = Run::create("restarts")?;
    let etcd = Etcd::start(&install, run.dir()).await?;
    let control_plane = ControlPlane::start(&install, run.dir(), &etcd.endpoint()).await?;
    let xds = control_plane.xds();
    let healthy = Scene::synced_as("healthy", xds, &[limit()]).await?;
    await_share(healthy.envoy.address()).await?;
    for _ in 0..3 {
        let restarting = Scene::synced_as("restarting", xds, &[limit()]).await?;
        // Without it, those before would hold their shares for ten minutes, and this one would have less each time.
        await_share(restarting.envoy.address()).await?;
    }
    poll::until("two proxies to share the limit evenly", DEADLINE, async || {
        let metrics = control_plane.page("/metrics").await?;
        for line in [
            "kilocard_control_plane_quota_proxies 2",
            "kilocard_control_plane_quota_proxies_succeeded 2",
        ] {
            ensure!(metrics.lines().any(|found| found == line), "{metrics}");
        }
        Ok(())
    })
    .await
}
