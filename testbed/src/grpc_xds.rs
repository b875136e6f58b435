//! gRPC's stock Python client as a process: it learns from the control plane itself where to send (`xds:///<target>`), without
//! a proxy.

use crate::install;
use crate::tally::Tally;
use anyhow::{Context, Result, bail, ensure};
use serde::Deserialize;
use serde_json::json;
use std::collections::BTreeMap;
use std::fs::File;
use std::net::SocketAddr;
use std::path::{Path, PathBuf};
use std::process::Stdio;
use tokio::io::{AsyncBufReadExt, AsyncWriteExt, BufReader, Lines};
use tokio::process::{Child, ChildStdin, ChildStdout, Command};

const PROGRAM: &str = include_str!("../clients/grpc_xds.py");

/// Who it says that it is.
#[derive(Clone, Copy, Debug)]
pub struct Identity<'i> {
    /// `node.id`.
    pub id: &'i str,
    /// `node.locality.zone`.
    pub zone: &'i str,
}

/// The client; it ends with this value.
#[derive(Debug)]
pub struct GrpcXds {
    // Kills on drop; should this process be killed itself, the client's input ends and the client with it.
    _child: Child,
    stdin: ChildStdin,
    answers: Lines<BufReader<ChildStdout>>,
    log: PathBuf,
}

/// What became of some calls.
#[derive(Clone, Debug, Deserialize)]
pub struct Answers {
    by: BTreeMap<String, usize>,
    /// By status: how many, and what the last one said.
    pub failed: BTreeMap<String, (usize, String)>,
}

impl GrpcXds {
    /// Starts it with a bootstrap file of its own in `dir`.
    ///
    /// # Errors
    /// If there is no Python with gRPC, or it cannot be started.
    pub async fn start(dir: &Path, xds: SocketAddr, identity: Identity<'_>) -> Result<Self> {
        let bootstrap = dir.join(format!("{}.bootstrap.json", identity.id));
        let document = json!({
            "xds_servers": [{
                "server_uri": xds.to_string(),
                "channel_creds": [{"type": "insecure"}],
                "server_features": ["xds_v3"],
            }],
            "node": {"id": identity.id, "locality": {"zone": identity.zone}},
        });
        std::fs::write(&bootstrap, document.to_string())?;
        let log = dir.join(format!("{}.log", identity.id));
        let mut child = python_with_grpc()
            .await?
            .args(["-c", PROGRAM])
            .env("GRPC_XDS_BOOTSTRAP", &bootstrap)
            .stdin(Stdio::piped())
            .stdout(Stdio::piped())
            .stderr(File::create(&log)?)
            .spawn()?;
        let stdin = child.stdin.take().context("its input is a pipe")?;
        let stdout = child.stdout.take().context("its output is a pipe")?;
        Ok(Self {
            _child: child,
            stdin,
            answers: BufReader::new(stdout).lines(),
            log,
        })
    }

    /// Makes so many calls, one after another, to `xds:///<target>`.
    ///
    /// # Errors
    /// If the client has ended; failed calls are answers.
    pub async fn ask(&mut self, target: &str, calls: usize, metadata: &[(&str, &str)]) -> Result<Answers> {
        let line = json!({"target": format!("xds:///{target}"), "calls": calls, "metadata": metadata});
        let ended = || format!("the Python client has ended; see {}", self.log.display());
        self.stdin
            .write_all(format!("{line}\n").as_bytes())
            .await
            .with_context(ended)?;
        let answer = self.answers.next_line().await?.with_context(ended)?;
        serde_json::from_str(&answer).with_context(|| format!("the Python client printed {answer}"))
    }
}

impl Answers {
    /// Who answered, when everything was answered.
    ///
    /// # Errors
    /// If a call failed.
    pub fn all(&self) -> Result<Tally> {
        ensure!(self.failed.is_empty(), "calls failed: {:?}", self.failed);
        let mut tally = Tally::default();
        for (name, count) in &self.by {
            (0..*count).for_each(|_| tally.count(name.as_str()));
        }
        Ok(tally)
    }
}

/// A Python with the pinned gRPC or one of its own, whichever loads first.
async fn python_with_grpc() -> Result<Command> {
    let wheels = install::workspace_root()?.join(".tools/wheels");
    let pinned = std::fs::read_dir(&wheels)
        .into_iter()
        .flatten()
        .filter_map(|entry| Some(entry.ok()?.path()))
        .find(|path| {
            path.file_name()
                .is_some_and(|name| name.to_string_lossy().starts_with("grpcio-"))
        });
    for python in ["python3", "/usr/bin/python3"] {
        for path in [pinned.as_deref(), None] {
            let command = || {
                let mut command = Command::new(python);
                // Nothing is written beside what set-up has hashed.
                command.env("PYTHONDONTWRITEBYTECODE", "1").kill_on_drop(true);
                if let Some(path) = path {
                    command.env("PYTHONPATH", path);
                }
                command
            };
            let loaded = command().args(["-c", "import grpc"]).output().await;
            if loaded.is_ok_and(|output| output.status.success()) {
                return Ok(command());
            }
        }
    }
    bail!(
        "no Python here loads gRPC: `cargo xtask setup` fetches it for CPython 3.10 to 3.14 (after a change of Python, \
         delete {}/grpcio-* first); or install the package grpcio for python3",
        wheels.display()
    )
}
