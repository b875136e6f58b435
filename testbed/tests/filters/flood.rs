//! Many requests, each with header names and values that were never seen before.

use super::filter::Filter;
use anyhow::{Context, Result, ensure};
use kilocard_testbed::harness::static_mesh::StaticMesh;

const REQUESTS: usize = 1500;
/// What an Envoy may grow by from one flood to the next: buffers, and its own bookkeeping of connections.
const TOLERATED_KB: u64 = 24 * 1024;

async fn flood(mesh: &StaticMesh, run: usize) -> Result<()> {
    for number in 0..REQUESTS {
        let names: Vec<String> = (0..20).map(|index| format!("x-{run}-{number}-{index}")).collect();
        let value = format!("value-{run}-{number}").repeat(8);
        let mut headers: Vec<(&str, &[u8])> = names.iter().map(|name| (name.as_str(), value.as_bytes())).collect();
        let (model, user) = (format!("model-{run}-{number}"), format!("user-{run}-{number}"));
        headers.push(("x-user-id", user.as_bytes()));
        if number % 2 == 0 {
            headers.push(("x-model", model.as_bytes()));
        }
        let reply = mesh.call(&headers).await?;
        ensure!(matches!(reply.grpc_status, Some(0 | 5)), "{reply:?}");
    }
    Ok(())
}

fn resident_kb(pid: u32) -> Result<u64> {
    let status = std::fs::read_to_string(format!("/proc/{pid}/status"))?;
    let line = status.lines().find_map(|line| line.strip_prefix("VmRSS:"));
    let number = line
        .and_then(|line| line.trim().strip_suffix(" kB"))
        .context("no VmRSS")?;
    Ok(number.parse()?)
}

#[tokio::test]
async fn a_flood_of_new_headers_makes_no_new_metrics_and_takes_no_memory() -> Result<()> {
    let filter = Filter::Gateway;
    let mut mesh = filter.start(&[]).await?;
    flood(&mesh, 0).await?;
    let metrics = async |mesh: &StaticMesh| -> Result<Vec<String>> {
        let stats = mesh.envoy.admin().stats("wasmcustom.").await?;
        Ok(stats.into_iter().map(|(name, _)| name).collect())
    };
    let (before, resident) = (metrics(&mesh).await?, resident_kb(mesh.envoy.pid())?);
    flood(&mesh, 1).await?;
    let (after, grown) = (metrics(&mesh).await?, resident_kb(mesh.envoy.pid())?);
    ensure!(before == after, "{before:?}\n{after:?}");
    ensure!(
        grown < resident + TOLERATED_KB,
        "from {resident} kB to {grown} kB by {REQUESTS} requests"
    );
    filter.check_unharmed(&mut mesh).await
}
