//! How a process reaches etcd: the flags that every Kilocard binary shares, and the client made from them.

mod credentials;
mod race;
mod tls;

pub use credentials::CredentialsError;

use crate::layout::{DEFAULT_PREFIX, InvalidPrefix, Layout};
use clap::Args;
use credentials::Credentials;
use etcd_client::{Channel, Client, ConnectOptions};
use std::error::Error;
use std::path::PathBuf;
use std::time::Duration;
use tonic::transport::Endpoint;

/// A dead connection is noticed within these two: etcd may vanish without a FIN. etcd takes pings more often than every
/// 5 s (its `--grpc-keepalive-min-time`) for abuse and answers them by closing the connection.
const KEEP_ALIVE_INTERVAL: Duration = Duration::from_secs(6);
const KEEP_ALIVE_TIMEOUT: Duration = Duration::from_secs(3);

/// The flags for reaching etcd, flattened into each binary's own; hence ids that no subcommand gives to something of its own.
#[derive(Args, Clone, Debug, Default)]
pub struct EtcdArgs {
    /// etcd endpoints, comma-separated; the first member that answers and has a leader is used
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
    /// Certificates (PEM) of the authority that signed etcd's, for https:// endpoints
    #[arg(id = "etcd_ca", long = "etcd-ca", env = "KILOCARD_ETCD_CA", value_name = "PATH")]
    pub ca: Option<PathBuf>,
    /// Our certificate (PEM), where etcd asks its clients for one
    #[arg(
        id = "etcd_cert",
        long = "etcd-cert",
        env = "KILOCARD_ETCD_CERT",
        value_name = "PATH"
    )]
    pub cert: Option<PathBuf>,
    /// The private key (PEM) of --etcd-cert
    #[arg(id = "etcd_key", long = "etcd-key", env = "KILOCARD_ETCD_KEY", value_name = "PATH")]
    pub key: Option<PathBuf>,
    /// User, where etcd's authentication is enabled
    #[arg(
        id = "etcd_user",
        long = "etcd-user",
        env = "KILOCARD_ETCD_USER",
        value_name = "NAME"
    )]
    pub user: Option<String>,
    /// File that holds the password of --etcd-user; read again for each connection
    #[arg(
        id = "etcd_password_file",
        long = "etcd-password-file",
        env = "KILOCARD_ETCD_PASSWORD_FILE",
        value_name = "PATH"
    )]
    pub password_file: Option<PathBuf>,
}

/// Why etcd cannot be used.
#[derive(Debug, thiserror::Error)]
pub enum ConnectError {
    /// The prefix flag is wrong.
    #[error(transparent)]
    Prefix(#[from] InvalidPrefix),
    /// The flags or files for TLS or authentication are wrong.
    #[error(transparent)]
    Credentials(#[from] CredentialsError),
    /// An endpoint is no URL.
    #[error("--etcd {endpoint:?} is not a URL like http://10.0.0.5:2379: {source}")]
    Endpoint {
        /// As given, without credentials.
        endpoint: String,
        /// What is wrong with it.
        source: tonic::transport::Error,
    },
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
    /// No endpoint answered in time.
    #[error("cannot reach etcd at {endpoints}: no answer within {timeout_ms} ms; is it running, and is --etcd right?")]
    Silent {
        /// What was tried.
        endpoints: String,
        /// How long.
        timeout_ms: u64,
    },
    /// The members that answered know no leader, so that they cannot serve.
    #[error("etcd at {endpoints} answers but has no leader: are a majority of its members running and connected?")]
    NoLeader {
        /// What was tried.
        endpoints: String,
    },
    /// No endpoint is configured.
    #[error("--etcd is empty: give at least one endpoint, for example http://127.0.0.1:2379")]
    NoEndpoint,
}

impl ConnectError {
    /// The same for all endpoints: when none was usable, the last one tried is not the only one to look at.
    fn of_all(mut self, all: String) -> Self {
        if let Self::Unreachable { endpoints, .. } | Self::Silent { endpoints, .. } | Self::NoLeader { endpoints } =
            &mut self
        {
            *endpoints = all;
        }
        self
    }
}

impl EtcdArgs {
    /// The key layout under the prefix.
    ///
    /// # Errors
    /// [`InvalidPrefix`] if the flag is wrong.
    pub fn layout(&self) -> Result<Layout, InvalidPrefix> {
        Layout::new(&self.prefix)
    }

    /// Checks the flags for TLS and authentication, and reads their files.
    ///
    /// # Errors
    /// [`CredentialsError`] for what an operator has to mend before etcd can be reached.
    pub fn check_credentials(&self) -> Result<(), CredentialsError> {
        Credentials::read(self).map(drop)
    }

    /// The endpoints as they may be logged and shown: without user names and passwords.
    pub fn redacted(&self) -> String {
        self.without_credentials().join(", ")
    }

    /// The endpoints one by one, without user names and passwords.
    pub fn without_credentials(&self) -> Vec<String> {
        self.endpoints.iter().map(|endpoint| redact(endpoint)).collect()
    }

    /// The time allowed for one request.
    pub fn timeout(&self) -> Duration {
        Duration::from_millis(self.timeout_ms)
    }

    /// A client of one member, after that member was seen to have a leader: connecting alone proves nothing, since channels
    /// are lazy, and a member that a partition cut off from the majority still accepts connections. One member that does
    /// not answer holds nobody up: the others are tried soon after.
    ///
    /// # Errors
    /// [`ConnectError`] if no endpoint is usable within the timeout.
    pub async fn connect(&self) -> Result<Client, ConnectError> {
        self.connect_with(Some(self.timeout())).await
    }

    /// The same without a limit on the time of a request, for those that wait for something to happen: the caller limits
    /// the others.
    ///
    /// # Errors
    /// As of [`EtcdArgs::connect`].
    pub async fn connect_patiently(&self) -> Result<Client, ConnectError> {
        self.connect_with(None).await
    }

    async fn connect_with(&self, limit: Option<Duration>) -> Result<Client, ConnectError> {
        let credentials = Credentials::read(self)?;
        race::first(self.endpoints.clone(), |endpoint| {
            self.clone().attempt(endpoint, credentials.clone(), limit)
        })
        .await
        .unwrap_or(Err(ConnectError::NoEndpoint))
        .map_err(|error| error.of_all(self.redacted()))
    }

    async fn attempt(
        self,
        endpoint: String,
        credentials: Credentials,
        limit: Option<Duration>,
    ) -> Result<Client, ConnectError> {
        let endpoints = redact(&endpoint);
        let timeout_ms = self.timeout_ms;
        let silent = ConnectError::Silent {
            endpoints: endpoints.clone(),
            timeout_ms,
        };
        let attempt = async {
            let channel = self.channel(&endpoint, &credentials, limit)?;
            let mut options = ConnectOptions::new()
                // A member that a partition cuts off says so, instead of keeping a silent watch open.
                .with_require_leader(true);
            if let Some((user, password)) = credentials.user {
                options = options.with_user(user, password).with_auto_token_refresh(true);
            }
            let unreachable = |source| ConnectError::Unreachable {
                endpoints: endpoints.clone(),
                source,
            };
            let mut client = Client::from_channel(Channel::Tonic(channel), Some(options))
                .await
                .map_err(unreachable)?;
            let status = client.status().await.map_err(unreachable)?;
            if status.leader() == 0 {
                return Err(ConnectError::NoLeader { endpoints });
            }
            Ok(client)
        };
        tokio::time::timeout(self.timeout(), attempt)
            .await
            .unwrap_or(Err(silent))
    }

    fn channel(
        &self,
        endpoint: &str,
        credentials: &Credentials,
        limit: Option<Duration>,
    ) -> Result<tonic::transport::Channel, ConnectError> {
        let url = if endpoint.contains("://") {
            endpoint.to_owned()
        } else {
            format!("http://{endpoint}")
        };
        let channel = Endpoint::from_shared(url).map_err(|source| ConnectError::Endpoint {
            endpoint: redact(endpoint),
            source,
        })?;
        let channel = match limit {
            Some(limit) => channel.timeout(limit),
            None => channel,
        };
        let channel = channel
            .connect_timeout(self.timeout())
            .http2_keep_alive_interval(KEEP_ALIVE_INTERVAL)
            .keep_alive_timeout(KEEP_ALIVE_TIMEOUT);
        Ok(match &credentials.tls {
            Some(tls) => channel.connect_with_connector_lazy(tls::connector(tls.clone())),
            None => channel.connect_lazy(),
        })
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
