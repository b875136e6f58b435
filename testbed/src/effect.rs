//! The time from a policy's write to its effect on a client.

use crate::client::Client;
use crate::harness::Testbed;
use crate::poll::{self, DEADLINE};
use crate::starter::{self, version_of};
use anyhow::{Context, Result, bail, ensure};
use etcd_client::{Client as EtcdClient, EventType, WatchStream};
use kilocard_registry::layout::{Key, PolicyId};
use std::sync::{Arc, Mutex, PoisonError};
use std::time::{Duration, Instant};
use tokio::task::JoinHandle;

/// A client that asks back to back, as one user, and notes when its version changes.
#[derive(Debug)]
pub struct Probe {
    task: JoinHandle<()>,
    seen: Arc<Mutex<Vec<Turn>>>,
}

/// The first reply from another version than before.
#[derive(Clone, Debug)]
pub struct Turn {
    /// When the reply was there.
    pub at: Instant,
    /// The version from then on, or what the client was told instead.
    pub version: Result<String, String>,
}

impl Probe {
    /// Starts asking as this user.
    ///
    /// # Errors
    /// If it cannot connect.
    pub async fn start(testbed: &Testbed, user: &str) -> Result<Self> {
        let client = testbed.client().await?;
        let seen: Arc<Mutex<Vec<Turn>>> = Arc::default();
        let task = tokio::spawn(ask(client, user.to_owned(), seen.clone()));
        Ok(Self { task, seen })
    }

    /// Every change of version so far; the first entry is the version at the start.
    pub fn turns(&self) -> Vec<Turn> {
        self.seen.lock().unwrap_or_else(PoisonError::into_inner).clone()
    }

    /// Waits until the newest version seen is this one, and tells since when.
    ///
    /// # Errors
    /// After the deadline, or as soon as a request failed.
    pub async fn await_version(&self, version: &str) -> Result<Instant> {
        poll::until(&format!("the user to be on {version}"), DEADLINE, async || {
            let turns = self.turns();
            let last = turns.last().context("no reply yet")?;
            if let Err(told) = &last.version {
                return Ok(Err(anyhow::anyhow!("the probe's request failed: {told}")));
            }
            ensure!(last.version.as_deref() == Ok(version), "{:?}", last.version);
            Ok(Ok(last.at))
        })
        .await?
    }
}

impl Drop for Probe {
    fn drop(&mut self) {
        self.task.abort();
    }
}

async fn ask(client: Client, user: String, seen: Arc<Mutex<Vec<Turn>>>) {
    loop {
        let version = match client.ready(&[("x-user-id", &user)]).await {
            Ok(worker) => Ok(version_of(&worker).to_owned()),
            Err(status) => Err(format!("{:?}: {}", status.code(), status.message())),
        };
        let at = Instant::now();
        let mut seen = seen.lock().unwrap_or_else(PoisonError::into_inner);
        if seen.last().is_none_or(|last| last.version != version) {
            seen.push(Turn { at, version });
        }
    }
}

/// A watch on one key, opened before the write, so that the moment of the commit is known from etcd itself.
pub struct CommitWatch {
    // The stream ends when the client is dropped.
    _client: EtcdClient,
    stream: WatchStream,
}

impl CommitWatch {
    /// Watches a key from now on.
    ///
    /// # Errors
    /// If etcd does not take the watch.
    pub async fn open(mut client: EtcdClient, key: &str) -> Result<Self> {
        let mut stream = client.watch(key, None).await?;
        // etcd confirms a watch by an empty response; a write after it cannot be missed.
        let created = stream.message().await?.context("the watch ended")?;
        ensure!(created.created(), "etcd did not confirm the watch");
        Ok(Self {
            _client: client,
            stream,
        })
    }

    /// When etcd told of the next write of the key.
    ///
    /// # Errors
    /// If none comes within the deadline.
    pub async fn committed(mut self) -> Result<Instant> {
        let wait = async {
            while let Some(response) = self.stream.message().await? {
                if response
                    .events()
                    .iter()
                    .any(|event| event.event_type() == EventType::Put)
                {
                    return Ok(Instant::now());
                }
            }
            bail!("the watch ended")
        };
        tokio::time::timeout(DEADLINE, wait)
            .await
            .context("etcd told of no write")?
    }
}

/// How long a change took to be felt.
#[derive(Clone, Copy, Debug)]
pub struct Times {
    /// Since etcd told of the write.
    pub since_commit: Duration,
    /// Since the command line was started.
    pub since_command: Duration,
}

/// Raises v2's share through the command line while `user`, whose bucket lies between, asks back to back; no
/// request of the user may fail.
///
/// # Errors
/// If the user was not on `v1`, does not come to `v2`, or had a request fail.
pub async fn raise_share(testbed: &mut Testbed, user: &str, before: u16, after: u16) -> Result<Times> {
    let probe = Probe::start(testbed, user).await?;
    probe
        .await_version("v1")
        .await
        .with_context(|| format!("at {before} %"))?;
    let key = testbed
        .layout()
        .key(&Key::Policy(PolicyId::new("RoutingPolicy", "minilm")));
    let watch = CommitWatch::open(testbed.etcd().client().await?, &key).await?;
    let committed = tokio::spawn(watch.committed());
    let command = Instant::now();
    testbed.apply(&starter::routing(after)).await?;
    let effect = probe.await_version("v2").await?;
    let commit = committed.await??;
    // The watch may tell the testbed a moment later than it told the control plane.
    Ok(Times {
        since_commit: effect.saturating_duration_since(commit),
        since_command: effect.duration_since(command),
    })
}
