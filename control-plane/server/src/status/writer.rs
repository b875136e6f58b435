//! Carries out the plan while this replica is the elected one, over a connection of its own so that a slow write never holds up the watch.

use crate::election::{Leadership, Outcome};
use crate::source::Health;
use crate::source::backoff::Backoff;
use crate::status::Book;
use crate::status::plan::{Write, plan};
use etcd_client::{Client, Compare, CompareOp, Txn, TxnOp, TxnOpResponse};
use kilocard_registry::connect::{ConnectError, EtcdArgs};
use kilocard_registry::layout::{Key, Layout, PolicyId};
use kilocard_registry::policy_status::PolicyStatus;
use std::collections::BTreeMap;
use std::time::Duration;
use tokio::sync::watch;
use tokio_util::sync::CancellationToken;

/// Why a write failed; it is tried again.
#[derive(Debug, thiserror::Error)]
enum WriteError {
    #[error(transparent)]
    Connect(#[from] ConnectError),
    #[error("etcd: {0}")]
    Etcd(#[from] etcd_client::Error),
    #[error("etcd did not answer within {} ms", .0.as_millis())]
    Slow(Duration),
    #[error("cannot encode a verdict: {0}")]
    Encode(#[from] serde_json::Error),
    #[error("another replica leads by now: nothing is written any more")]
    Fenced,
}

/// The writer; [`StatusWriter::run`] drives it.
pub struct StatusWriter {
    args: EtcdArgs,
    layout: Layout,
    health: Health,
    election: watch::Receiver<Outcome>,
    client: Option<Client>,
    /// Verdicts of ours that were written, or found already written.
    settled: BTreeMap<PolicyId, PolicyStatus>,
}

impl StatusWriter {
    /// A writer that connects when there is something to write.
    pub fn new(args: EtcdArgs, layout: Layout, health: Health, election: watch::Receiver<Outcome>) -> Self {
        Self {
            args,
            layout,
            health,
            election,
            client: None,
            settled: BTreeMap::new(),
        }
    }

    /// Writes until cancelled or until the source is gone.
    pub async fn run(mut self, mut book: watch::Receiver<Book>, cancel: CancellationToken) {
        let _ = cancel.run_until_cancelled(self.keep_writing(&mut book)).await;
    }

    async fn keep_writing(&mut self, book: &mut watch::Receiver<Book>) {
        let mut backoff = Backoff::new();
        loop {
            let current = book.borrow_and_update().clone();
            let Some(leadership) = self.election.borrow_and_update().ours.clone() else {
                if self.election.changed().await.is_err() {
                    return;
                }
                continue;
            };
            match self.write_all(&current, &leadership).await {
                Ok(()) => {
                    backoff.reset();
                    let changed = tokio::select! {
                        changed = book.changed() => changed,
                        changed = self.election.changed() => changed,
                    };
                    if changed.is_err() {
                        return;
                    }
                }
                Err(error) => {
                    self.client = None;
                    self.health.status_write_failures.inc();
                    let pause = backoff.pause(fastrand::f64());
                    tracing::warn!(%error, retry_in_ms = pause.as_millis(), "cannot write policy status");
                    tokio::time::sleep(pause).await;
                }
            }
        }
    }

    /// Carries out the whole plan: a verdict that etcd does not take is no reason to keep back the others. Gives the last
    /// error. When no connection can be had the rest would not fare better, and is left for the next try.
    async fn write_all(&mut self, book: &Book, leadership: &Leadership) -> Result<(), WriteError> {
        let mut failed = None;
        for write in plan(book, &self.settled) {
            match self.write(&write, leadership).await {
                Ok(done) => self.settle(write, done),
                Err(error @ (WriteError::Connect(_) | WriteError::Fenced)) => return Err(error),
                Err(error) => {
                    tracing::warn!(policy = %write.id, %error, "verdict not written");
                    self.client = None;
                    failed = Some(error);
                }
            }
        }
        self.settled.retain(|id, _| book.desired.contains_key(id));
        for (id, desired) in book.desired.iter() {
            let recorded = book.recorded.get(id).and_then(|recorded| recorded.status.as_ref());
            if recorded == Some(desired) {
                self.settled.insert(id.clone(), desired.clone());
            }
        }
        failed.map_or(Ok(()), Err)
    }

    fn settle(&mut self, write: Write, done: bool) {
        match write.status {
            Some(status) if done => {
                tracing::info!(policy = %write.id, state = ?status.state, revision = status.revision, "verdict written");
                self.settled.insert(write.id, status);
            }
            // Someone else was there first: their record arrives over the watch, and the plan is made again.
            Some(_) => {}
            None => drop(self.settled.remove(&write.id)),
        }
    }

    /// False when the record was not as expected.
    async fn write(&mut self, write: &Write, leadership: &Leadership) -> Result<bool, WriteError> {
        let key = self.layout.key(&Key::PolicyStatus(write.id.clone()));
        let operation = match &write.status {
            Some(status) => TxnOp::put(key.clone(), serde_json::to_vec(status)?, None),
            None => TxnOp::delete(key.clone(), None),
        };
        let transaction = Txn::new()
            .when([
                leadership.fence(),
                Compare::mod_revision(key, CompareOp::Equal, write.expected),
            ])
            .and_then([operation])
            .or_else([TxnOp::get(leadership.key(), None)]);
        let limit = self.args.timeout();
        let client = match &mut self.client {
            Some(client) => client,
            vacant => vacant.insert(self.args.connect().await?),
        };
        let answer = tokio::time::timeout(limit, client.txn(transaction))
            .await
            .map_err(|_| WriteError::Slow(limit))??;
        let leads = |response: TxnOpResponse| match response {
            TxnOpResponse::Get(found) => {
                let key = found.kvs().first();
                key.is_some_and(|key| key.create_revision() == leadership.revision())
            }
            _ => false,
        };
        if answer.succeeded() {
            Ok(true)
        } else if answer.op_responses().into_iter().any(leads) {
            Ok(false)
        } else {
            Err(WriteError::Fenced)
        }
    }
}
