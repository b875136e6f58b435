//! What an Envoy's admin interface tells.

use anyhow::Result;
use serde_json::Value;
use std::net::SocketAddr;

/// The admin interface of one Envoy.
#[derive(Clone, Copy, Debug)]
pub struct Admin {
    address: SocketAddr,
}

impl Admin {
    /// The one at this address.
    pub fn new(address: SocketAddr) -> Self {
        Self { address }
    }

    /// A page, as text.
    ///
    /// # Errors
    /// If it does not answer with success.
    pub async fn page(&self, path: &str) -> Result<String> {
        let url = format!("http://{}{path}", self.address);
        Ok(reqwest::get(url).await?.error_for_status()?.text().await?)
    }

    /// A page that is JSON.
    ///
    /// # Errors
    /// If it does not answer with success, or with something else.
    pub async fn json(&self, path: &str) -> Result<Value> {
        Ok(serde_json::from_str(&self.page(path).await?)?)
    }

    /// All counters and gauges whose name starts with `prefix`, with their values.
    ///
    /// # Errors
    /// If the interface does not answer.
    pub async fn stats(&self, prefix: &str) -> Result<Vec<(String, u64)>> {
        let parse = |line: &str| {
            let (name, value) = line.split_once(": ")?;
            Some((name.to_owned(), value.parse().ok()?))
        };
        let page = self.page("/stats").await?;
        Ok(page
            .lines()
            .filter(|line| line.starts_with(prefix))
            .filter_map(parse)
            .collect())
    }

    /// The value of a counter or gauge; 0 for one that does not exist yet.
    ///
    /// # Errors
    /// If the interface does not answer.
    pub async fn stat(&self, name: &str) -> Result<u64> {
        let stats = self.stats(name).await?;
        Ok(stats
            .iter()
            .find_map(|(found, value)| (found == name).then_some(*value))
            .unwrap_or(0))
    }
}
