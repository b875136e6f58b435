//! How a process reaches etcd: the flags that every Kilocard binary shares, and the client made from them.

use crate::layout::{DEFAULT_PREFIX, InvalidPrefix, Layout};
use clap::Args;
use etcd_client::{Client, ConnectOptions};
use std::time::Duration;

/// A dead connection is noticed within this time: etcd may vanish without a FIN.
const KEEP_ALIVE: Duration = Duration::from_secs(3);

/// The flags for reaching etcd, flattened into each binary's own.
#[derive(Args, Clone, Debug)]
pub struct EtcdArgs {
    /// etcd endpoints, comma-separated
    #[arg(
        long = "etcd",
        env = "KILOCARD_ETCD",
        value_delimiter = ',',
        default_value = "http://127.0.0.1:2379"
    )]
    pub endpoints: Vec<String>,
    /// Key prefix under which this mesh lives
    #[arg(long = "etcd-prefix", env = "KILOCARD_ETCD_PREFIX", default_value = DEFAULT_PREFIX)]
    pub prefix: String,
    /// Time allowed for connecting and for one request, in milliseconds
    #[arg(long = "etcd-timeout-ms", env = "KILOCARD_ETCD_TIMEOUT_MS", default_value_t = 3000)]
    pub timeout_ms: u64,
}

/// Why etcd cannot be used.
#[derive(Debug, thiserror::Error)]
pub enum ConnectError {
    /// The prefix flag is wrong.
    #[error(transparent)]
    Prefix(#[from] InvalidPrefix),
    /// No endpoint answered.
    #[error("cannot reach etcd at {endpoints}: {source}; is it running, and is --etcd right?")]
    Unreachable {
        /// What was tried.
        endpoints: String,
        /// What the client said.
        source: etcd_client::Error,
    },
}

impl EtcdArgs {
    /// The key layout under the prefix.
    ///
    /// # Errors
    /// [`InvalidPrefix`] if the flag is wrong.
    pub fn layout(&self) -> Result<Layout, InvalidPrefix> {
        Layout::new(&self.prefix)
    }

    /// The time allowed for one request.
    pub fn timeout(&self) -> Duration {
        Duration::from_millis(self.timeout_ms)
    }

    /// A client, after one request to etcd was answered: connecting alone proves nothing, since channels are lazy.
    ///
    /// # Errors
    /// [`ConnectError::Unreachable`] if no endpoint answers within the timeout.
    pub async fn connect(&self) -> Result<Client, ConnectError> {
        let options = ConnectOptions::new()
            .with_connect_timeout(self.timeout())
            .with_timeout(self.timeout())
            .with_keep_alive(KEEP_ALIVE, KEEP_ALIVE);
        let unreachable = |source| ConnectError::Unreachable {
            endpoints: self.endpoints.join(", "),
            source,
        };
        let mut client = Client::connect(&self.endpoints, Some(options))
            .await
            .map_err(unreachable)?;
        client.status().await.map_err(unreachable)?;
        Ok(client)
    }
}
