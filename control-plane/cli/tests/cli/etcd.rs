//! A real etcd for one test: own ports, own data folder, gone at the end.

use etcd_client::Client;
use kilocard_registry::connect::EtcdArgs;
use kilocard_testbed::process::Process;
use std::net::TcpListener;
use std::path::{Path, PathBuf};
use std::process::Command;
use std::time::{Duration, Instant};
use tempfile::TempDir;

const PATIENCE: Duration = Duration::from_secs(60);
const PREFIX: &str = "/kilocard/v1";

/// A running etcd, which ends with the test, however that ends.
pub(crate) struct Etcd {
    process: Process,
    endpoint: String,
    // After the process, since fields are dropped in order.
    data: TempDir,
}

impl Etcd {
    /// Starts one and waits until it answers.
    pub(crate) async fn start() -> Self {
        let deadline = Instant::now() + PATIENCE;
        // Between finding a free port and etcd's binding it, another process may take it; then etcd ends, and we try
        // other ports.
        while Instant::now() < deadline {
            let mut etcd = Self::spawn();
            while Instant::now() < deadline && etcd.process.check().is_ok() {
                if etcd.args().connect().await.is_ok() && etcd.process.check().is_ok() {
                    return etcd;
                }
                tokio::time::sleep(Duration::from_millis(20)).await;
            }
        }
        panic!("etcd did not start within {PATIENCE:?}");
    }

    fn spawn() -> Self {
        let data = tempfile::tempdir().unwrap();
        let (client, peer) = (free_url(), free_url());
        let mut command = Command::new(find_etcd());
        command.arg("--data-dir").arg(data.path().join("etcd"));
        command.args(["--listen-client-urls", &client, "--advertise-client-urls", &client]);
        command.args(["--listen-peer-urls", &peer, "--initial-advertise-peer-urls", &peer]);
        command.args([
            "--initial-cluster",
            &format!("default={peer}"),
            "--log-level",
            "error",
            "--unsafe-no-fsync",
        ]);
        let process = Process::start("etcd", command, &data.path().join("etcd.log")).unwrap();
        Self {
            process,
            endpoint: client,
            data,
        }
    }

    /// As the binaries' flags say it.
    pub(crate) fn args(&self) -> EtcdArgs {
        EtcdArgs {
            endpoints: vec![self.endpoint.clone()],
            prefix: PREFIX.to_owned(),
            timeout_ms: 5000,
            ..EtcdArgs::default()
        }
    }

    /// A client of it.
    pub(crate) async fn client(&self) -> Client {
        self.args().connect().await.unwrap()
    }

    /// For `--etcd`.
    pub(crate) fn endpoint(&self) -> &str {
        &self.endpoint
    }

    /// A folder for the test's own files.
    pub(crate) fn folder(&self) -> &Path {
        self.data.path()
    }

    /// The value under a key below the prefix, as JSON.
    pub(crate) async fn value(&self, key: &str) -> Option<serde_json::Value> {
        let answer = self.client().await.get(format!("{PREFIX}/{key}"), None).await.unwrap();
        answer
            .kvs()
            .first()
            .map(|kv| serde_json::from_slice(kv.value()).unwrap())
    }

    /// Writes a value under a key below the prefix; gives its revision.
    pub(crate) async fn put(&self, key: &str, value: impl ToString) -> i64 {
        let answer = self
            .client()
            .await
            .put(format!("{PREFIX}/{key}"), value.to_string(), None)
            .await
            .unwrap();
        answer.header().unwrap().revision()
    }

    /// Waits until there is a key below the prefix; gives its revision.
    pub(crate) async fn revision_of(&self, key: &str) -> i64 {
        let mut client = self.client().await;
        let deadline = Instant::now() + PATIENCE;
        while Instant::now() < deadline {
            let answer = client.get(format!("{PREFIX}/{key}"), None).await.unwrap();
            if let Some(kv) = answer.kvs().first() {
                return kv.mod_revision();
            }
            tokio::time::sleep(Duration::from_millis(10)).await;
        }
        panic!("{key} did not appear within {PATIENCE:?}");
    }
}

fn free_url() -> String {
    let listener = TcpListener::bind("127.0.0.1:0").unwrap();
    format!("http://{}", listener.local_addr().unwrap())
}

/// The one that `KILOCARD_ETCD_BIN` names, the one of `cargo xtask setup`, or one on the PATH, as the testbed chooses.
fn find_etcd() -> PathBuf {
    let given = std::env::var_os("KILOCARD_ETCD_BIN").map(PathBuf::from);
    let tools = Path::new(env!("CARGO_MANIFEST_DIR")).join("../../.tools/bin/etcd");
    let path = std::env::var_os("PATH").unwrap_or_default();
    let on_path = std::env::split_paths(&path).map(|folder| folder.join("etcd"));
    let found = given
        .into_iter()
        .chain([tools])
        .chain(on_path)
        .find(|file| file.is_file());
    found.expect("etcd is neither in .tools/bin nor on the PATH; run `cargo xtask setup`")
}
