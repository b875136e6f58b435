//! Which replica does what must be done by one. All replicas serve proxies, the same to each; verdicts are written by the
//! elected one.
//!
//! The election is etcd's own (its `v3election` service): each replica puts a key under a lease of its own, and the oldest
//! leads. A replica that stops resigns; one that dies, freezes or is cut off loses its lease, and the next leads after it.
//! The old one may not know yet, so whoever writes as the leader makes each write conditional on its own key still being
//! the one that was elected: [`Leadership::fence`], by its create revision, which etcd never gives twice.

use crate::source::Health;
use crate::source::backoff::Backoff;
use etcd_client::{Client, Compare, CompareOp, LeaderKey, LeaseKeepAliveStream, LeaseKeeper, ResignOptions};
use kilocard_registry::connect::{ConnectError, EtcdArgs};
use std::time::Duration;
use tokio::sync::watch;
use tokio::time::{sleep, timeout};
use tokio_util::sync::CancellationToken;

/// Why this replica takes no part in the election just now.
#[derive(Debug, thiserror::Error)]
enum ElectionError {
    #[error(transparent)]
    Connect(#[from] ConnectError),
    #[error("etcd: {0}")]
    Etcd(#[from] etcd_client::Error),
    #[error("etcd did not answer within {} ms", .0.as_millis())]
    Slow(Duration),
    #[error("the lease ran out")]
    LeaseLost,
    #[error("our key is gone: somebody deleted it")]
    Deposed,
    #[error("etcd elected nobody, and says no more")]
    NoKey,
}

/// That this replica was elected, and by which key.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Leadership {
    key: Vec<u8>,
    revision: i64,
}

impl Leadership {
    /// For tests of others.
    #[cfg(test)]
    pub(crate) fn new(key: Vec<u8>, revision: i64) -> Self {
        Self { key, revision }
    }
    /// The condition for a write in this capacity: the key that was elected still stands.
    pub fn fence(&self) -> Compare {
        Compare::create_revision(self.key.as_slice(), CompareOp::Equal, self.revision)
    }

    /// Where the key stands.
    pub fn key(&self) -> &[u8] {
        &self.key
    }

    /// Revision at which this replica stood for election.
    pub fn revision(&self) -> i64 {
        self.revision
    }
}

/// The election as this replica sees it.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Outcome {
    /// This replica's leadership, while it has it.
    pub ours: Option<Leadership>,
    /// Who leads, by its id, as far as is known.
    pub leader: Option<String>,
}

/// A replica that stands for election.
#[derive(Debug)]
pub struct Election {
    etcd: EtcdArgs,
    /// The election's name: a prefix of keys.
    name: String,
    id: String,
    ttl: Duration,
    health: Health,
    outcome: watch::Sender<Outcome>,
}

impl Election {
    /// One that has not stood yet. `ttl` is for how long a dead leader is waited for.
    pub fn new(
        etcd: EtcdArgs,
        name: String,
        id: String,
        ttl: Duration,
        health: Health,
    ) -> (Self, watch::Receiver<Outcome>) {
        let (outcome, feed) = watch::channel(Outcome::default());
        let election = Self {
            etcd,
            name,
            id,
            ttl,
            health,
            outcome,
        };
        (election, feed)
    }

    /// Stands for election until cancelled, and then resigns.
    pub async fn run(self, cancel: CancellationToken) {
        let mut backoff = Backoff::new();
        let mut told = String::new();
        loop {
            let error = match self.stand(&cancel, &mut backoff).await {
                Ok(()) => return,
                Err(error) => error,
            };
            let led = self.outcome.borrow().ours.is_some();
            self.tell(Outcome::default());
            let pause = backoff.pause(fastrand::f64());
            // Once for each reason: while etcd is away it is the same one again and again.
            let reason = error.to_string();
            if led {
                tracing::warn!(%error, "no longer the leader");
            } else if reason != told {
                tracing::warn!(%error, "not standing for election: no verdicts are written from here");
            }
            told = reason;
            tokio::select! {
                () = cancel.cancelled() => return,
                () = sleep(pause) => {}
            }
        }
    }

    /// Stands with one lease until cancelled, or until something is wrong with it.
    async fn stand(&self, cancel: &CancellationToken, backoff: &mut Backoff) -> Result<(), ElectionError> {
        let mut client = self.etcd.connect_patiently().await?;
        let seconds = i64::try_from(self.ttl.as_secs()).unwrap_or(i64::MAX).max(1);
        let lease = self.in_time(client.lease_grant(seconds, None)).await?.id();
        let (keeper, confirmations) = self.in_time(client.lease_keep_alive(lease)).await?;
        backoff.reset();
        let ended = tokio::select! {
            () = cancel.cancelled() => Ok(()),
            error = self.keep_alive(keeper, confirmations) => Err(error),
            error = self.lead(&client, lease) => Err(error),
            error = self.observe(&client) => Err(error),
        };
        self.leave(&mut client, lease).await;
        ended
    }

    /// Campaigns, which takes until all who stood before are gone, and leads.
    async fn lead(&self, client: &Client, lease: i64) -> ElectionError {
        let campaign = client
            .election_client()
            .campaign(self.name.as_str(), self.id.as_str(), lease)
            .await;
        let elected = match campaign {
            Ok(mut response) => response.take_leader(),
            Err(error) => return error.into(),
        };
        let Some(elected) = elected else {
            return ElectionError::NoKey;
        };
        let ours = Leadership {
            key: elected.key().to_vec(),
            revision: elected.rev(),
        };
        tracing::info!(id = self.id, revision = ours.revision, "elected leader");
        self.tell(Outcome {
            leader: Some(self.id.clone()),
            ours: Some(ours.clone()),
        });
        loop {
            sleep(self.ttl / 3).await;
            match self.in_time(client.kv_client().get(ours.key(), None)).await {
                Ok(found)
                    if found
                        .kvs()
                        .first()
                        .is_some_and(|kv| kv.create_revision() == ours.revision) => {}
                Ok(_) => return ElectionError::Deposed,
                // The lease decides whether an etcd that does not answer costs the leadership.
                Err(error) => tracing::debug!(%error, "cannot confirm the leadership"),
            }
        }
    }

    /// Learns who leads.
    async fn observe(&self, client: &Client) -> ElectionError {
        loop {
            // Nobody may have been elected yet, which etcd tells as an error.
            let leader = self
                .in_time(client.election_client().leader(self.name.as_str()))
                .await
                .ok();
            let leader = leader.and_then(|found| Some(found.kv()?.value_str().ok()?.to_owned()));
            self.outcome.send_if_modified(|current| {
                let changed = current.ours.is_none() && current.leader != leader;
                if changed {
                    current.leader = leader;
                }
                changed
            });
            sleep(self.ttl / 3).await;
        }
    }

    /// Keeps the lease alive at a third of its time to live, and gives up well before etcd does.
    async fn keep_alive(&self, mut keeper: LeaseKeeper, mut confirmations: LeaseKeepAliveStream) -> ElectionError {
        loop {
            if let Err(error) = keeper.keep_alive().await {
                return error.into();
            }
            match timeout(self.ttl / 3, confirmations.message()).await {
                Ok(Ok(Some(confirmation))) if confirmation.ttl() > 0 => {}
                Ok(Ok(_)) => return ElectionError::LeaseLost,
                Ok(Err(error)) => return error.into(),
                Err(_) => return ElectionError::Slow(self.ttl / 3),
            }
            sleep(self.ttl / 3).await;
        }
    }

    /// Makes room for the next one at once, if etcd answers; else the lease does when it runs out.
    async fn leave(&self, client: &mut Client, lease: i64) {
        let ours = self.outcome.borrow().ours.clone();
        let leaving = async {
            if let Some(ours) = ours {
                let key = LeaderKey::new()
                    .with_name(self.name.as_str())
                    .with_key(ours.key.as_slice())
                    .with_rev(ours.revision)
                    .with_lease(lease);
                let resign = ResignOptions::new().with_leader(key);
                client.resign(Some(resign)).await?;
            }
            client.lease_revoke(lease).await
        };
        match timeout(self.etcd.timeout(), leaving).await {
            Ok(Ok(_)) => tracing::debug!("left the election"),
            Ok(Err(error)) => tracing::debug!(%error, "left the election to the end of the lease"),
            Err(_) => tracing::debug!("etcd does not answer: left the election to the end of the lease"),
        }
        self.tell(Outcome::default());
    }

    fn tell(&self, outcome: Outcome) {
        self.health.leader.set(i64::from(outcome.ours.is_some()));
        self.outcome.send_replace(outcome);
    }

    async fn in_time<T>(&self, call: impl Future<Output = Result<T, etcd_client::Error>>) -> Result<T, ElectionError> {
        let limit = self.etcd.timeout();
        timeout(limit, call)
            .await
            .map_err(|_| ElectionError::Slow(limit))?
            .map_err(ElectionError::Etcd)
    }
}
