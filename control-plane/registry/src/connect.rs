//! How a process reaches etcd: the flags that every Kilocard binary shares, and the client made from them.

use crate::layout::{DEFAULT_PREFIX, InvalidPrefix, Layout};
use clap::Args;
use etcd_client::{Client, ConnectOptions};
use std::error::Error;
use std::time::Duration;

/// A dead connection is noticed within these two: etcd may vanish without a FIN. etcd takes pings more often than every
/// 5 s (its `--grpc-keepalive-min-time`) for abuse and answers them by closing the connection.
const KEEP_ALIVE_INTERVAL: Duration = Duration::from_secs(6);
const KEEP_ALIVE_TIMEOUT: Duration = Duration::from_secs(3);

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
    #[error(
        "cannot reach etcd at {endpoints}: {}; is it running, and is --etcd right?",
        root_cause(source)
    )]
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

    /// The endpoints as they may be logged and shown: without user names and passwords.
    pub fn redacted(&self) -> String {
        let endpoints: Vec<String> = self.endpoints.iter().map(|endpoint| redact(endpoint)).collect();
        endpoints.join(", ")
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
            .with_keep_alive(KEEP_ALIVE_INTERVAL, KEEP_ALIVE_TIMEOUT)
            // A member that a partition cut off from the majority says so, instead of keeping a silent watch open.
            .with_require_leader(true);
        let unreachable = |source| ConnectError::Unreachable {
            endpoints: self.redacted(),
            source,
        };
        let mut client = Client::connect(&self.endpoints, Some(options))
            .await
            .map_err(unreachable)?;
        client.status().await.map_err(unreachable)?;
        Ok(client)
    }
}

/// The URL with `***` for its user information, which ends at the last '@' before path, query or fragment (RFC 3986,
/// section 3.2; the last one, since a password that was not encoded may contain another).
fn redact(url: &str) -> String {
    let (scheme, rest) = url.split_at(url.find("://").map_or(0, |at| at + 3));
    let (authority, path) = rest.split_at(rest.find(['/', '?', '#']).unwrap_or(rest.len()));
    match authority.rsplit_once('@') {
        Some((_, host)) => format!("{scheme}***@{host}{path}"),
        None => url.to_owned(),
    }
}

/// The innermost cause, such as "Connection refused": the layers above it only repeat that something failed.
fn root_cause(error: &etcd_client::Error) -> String {
    let mut cause: &dyn Error = match error {
        // A status shows its source in its own text, in debug form.
        etcd_client::Error::GRpcStatus(status) => match status.source() {
            Some(source) => source,
            None => return status.message().to_owned(),
        },
        other => other,
    };
    while let Some(source) = cause.source() {
        cause = source;
    }
    cause.to_string()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn credentials_are_never_shown() {
        for (url, shown) in [
            ("http://127.0.0.1:2379", "http://127.0.0.1:2379"),
            ("https://root:secret@etcd:2379", "https://***@etcd:2379"),
            ("root:secret@etcd:2379/x@y", "***@etcd:2379/x@y"),
            ("http://root:se@cret@[::1]:2379?a", "http://***@[::1]:2379?a"),
        ] {
            assert_eq!(redact(url), shown);
        }
    }
}
