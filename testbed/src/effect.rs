//! The time from a policy's write to its effect on a client.

use crate::client::Client;
use crate::harness::Testbed;
use crate::poll::{self, DEADLINE};
use crate::starter::{self, version_of};
use anyhow::{Context, Result, anyhow, bail, ensure};
use etcd_client::{Client as EtcdClient, EventType, WatchStream};
use kilocard_registry::layout::{Key, PolicyId};
use std::fmt;
use std::sync::{Arc, Mutex, PoisonError};
use std::time::{Duration, Instant};
use tokio::task::JoinHandle;

/// A client that asks back to back, as one user, and notes when its version changes.
#[derive(Debug)]
pub struct Probe {
    task: JoinHandle<()>,
    seen: Arc<Mutex<Seen>>,
}

#[derive(Clone, Debug, Default)]
struct Seen {
    asked: usize,
    turns: Vec<Turn>,
}

/// The first reply that differs from the one before.
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
        let seen: Arc<Mutex<Seen>> = Arc::default();
        let task = tokio::spawn(ask(client, user.to_owned(), seen.clone()));
        Ok(Self { task, seen })
    }

    /// Every change so far; the first entry is the version at the start.
    pub fn turns(&self) -> Vec<Turn> {
        self.seen().turns
    }

    /// Waits until the newest version seen is this one, and tells since when.
    ///
    /// # Errors
    /// After the deadline, or if a request failed since the start, even if others were served after it.
    pub async fn await_version(&self, version: &str) -> Result<Instant> {
        poll::until(&format!("the user to be on {version}"), DEADLINE, async || {
            since(&self.turns(), version)
        })
        .await?
    }

    /// Waits until `count` more requests have been answered, one way or the other.
    async fn await_more(&self, count: usize) -> Result<()> {
        let before = self.seen().asked;
        poll::until(&format!("{count} more requests"), DEADLINE, async || {
            let more = self.seen().asked - before;
            ensure!(more >= count, "{more}");
            Ok(())
        })
        .await
    }

    fn seen(&self) -> Seen {
        self.seen.lock().unwrap_or_else(PoisonError::into_inner).clone()
    }
}

/// Since when the newest version is this one. The outer error says not yet, the inner one that it is of no use to wait.
fn since(turns: &[Turn], version: &str) -> Result<Result<Instant>> {
    if let Some(told) = turns.iter().find_map(|turn| turn.version.as_ref().err()) {
        return Ok(Err(anyhow!("a request of the probe failed: {told}")));
    }
    let last = turns.last().context("no reply yet")?;
    ensure!(last.version.as_deref() == Ok(version), "{:?}", last.version);
    Ok(Ok(last.at))
}

impl Drop for Probe {
    fn drop(&mut self) {
        self.task.abort();
    }
}

async fn ask(client: Client, user: String, seen: Arc<Mutex<Seen>>) {
    loop {
        let version = match client.ready(&[("x-user-id", &user)]).await {
            Ok(worker) => Ok(version_of(&worker).to_owned()),
            Err(status) => Err(format!("{:?}: {}", status.code(), status.message())),
        };
        let at = Instant::now();
        let mut seen = seen.lock().unwrap_or_else(PoisonError::into_inner);
        seen.asked += 1;
        if seen.turns.last().is_none_or(|last| last.version != version) {
            seen.turns.push(Turn { at, version });
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

/// Requests after the change in which the user must stay where it is.
const SETTLED: usize = 50;

/// What a user felt of a change, and how soon.
#[derive(Clone, Debug)]
pub struct Rise {
    /// Since etcd told of the write.
    pub since_commit: Duration,
    /// Since the command line was started.
    pub since_command: Duration,
    /// How many requests were sent meanwhile.
    pub asked: usize,
    turns: Vec<Turn>,
}

impl Rise {
    /// Whether the user went from `v1` to `v2`, once, and no request failed.
    pub fn is_smooth(&self) -> bool {
        let versions = self.turns.iter().map(|turn| turn.version.as_deref());
        versions.eq([Ok("v1"), Ok("v2")])
    }
}

impl fmt::Display for Rise {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let told = |turn: &Turn| turn.version.clone().unwrap_or_else(|told| format!("failed ({told})"));
        let turns: Vec<String> = self.turns.iter().map(told).collect();
        write!(
            f,
            "{} in {} requests; {:.1} ms after etcd's commit, {:.1} ms after the command was started",
            turns.join(" → "),
            self.asked,
            self.since_commit.as_secs_f64() * 1e3,
            self.since_command.as_secs_f64() * 1e3
        )
    }
}

/// Raises v2's share through the command line while `user`, whose bucket lies between, asks back to back.
///
/// # Errors
/// If the user was not on `v1`, does not come to `v2`, or had a request fail before that. What [`Rise::is_smooth`] says
/// is for the caller to judge.
pub async fn observe_rise(testbed: &mut Testbed, user: &str, before: u16, after: u16) -> Result<Rise> {
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
    probe.await_more(SETTLED).await?;
    let Seen { asked, turns } = probe.seen();
    // The watch may tell the testbed a moment later than it told the control plane.
    Ok(Rise {
        since_commit: effect.saturating_duration_since(commit),
        since_command: effect.duration_since(command),
        asked,
        turns,
    })
}

/// [`observe_rise`], in which no request may fail and the user may move only once.
///
/// # Errors
/// Besides those, what the user felt if it was not that.
pub async fn raise_share(testbed: &mut Testbed, user: &str, before: u16, after: u16) -> Result<()> {
    let rise = observe_rise(testbed, user, before, after).await?;
    ensure!(rise.is_smooth(), "from {before} % to {after} %, {user} felt {rise}");
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;

    fn turns(seen: &[Result<&str, &str>]) -> Vec<Turn> {
        let turn = |version: &Result<&str, &str>| Turn {
            at: Instant::now(),
            version: version.map(str::to_owned).map_err(str::to_owned),
        };
        seen.iter().map(turn).collect()
    }

    fn smooth(seen: &[Result<&str, &str>]) -> bool {
        let rise = Rise {
            since_commit: Duration::ZERO,
            since_command: Duration::ZERO,
            asked: seen.len(),
            turns: turns(seen),
        };
        rise.is_smooth()
    }

    #[test]
    fn a_failure_is_seen_though_later_requests_are_served() {
        let seen = [Ok("v1"), Err("Unavailable"), Ok("v2")];
        let told = since(&turns(&seen), "v2").unwrap().unwrap_err();
        assert!(told.to_string().contains("Unavailable"), "{told}");
        assert!(!smooth(&seen));
    }

    #[test]
    fn only_one_step_from_v1_to_v2_is_smooth() {
        assert!(smooth(&[Ok("v1"), Ok("v2")]));
        for seen in [
            &[Ok("v1"), Ok("v2"), Ok("v1"), Ok("v2")][..],
            &[Ok("v2")],
            &[Ok("v1")],
            &[],
        ] {
            assert!(!smooth(seen), "{seen:?}");
        }
    }
}
