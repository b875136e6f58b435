//! What `kilocard plan --replay` says beforehand of a limit, against what the limit then does.

use super::answers::start;
use super::scene::rate_limits;
use anyhow::{Context, Result, ensure};
use kilocard_testbed::harness::static_mesh::{StaticMesh, all_to_v1};
use kilocard_testbed::install::Install;
use kilocard_testbed::poll::{self, DEADLINE};
use serde_json::{Value, json};
use std::path::Path;
use std::process::Command;

const BURST: usize = 10;
/// Requests of each tenant.
const ASKED: [(&str, usize); 2] = [("acme", 30), ("globex", 4)];

/// Nothing comes back while the test runs.
fn limit() -> Value {
    let limits = json!([{"unit": "requests", "rate": 1, "per": "day", "burst": BURST}]);
    rate_limits("tenants", &json!({"by": ["tenant"], "limits": limits}))
}

/// Asks as each tenant; how many of each are refused.
async fn ask(mesh: &StaticMesh) -> Result<Vec<usize>> {
    let mut all = Vec::new();
    for (tenant, requests) in ASKED {
        let mut refused = 0;
        for _ in 0..requests {
            let reply = mesh.call(&[("x-tenant-id", tenant.as_bytes())]).await?;
            ensure!(matches!(reply.grpc_status, Some(0 | 8)), "{reply:?}");
            refused += usize::from(reply.grpc_status == Some(8));
        }
        all.push(refused);
    }
    Ok(all)
}

#[tokio::test]
async fn whom_a_limit_will_refuse_is_known_before_it_is_applied() -> Result<()> {
    let capture = json!({"api_version": "kilocard/v1", "kind": "MeshPolicy", "metadata": {"name": "mesh"},
        "spec": {"capture": {"percent": 100}}});
    let open = start(std::slice::from_ref(&capture)).await?;
    ensure!(ask(&open).await? == [0, 0], "refused without a limit");
    let all: usize = ASKED.iter().map(|(_, requests)| requests).sum();
    let lines = poll::until("a captured request for each", DEADLINE, async || {
        let mut lines = open.envoy.access_log()?;
        lines.retain(|line| line["capture"].is_string());
        ensure!(lines.len() == all, "{} of {all}", lines.len());
        Ok(lines)
    })
    .await?;

    let dir = tempfile::tempdir()?;
    let told = plan(dir.path(), &[all_to_v1(), capture.clone()], &lines)?;
    let beyond = ASKED[0].1 - BURST;
    ensure!(
        told["requests"] == all && told["refused"] == json!({"now": 0, "then": beyond}),
        "{told}"
    );
    let limited = &told["limits"][0];
    ensure!(
        limited["limit"] == "tenants.requests" && limited["keys"].as_array().is_some_and(|keys| keys.len() == 1),
        "{told}"
    );

    let strict = start(&[capture, limit()]).await?;
    ensure!(ask(&strict).await? == [beyond, 0], "the plan said {told}");
    Ok(())
}

/// What `kilocard plan` tells of limits, if the limit is added to these documents.
fn plan(dir: &Path, now: &[Value], log: &[Value]) -> Result<Value> {
    let write = |name: &str, text: &str| {
        let path = dir.join(name);
        std::fs::write(&path, text).map(|()| path)
    };
    let lines = |values: &[Value], between: &str| values.iter().map(Value::to_string).collect::<Vec<_>>().join(between);
    let now = write("now.yaml", &lines(now, "\n---\n"))?;
    let next = write("next.yaml", &limit().to_string())?;
    let log = write("access.log", &lines(log, "\n"))?;
    let mut command = Command::new(Install::locate()?.cli);
    command.args(["plan", "-o", "json", "--against"]).arg(now);
    command.arg("-f").arg(next).arg("--replay").arg(log);
    let output = command.output().context("run kilocard")?;
    let words = String::from_utf8_lossy(&output.stderr);
    ensure!(
        output.status.success(),
        "kilocard plan ended with {}: {words}",
        output.status
    );
    let mut plan: Value = serde_json::from_slice(&output.stdout)?;
    Ok(plan["replay"]["limits"].take())
}
