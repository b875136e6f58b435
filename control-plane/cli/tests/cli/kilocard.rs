//! The built binary, run as a user would.

use serde_json::Value;
use std::io::Write;
use std::process::{Child, Command, Output, Stdio};

/// A finished run.
pub(crate) struct Run {
    pub(crate) code: i32,
    pub(crate) stdout: String,
    pub(crate) stderr: String,
}

impl Run {
    pub(crate) fn of(output: Output) -> Self {
        Self {
            code: output.status.code().expect("ended by a signal"),
            stdout: String::from_utf8(output.stdout).unwrap(),
            stderr: String::from_utf8(output.stderr).unwrap(),
        }
    }

    /// Standard output as JSON.
    pub(crate) fn json(&self) -> Value {
        serde_json::from_str(&self.stdout).unwrap_or_else(|error| panic!("{error}: {} {}", self.stdout, self.stderr))
    }

    /// Fails unless the exit code is this one.
    #[track_caller]
    pub(crate) fn expect(self, code: i32) -> Self {
        assert_eq!(self.code, code, "stdout:\n{}\nstderr:\n{}", self.stdout, self.stderr);
        self
    }
}

fn command(etcd: &str, arguments: &[&str]) -> Command {
    let mut command = Command::new(env!("CARGO_BIN_EXE_kilocard"));
    for variable in [
        "KILOCARD_ETCD",
        "KILOCARD_ETCD_PREFIX",
        "KILOCARD_ETCD_TIMEOUT_MS",
        "KILOCARD_CONTROL_PLANE",
    ] {
        command.env_remove(variable);
    }
    command.args(["--etcd", etcd]).args(arguments);
    command
}

/// Runs to the end.
pub(crate) fn kilocard(etcd: &str, arguments: &[&str]) -> Run {
    Run::of(command(etcd, arguments).output().unwrap())
}

/// Runs to the end with this standard input.
pub(crate) fn kilocard_with_input(etcd: &str, arguments: &[&str], input: &str) -> Run {
    let mut child = start(etcd, arguments);
    child.stdin.take().unwrap().write_all(input.as_bytes()).unwrap();
    Run::of(child.wait_with_output().unwrap())
}

/// Runs to the end with this standard output and no etcd.
pub(crate) fn kilocard_into(stdout: Stdio, arguments: &[&str]) -> Run {
    Run::of(command(&deserted_url(), arguments).stdout(stdout).output().unwrap())
}

/// Starts and does not wait.
pub(crate) fn start(etcd: &str, arguments: &[&str]) -> Child {
    let mut command = command(etcd, arguments);
    command
        .stdin(Stdio::piped())
        .stdout(Stdio::piped())
        .stderr(Stdio::piped())
        .spawn()
        .unwrap()
}

/// An address where nobody listens: bound, and let go at once.
pub(crate) fn deserted_url() -> String {
    let listener = std::net::TcpListener::bind("127.0.0.1:0").unwrap();
    format!("http://{}", listener.local_addr().unwrap())
}

/// A RoutingPolicy with two versions.
pub(crate) fn routing(name: &str, model: &str, canary: u32) -> String {
    let stable = 100 - canary;
    format!(
        "api_version: kilocard/v1\nkind: RoutingPolicy\nmetadata: {{name: {name}}}\nspec:\n  model: {model}\n  versions:\n  \
         - {{version: v1, weight: {stable}}}\n  - {{version: v2, weight: {canary}}}\n"
    )
}
