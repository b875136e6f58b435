//! One way to write documents for both sources, and to look at what the control plane makes of them.

use anyhow::{Context, Result, ensure};
use etcd_client::{Txn, TxnOp};
use kilocard_registry::layout::{Key, Layout, PolicyId};
use kilocard_registry::policy_status::{PolicyState, PolicyStatus};
use kilocard_registry::report::{MeshReport, PolicyReport};
use kilocard_testbed::harness::Run;
use kilocard_testbed::harness::control_plane::ControlPlane;
use kilocard_testbed::harness::etcd::Etcd;
use kilocard_testbed::install::Install;
use kilocard_testbed::poll::{self, DEADLINE};
use serde_json::{Value, json};
use std::fs;
use std::path::{Path, PathBuf};

/// Text that is neither JSON nor YAML.
pub(crate) const BROKEN: &str = "kind: [";

/// Where documents are written.
pub(crate) enum Store {
    Etcd(Box<Etcd>),
    /// The folder, beside which verdicts are written.
    Folder(PathBuf),
}

impl Store {
    pub(crate) async fn etcd(install: &Install, run: &Run) -> Result<Self> {
        Ok(Self::Etcd(Box::new(Etcd::start(install, run.dir()).await?)))
    }

    pub(crate) fn folder(run: &Run) -> Result<Self> {
        let root = run.dir().join("source");
        for room in ["policies", "devices/gpu", "workers"] {
            fs::create_dir_all(root.join(room))?;
        }
        Ok(Self::Folder(root))
    }

    /// What the control plane is started with.
    pub(crate) fn arguments(&self) -> Vec<String> {
        match self {
            Self::Etcd(etcd) => vec!["--etcd".to_owned(), etcd.endpoint()],
            Self::Folder(root) => {
                let [root, statuses] = [root.clone(), statuses(root)].map(|path| path.display().to_string());
                vec!["--source-dir".to_owned(), root, "--status-dir".to_owned(), statuses]
            }
        }
    }

    /// Takes it away, as a loss of etcd or of a volume does.
    pub(crate) async fn vanish(&mut self) -> Result<()> {
        match self {
            Self::Etcd(etcd) => etcd.stop().await,
            Self::Folder(root) => Ok(fs::rename(&*root, root.with_extension("away"))?),
        }
    }

    /// Ends [`Store::vanish`].
    pub(crate) async fn return_again(&mut self) -> Result<()> {
        match self {
            Self::Etcd(etcd) => etcd.restart().await,
            Self::Folder(root) => Ok(fs::rename(root.with_extension("away"), &*root)?),
        }
    }

    pub(crate) async fn put(&mut self, key: Key, value: &Value) -> Result<()> {
        self.put_text(key, &value.to_string()).await
    }

    pub(crate) async fn put_text(&mut self, key: Key, text: &str) -> Result<()> {
        match self {
            Self::Etcd(etcd) => {
                let key = Layout::default().key(&key);
                etcd.client().await?.put(key, text, None).await?;
            }
            Self::Folder(root) => {
                let path = path(root, &key);
                fs::create_dir_all(path.parent().context("a folder")?)?;
                // As `kubectl`, editors and rsync do it.
                let beside = path.with_file_name(".beside");
                fs::write(&beside, text)?;
                fs::rename(beside, path)?;
            }
        }
        Ok(())
    }

    /// Removes all of them at once.
    pub(crate) async fn delete(&mut self, keys: &[Key]) -> Result<()> {
        match self {
            Self::Etcd(etcd) => {
                let layout = Layout::default();
                let deletions = keys.iter().map(|key| TxnOp::delete(layout.key(key), None));
                let transaction = Txn::new().and_then(deletions.collect::<Vec<_>>());
                etcd.client().await?.txn(transaction).await?;
            }
            Self::Folder(root) => {
                for key in keys {
                    fs::remove_file(path(root, key))?;
                }
            }
        }
        Ok(())
    }

    /// The verdict as it stands beside the policies, for whoever does not ask the control plane.
    pub(crate) async fn verdict(&self, name: &str) -> Result<PolicyStatus> {
        let bytes = match self {
            Self::Etcd(etcd) => {
                let key = Layout::default().key(&Key::PolicyStatus(routing_id(name)));
                let found = etcd.client().await?.get(key, None).await?;
                found.kvs().first().context("no verdict")?.value().to_vec()
            }
            Self::Folder(root) => fs::read(statuses(root).join(format!("policies/RoutingPolicy/{name}.json")))?,
        };
        Ok(serde_json::from_slice(&bytes)?)
    }
}

fn statuses(root: &Path) -> PathBuf {
    root.with_extension("status")
}

/// Where the record of a key is in a folder.
fn path(root: &Path, key: &Key) -> PathBuf {
    let layout = Layout::default();
    let key = layout.key(key);
    root.join(format!("{}.yaml", key.strip_prefix(&layout.root()).unwrap_or(&key)))
}

pub(crate) fn routing_id(name: &str) -> PolicyId {
    PolicyId::new("RoutingPolicy", name)
}

pub(crate) fn routing_key(name: &str) -> Key {
    Key::Policy(routing_id(name))
}

pub(crate) fn worker_key(id: &str) -> Key {
    Key::Worker(id.to_owned())
}

/// A routing policy of the model of the same name, all to `v1`.
pub(crate) fn routing(name: &str, default: bool, salt: &str) -> Value {
    json!({
        "api_version": "kilocard/v1", "kind": "RoutingPolicy", "metadata": {"name": name},
        "spec": {"model": name, "default": default, "salt": salt, "versions": [{"version": "v1", "weight": 100}]},
    })
}

/// A worker of `m/v1` that nobody has to reach.
pub(crate) fn worker(id: &str, port: u16) -> Value {
    json!({
        "id": id, "address": format!("127.0.0.1:{port}"), "node": "n1",
        "models": [{"model": "m", "version": "v1"}],
    })
}

/// Waits until the report is as `check` wants it.
pub(crate) async fn eventually(
    control_plane: &ControlPlane,
    what: &str,
    check: impl Fn(&MeshReport) -> Result<()>,
) -> Result<MeshReport> {
    poll::until(what, DEADLINE, async || {
        let report = control_plane.report().await?;
        check(&report)?;
        Ok(report)
    })
    .await
}

/// The verdict on a policy in the report.
pub(crate) fn policy<'a>(report: &'a MeshReport, name: &str) -> Result<&'a PolicyReport> {
    let found = report.policies.iter().find(|policy| policy.name == name);
    found.with_context(|| format!("no verdict on {name}: {:?}", report.policies))
}

/// That the policy's newest document is in force; gives its revision.
pub(crate) fn accepted(report: &MeshReport, name: &str) -> Result<i64> {
    let status = &policy(report, name)?.status;
    ensure!(
        status.state == PolicyState::Accepted && status.serving_revision == Some(status.revision),
        "{status:?}"
    );
    Ok(status.revision)
}

/// That the policy's newest document is refused while this older one is served; gives the reasons.
pub(crate) fn refused(report: &MeshReport, name: &str, serving: Option<i64>) -> Result<String> {
    let status = &policy(report, name)?.status;
    ensure!(
        status.state == PolicyState::Rejected && status.serving_revision == serving,
        "{status:?}"
    );
    let reasons = status
        .errors
        .iter()
        .map(|error| format!("{}: {}", error.path, error.message));
    Ok(reasons.collect::<Vec<_>>().join("; "))
}

/// The workers that proxies are given for `m/v1`.
pub(crate) fn endpoints(report: &MeshReport) -> Vec<&str> {
    let clusters = report.clusters.iter().filter(|cluster| cluster.model == "m");
    let endpoints = clusters.flat_map(|cluster| &cluster.endpoints);
    endpoints.map(|endpoint| endpoint.worker.as_str()).collect()
}
