//! The real Envoy among the simulated ones: what it ends with is what counts.

use super::proxy::Endpoints;
use crate::harness::envoy::{Ads, Envoy};
use crate::install::Install;
use crate::poll;
use anyhow::{Result, ensure};
use std::net::SocketAddr;
use std::path::Path;
use std::time::Duration;

/// A thousand others are served at the same time.
const PATIENCE: Duration = Duration::from_secs(120);

/// Envoy with the repository's own bootstrap.
#[derive(Debug)]
pub(super) struct Rider {
    envoy: Envoy,
}

impl Rider {
    pub(super) async fn start(install: &Install, dir: &Path, xds: SocketAddr) -> Result<Self> {
        let envoy = Envoy::start(install, dir, xds, Ads::Incremental, None)?;
        poll::until("Envoy to have endpoints", PATIENCE, async || {
            ensure!(!endpoints(&envoy).await?.is_empty(), "it has none");
            Ok(())
        })
        .await?;
        Ok(Self { envoy })
    }

    /// # Errors
    /// Unless it has exactly these endpoints with these weights.
    pub(super) async fn check(&self, expected: &Endpoints) -> Result<()> {
        let found = endpoints(&self.envoy).await?;
        let wrong = expected
            .iter()
            .filter(|(name, endpoints)| found.get(*name) != Some(*endpoints));
        let wrong: Vec<&String> = wrong.map(|(name, _)| name).collect();
        ensure!(wrong.is_empty(), "Envoy has other endpoints or weights in {wrong:?}");
        Ok(())
    }
}

/// Endpoints and weights by cluster of ours.
async fn endpoints(envoy: &Envoy) -> Result<Endpoints> {
    let mut clusters = Endpoints::new();
    for host in envoy.hosts().await? {
        if host.cluster.contains('/') {
            let endpoints = clusters.entry(host.cluster).or_default();
            endpoints.insert(host.address.to_string(), host.weight);
        }
    }
    Ok(clusters)
}
