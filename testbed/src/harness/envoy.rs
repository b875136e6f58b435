//! Envoy as a process, and what its admin interface tells.

use crate::install::Install;
use crate::poll::{self, DEADLINE};
use crate::process::Process;
use anyhow::{Context, Result, bail, ensure};
use serde_json::Value;
use std::net::SocketAddr;
use std::path::{Path, PathBuf};
use std::process::Command;

/// One endpoint as Envoy has it.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Host {
    /// The cluster: `<model>/<version>`.
    pub cluster: String,
    /// Where it serves.
    pub address: SocketAddr,
    /// Whether Envoy would send requests to it.
    pub healthy: bool,
    /// Load-balancing weight.
    pub weight: u64,
}

/// The variants of the aggregated stream, by the `api_type` that asks for them (xDS protocol, "Four Variants").
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Ads {
    /// `DELTA_GRPC`: what has changed. As in the repository's bootstrap.
    Incremental,
    /// `GRPC`: all of a type at a time.
    StateOfTheWorld,
}

/// Envoy.
#[derive(Debug)]
pub struct Envoy {
    process: Process,
    bootstrap: PathBuf,
    address_file: PathBuf,
}

impl Envoy {
    /// One that is configured by the control plane at `xds`; its files go into `dir`. `zone` is where it says that it runs.
    ///
    /// # Errors
    /// If it cannot be started.
    pub fn start(install: &Install, dir: &Path, xds: SocketAddr, ads: Ads, zone: Option<&str>) -> Result<Self> {
        Self::start_with(install, dir, &documented_bootstrap(install, xds, ads)?, zone)
    }

    /// One with this bootstrap, which says that it is in this zone.
    ///
    /// # Errors
    /// If it cannot be started.
    pub fn start_with(install: &Install, dir: &Path, document: &Value, zone: Option<&str>) -> Result<Self> {
        let bootstrap = dir.join("bootstrap.yaml");
        std::fs::write(&bootstrap, serde_norway::to_string(document)?)?;
        let address_file = dir.join("envoy.admin");
        let _ = std::fs::remove_file(&address_file);
        let process = Self::launch(&install.envoy, dir, (&bootstrap, &address_file), zone)?;
        Ok(Self {
            process,
            bootstrap,
            address_file,
        })
    }

    fn launch(
        program: &Path,
        dir: &Path,
        (bootstrap, address_file): (&Path, &Path),
        zone: Option<&str>,
    ) -> Result<Process> {
        let mut command = Command::new(program);
        command
            .arg("--config-path")
            .arg(bootstrap)
            .arg("--admin-address-path")
            .arg(address_file)
            .args(["--concurrency", "2", "--disable-hot-restart", "--log-level", "info"]);
        if let Some(zone) = zone {
            command.args(["--service-zone", zone]);
        }
        Process::start("envoy", command, &dir.join("envoy.log"))
    }

    /// The bootstrap it was started with.
    ///
    /// # Errors
    /// If the file cannot be read back.
    pub fn bootstrap(&self) -> Result<String> {
        Ok(std::fs::read_to_string(&self.bootstrap)?)
    }

    /// Where its admin interface is.
    ///
    /// # Errors
    /// If it has not bound it yet.
    pub fn admin(&self) -> Result<SocketAddr> {
        let text =
            std::fs::read_to_string(&self.address_file).context("Envoy has not bound its admin interface yet")?;
        text.trim()
            .parse()
            .with_context(|| format!("Envoy's admin address {text:?}"))
    }

    /// A page of its admin interface.
    ///
    /// # Errors
    /// If it does not answer with success.
    pub async fn page(&self, path: &str) -> Result<String> {
        let url = format!("http://{}{path}", self.admin()?);
        Ok(reqwest::get(url).await?.error_for_status()?.text().await?)
    }

    /// A page of its admin interface that is JSON.
    ///
    /// # Errors
    /// If it does not answer with success, or with something else.
    pub async fn json(&self, path: &str) -> Result<Value> {
        Ok(serde_json::from_str(&self.page(path).await?)?)
    }

    /// The value of a counter or gauge; 0 for one that does not exist yet.
    ///
    /// # Errors
    /// If the admin interface does not answer.
    pub async fn stat(&self, name: &str) -> Result<u64> {
        // The page's own filter is a regular expression; names here hold only dots that would match too much.
        let page = self.page("/stats").await?;
        let line = page
            .lines()
            .find_map(|line| line.strip_prefix(name)?.strip_prefix(": "));
        Ok(line.map(str::parse).transpose()?.unwrap_or(0))
    }

    /// All counters and gauges whose name starts with `prefix`, with their values.
    ///
    /// # Errors
    /// If the admin interface does not answer.
    pub async fn stats(&self, prefix: &str) -> Result<Vec<(String, u64)>> {
        let page = self.page("/stats").await?;
        let parse = |line: &str| {
            let (name, value) = line.split_once(": ")?;
            Some((name.to_owned(), value.parse().ok()?))
        };
        Ok(page
            .lines()
            .filter(|line| line.starts_with(prefix))
            .filter_map(parse)
            .collect())
    }

    /// The names of its clusters.
    ///
    /// # Errors
    /// If the admin interface does not answer.
    pub async fn clusters(&self) -> Result<Vec<String>> {
        let page = self.json("/clusters?format=json").await?;
        let clusters = list(&page["cluster_statuses"]).iter();
        Ok(clusters
            .filter_map(|cluster| cluster["name"].as_str().map(str::to_owned))
            .collect())
    }

    /// Every endpoint of every cluster.
    ///
    /// # Errors
    /// If the admin interface does not answer.
    pub async fn hosts(&self) -> Result<Vec<Host>> {
        let page = self.json("/clusters?format=json").await?;
        let mut hosts = Vec::new();
        for cluster in list(&page["cluster_statuses"]) {
            for host in list(&cluster["host_statuses"]) {
                let socket = &host["address"]["socket_address"];
                let (Some(ip), Some(port)) = (socket["address"].as_str(), socket["port_value"].as_u64()) else {
                    continue;
                };
                let health = host["health_status"].as_object();
                let eds = host["health_status"]["eds_health_status"].as_str();
                let failed = health.is_some_and(|flags| flags.keys().any(|key| key.starts_with("failed")));
                hosts.push(Host {
                    cluster: cluster["name"].as_str().unwrap_or_default().to_owned(),
                    address: format!("{ip}:{port}").parse()?,
                    healthy: !failed && eds.is_none_or(|health| health == "HEALTHY" || health == "UNKNOWN"),
                    weight: host["weight"].as_u64().unwrap_or(1),
                });
            }
        }
        Ok(hosts)
    }

    /// Waits until Envoy has the endpoint and would send to it (`present`), or has it no longer.
    ///
    /// # Errors
    /// After the deadline, with what Envoy has.
    pub async fn await_endpoint(&mut self, address: SocketAddr, present: bool) -> Result<()> {
        let what = format!(
            "endpoint {address} to {} Envoy",
            if present { "reach" } else { "leave" }
        );
        poll::until(&what, DEADLINE, async || {
            if let Err(ended) = self.process.check() {
                return Ok(Err(ended));
            }
            let hosts = self.hosts().await?;
            let host = hosts.iter().find(|host| host.address == address);
            // A host that Envoy ejected for errors is still there.
            let reached = if present {
                host.is_some_and(|host| host.healthy)
            } else {
                host.is_none()
            };
            ensure!(reached, "{hosts:?}");
            Ok(Ok(()))
        })
        .await?
    }

    /// Waits until Envoy listens on this address.
    ///
    /// # Errors
    /// After the deadline, with what it listens on.
    pub async fn await_listener(&mut self, address: SocketAddr) -> Result<()> {
        poll::until(&format!("Envoy to listen on {address}"), DEADLINE, async || {
            if let Err(ended) = self.process.check() {
                return Ok(Err(ended));
            }
            let page = self.page("/listeners").await?;
            ensure!(page.contains(&address.to_string()), "it listens on {page:?}");
            Ok(Ok(()))
        })
        .await?
    }

    /// Its process.
    pub fn process_mut(&mut self) -> Option<&mut Process> {
        Some(&mut self.process)
    }
}

fn list(value: &Value) -> &[Value] {
    value.as_array().map_or(&[], Vec::as_slice)
}

/// The documented bootstrap of this repository with this run's addresses, so that what users copy is what is tested.
///
/// # Errors
/// If it cannot be read or has lost what is replaced here.
pub fn documented_bootstrap(install: &Install, xds: SocketAddr, ads: Ads) -> Result<Value> {
    let path = install.root.join("envoy/bootstrap.yaml");
    let text = std::fs::read_to_string(&path).with_context(|| format!("read {}", path.display()))?;
    let mut document: Value = serde_norway::from_str(&text).with_context(|| format!("parse {}", path.display()))?;
    let admin = document
        .pointer_mut("/admin/address/socket_address")
        .context("bootstrap.yaml has no admin address")?;
    *admin = serde_json::json!({"address": "127.0.0.1", "port_value": 0});
    let clusters = document
        .pointer_mut("/static_resources/clusters")
        .and_then(Value::as_array_mut);
    let Some([cluster]) = clusters.map(Vec::as_mut_slice) else {
        bail!("bootstrap.yaml must hold exactly one cluster, the control plane");
    };
    let endpoint = cluster
        .pointer_mut("/load_assignment/endpoints/0/lb_endpoints/0/endpoint/address/socket_address")
        .context("bootstrap.yaml's cluster has no endpoint")?;
    *endpoint = serde_json::json!({"address": xds.ip().to_string(), "port_value": xds.port()});
    // The example names a host to resolve; here it is an address.
    cluster["type"] = Value::from("STATIC");
    if ads == Ads::StateOfTheWorld {
        let api_type = document
            .pointer_mut("/dynamic_resources/ads_config/api_type")
            .context("bootstrap.yaml has no ads_config.api_type")?;
        *api_type = Value::from("GRPC");
    }
    Ok(document)
}
