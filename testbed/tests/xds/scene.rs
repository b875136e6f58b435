//! A control plane over a folder of documents, with upstreams of the test's own process for workers: no etcd.

use anyhow::{Context, Result, ensure};
use kilocard_proto::inference::ServerReadyRequest;
use kilocard_registry::report::{NodeReport, NodeTypeReport};
use kilocard_testbed::harness::Run;
use kilocard_testbed::harness::control_plane::ControlPlane;
use kilocard_testbed::harness::envoy::{Ads, Envoy};
use kilocard_testbed::harness::upstream::Upstream;
use kilocard_testbed::install::Install;
use kilocard_testbed::poll::{self, DEADLINE};
use kilocard_testbed::process::GRACE;
use kilocard_testbed::raw;
use serde_json::{Value, json};
use std::fs;
use std::net::SocketAddr;
use std::path::Path;
use std::process::Command;

const MODEL: &str = "m";

/// Where everything is, and where the run writes.
pub(crate) struct Place {
    pub(crate) install: Install,
    pub(crate) run: Run,
}

impl Place {
    pub(crate) fn new(name: &str) -> Result<Self> {
        Ok(Self {
            install: Install::locate()?,
            run: Run::create(name)?,
        })
    }
}

/// What there is before the control plane starts.
#[derive(Default)]
pub(crate) struct Given<'g> {
    /// What the control plane is told besides its source.
    pub(crate) arguments: &'g [&'g str],
    /// The versions that have a worker.
    pub(crate) versions: &'g [&'g str],
    pub(crate) policies: &'g [Value],
}

/// The control plane and its workers. A test starts its Envoy after it, so that it is dropped before.
pub(crate) struct Scene {
    pub(crate) control_plane: ControlPlane,
    _workers: Vec<Upstream>,
    pub(crate) place: Place,
}

impl Scene {
    /// Returns once the control plane is ready.
    pub(crate) async fn start(place: Place, given: Given<'_>) -> Result<Self> {
        let source = place.run.dir().join("source");
        let mut workers = Vec::new();
        for version in given.versions {
            let worker = Upstream::start(version).await?;
            let record = json!({
                "id": version, "address": worker.address().to_string(), "node": "n1",
                "models": [{"model": MODEL, "version": version}],
            });
            write(&source.join("workers").join(version), &record)?;
            workers.push(worker);
        }
        given.policies.iter().try_for_each(|policy| put(&source, policy))?;
        let folder = source.display().to_string();
        let arguments = [&["--source-dir", &folder], given.arguments].concat();
        let control_plane =
            ControlPlane::start_alone(&place.install, place.run.dir(), "control-plane", &arguments).await?;
        control_plane.await_ready().await?;
        Ok(Self {
            control_plane,
            _workers: workers,
            place,
        })
    }

    /// An Envoy that is configured by it.
    pub(crate) fn start_envoy(&self, ads: Ads) -> Result<Envoy> {
        self.start_envoy_at(self.control_plane.xds(), ads)
    }

    /// An Envoy that is configured by whoever serves there.
    pub(crate) fn start_envoy_at(&self, xds: SocketAddr, ads: Ads) -> Result<Envoy> {
        Envoy::start(&self.place.install, self.place.run.dir(), xds, ads, None)
    }

    /// Writes a policy, or writes it anew: one of each kind.
    pub(crate) fn put(&self, policy: &Value) -> Result<()> {
        put(&self.place.run.dir().join("source"), policy)
    }

    /// That a request for this version is answered by its worker now.
    pub(crate) async fn ensure_served(&self, version: &str) -> Result<()> {
        self.ensure_answered(&[("x-model-version", version.as_bytes())], version)
            .await
    }

    /// That a request for no version is answered by the worker of this one now.
    pub(crate) async fn ensure_chosen(&self, version: &str) -> Result<()> {
        self.ensure_answered(&[], version).await
    }

    async fn ensure_answered(&self, headers: &[(&str, &[u8])], version: &str) -> Result<()> {
        let gateway = self.control_plane.gateway();
        let reply = raw::call(gateway, "ServerReady", headers, &ServerReadyRequest {}).await?;
        ensure!(reply.header("x-upstream") == Some(version), "{reply:?}");
        Ok(())
    }

    pub(crate) async fn await_served(&self, version: &str) -> Result<()> {
        let what = format!("{version} to be served");
        poll::until(&what, DEADLINE, async || self.ensure_served(version).await).await
    }

    /// Waits until the one proxy's report on a type (`Cluster`, `Secret`, …) is as `check` wants it.
    pub(crate) async fn await_report(
        &self,
        message: &str,
        what: &str,
        check: impl Fn(&NodeTypeReport) -> Result<()>,
    ) -> Result<NodeTypeReport> {
        poll::until(what, DEADLINE, async || {
            let report = self.control_plane.report().await?;
            let found = report.nodes.first().and_then(|node| of_type(node, message));
            let found = found.with_context(|| format!("{:?}", report.nodes))?;
            check(found).with_context(|| format!("{found:?}"))?;
            Ok(found.clone())
        })
        .await
    }

    /// What `kilocard status` prints.
    pub(crate) async fn kilocard_status(&self) -> Result<String> {
        let mut command = Command::new(&self.place.install.cli);
        command.arg("status").env(
            "KILOCARD_CONTROL_PLANE",
            format!("http://{}", self.control_plane.admin()),
        );
        let output = tokio::task::spawn_blocking(move || command.output()).await??;
        Ok(String::from_utf8_lossy(&output.stdout).into_owned())
    }

    /// Ends both and removes the run's folder.
    pub(crate) async fn finish(mut self, mut envoy: Envoy) -> Result<()> {
        if let Some(process) = envoy.process_mut() {
            process.drain(GRACE).await?;
        }
        self.control_plane.stop().await?;
        self.place.run.discard();
        Ok(())
    }
}

fn of_type<'n>(node: &'n NodeReport, message: &str) -> Option<&'n NodeTypeReport> {
    let mut types = node.types.iter();
    types.find(|report| report.type_url.rsplit('.').next() == Some(message))
}

/// A routing policy of the model by these weights.
pub(crate) fn routing(weights: &[(&str, u32)]) -> Value {
    let versions = weights
        .iter()
        .map(|(version, weight)| json!({"version": version, "weight": weight}));
    policy(
        "RoutingPolicy",
        &json!({"model": MODEL, "default": true, "versions": versions.collect::<Vec<_>>()}),
    )
}

/// A document of this kind.
pub(crate) fn policy(kind: &str, spec: &Value) -> Value {
    // The pool of what no other takes has this name; for the others it is one like another.
    json!({"api_version": "kilocard/v1", "kind": kind, "metadata": {"name": "default"}, "spec": spec})
}

fn put(source: &Path, policy: &Value) -> Result<()> {
    let kind = policy["kind"].as_str().context("a kind")?;
    write(&source.join("policies").join(kind), policy)
}

/// In one piece, as editors and `kubectl` do it.
fn write(path: &Path, document: &Value) -> Result<()> {
    fs::create_dir_all(path.parent().context("a folder")?)?;
    let beside = path.with_extension("beside");
    fs::write(&beside, document.to_string())?;
    fs::rename(beside, path.with_extension("yaml"))?;
    Ok(())
}
