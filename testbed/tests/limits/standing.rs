//! What `kilocard status` shows of limits that real proxies share.

use super::rls::control_plane;
use super::scene::Scene;
use super::shares::{await_share, besiege, limit};
use anyhow::{Context, Result, ensure};
use kilocard_registry::report::MeshReport;
use kilocard_testbed::harness::Run;
use kilocard_testbed::install::Install;
use kilocard_testbed::poll::{self, DEADLINE};
use std::process::Command;

#[tokio::test]
#[expect(clippy::print_stdout, reason = "the text is quoted in the docs")]
async fn the_status_shows_who_has_how_much_of_a_limit_of_the_mesh() -> Result<()> {
    let (install, run) = (Install::locate()?, Run::create("standing")?);
    let control_plane = control_plane(&install, &run, &[limit()]).await?;
    let xds = control_plane.xds();
    let (busy, idle) = (
        Scene::synced(xds, &[limit()]).await?,
        Scene::synced(xds, &[limit()]).await?,
    );
    for proxy in [&busy, &idle] {
        await_share(proxy.envoy.address()).await?;
    }
    let url = format!("http://{}", control_plane.admin());
    let status = async |flags: &[&str]| {
        let mut command = Command::new(&install.cli);
        command.args(["status", "--control-plane", &url]).args(flags);
        let output = tokio::task::spawn_blocking(move || command.output())
            .await?
            .context("run kilocard")?;
        ensure!(output.status.success(), "{}", String::from_utf8_lossy(&output.stderr));
        Ok(String::from_utf8_lossy(&output.stdout).into_owned())
    };
    let only = [busy.envoy.address()];
    let siege = tokio::spawn(async move { besiege(&only, 8).await });
    let text = poll::until("the busy proxy to have most of the limit", DEADLINE, async || {
        let report: MeshReport = serde_json::from_str(&status(&["-o", "json"]).await?)?;
        let limits = report.limits;
        ensure!(
            limits.divided_here && limits.proxies_total == 2 && limits.proxies_waiting == 0,
            "{limits:?}"
        );
        ensure!(
            limits.proxies.iter().all(|proxy| proxy.base_percent == 50.0),
            "{limits:?}"
        );
        let key = limits.policies.first().and_then(|policy| policy.keys.largest.first());
        let key = key.with_context(|| format!("no key has leases: {limits:?}"))?;
        ensure!(key.largest_share_percent > 90.0 && key.used_percent <= 100.0, "{key:?}");
        status(&[]).await
    })
    .await?;
    println!("{text}");
    for expected in [
        "divided among 2 proxies",
        "shared  200 requests a second, at most 100 at once  1",
        "shared  everybody",
        "50.0%       1",
    ] {
        ensure!(text.contains(expected), "{expected:?} is not in\n{text}");
    }
    siege.await??;
    Ok(())
}
