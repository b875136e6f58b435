//! `up` and `down`, as a user calls them.

use anyhow::{Context, Result, ensure};
use kilocard_testbed::poll::{self, DEADLINE};
use serde_json::Value;
use std::fs;
use std::path::Path;
use std::process::{Child, Command, Output, Stdio};

fn testbed(state: &Path, arguments: &[&str]) -> Command {
    let mut command = Command::new(env!("CARGO_BIN_EXE_kilocard-testbed"));
    command.args(arguments).env("KILOCARD_TESTBED_DIR", state);
    command
}

fn said(output: &Output) -> String {
    format!(
        "{}{}",
        String::from_utf8_lossy(&output.stdout),
        String::from_utf8_lossy(&output.stderr)
    )
}

/// Ends `up` if the test fails half-way; its children go with it.
struct Up(Child);

impl Drop for Up {
    fn drop(&mut self) {
        let _ = self.0.kill();
        let _ = self.0.wait();
    }
}

async fn addresses(state: &Path, up: &mut Up) -> Result<Value> {
    poll::until("endpoints.json", DEADLINE, async || {
        if let Some(status) = up.0.try_wait()? {
            return Ok(Err(anyhow::anyhow!("up ended with {status}")));
        }
        Ok(Ok(serde_json::from_slice(&fs::read(state.join("endpoints.json"))?)?))
    })
    .await?
}

#[tokio::test]
async fn what_is_up_serves_is_up_once_and_leaves_nothing_when_it_is_down() -> Result<()> {
    let state = tempfile::tempdir()?;
    let state = state.path();
    let mut up = Up(testbed(state, &["up"])
        .stdout(Stdio::null())
        .stderr(Stdio::null())
        .spawn()?);
    let endpoints = addresses(state, &mut up).await?;

    let again = testbed(state, &["up"]).output()?;
    ensure!(
        !again.status.success() && said(&again).contains("already up"),
        "{}",
        said(&again)
    );

    let infer = testbed(state, &["infer", "-H", "x-model-version: v2", "a cat", "a kitten"]).output()?;
    ensure!(
        infer.status.success() && said(&infer).contains("served by v2-a (v2)"),
        "{}",
        said(&infer)
    );
    let status = endpoints["commands"]["status"].as_str().context("a command to paste")?;
    let status = Command::new("/bin/sh").args(["-c", status]).output()?;
    ensure!(
        status.status.success() && said(&status).contains("v1-a"),
        "{}",
        said(&status)
    );

    let down = testbed(state, &["down"]).output()?;
    ensure!(
        down.status.success() && said(&down).contains("has ended"),
        "{}",
        said(&down)
    );
    ensure!(up.0.wait()?.success(), "up ends well when it is told to");
    let pids: Vec<&Value> = endpoints["pids"]
        .as_object()
        .into_iter()
        .flat_map(|pids| pids.values())
        .collect();
    ensure!(pids.len() == 6, "etcd, control plane, three workers, Envoy: {pids:?}");
    for pid in pids {
        ensure!(!Path::new(&format!("/proc/{pid}")).exists(), "{pid} still runs");
    }
    let left: Vec<_> = fs::read_dir(state)?
        .filter_map(|entry| Some(entry.ok()?.file_name()))
        .collect();
    ensure!(left == ["up.lock"], "{left:?}");

    let nothing = testbed(state, &["down"]).output()?;
    ensure!(
        nothing.status.success() && said(&nothing).contains("no testbed is up"),
        "{}",
        said(&nothing)
    );
    Ok(())
}
