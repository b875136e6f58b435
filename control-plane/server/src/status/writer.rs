//! Carries out the plan, over a connection of its own so that a slow write never holds up the watch.

use crate::source::backoff::Backoff;
use crate::status::Book;
use crate::status::plan::{Write, plan};
use etcd_client::{Client, Compare, CompareOp, Txn, TxnOp};
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
}

/// The writer; [`StatusWriter::run`] drives it.
pub struct StatusWriter {
    args: EtcdArgs,
    layout: Layout,
    client: Option<Client>,
    /// Verdicts of ours that were written, or found already written.
    settled: BTreeMap<PolicyId, PolicyStatus>,
}

impl StatusWriter {
    /// A writer that connects when there is something to write.
    pub fn new(args: EtcdArgs, layout: Layout) -> Self {
        Self {
            args,
            layout,
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
            match self.write_all(&current).await {
                Ok(()) => {
                    backoff.reset();
                    if book.changed().await.is_err() {
                        return;
                    }
                }
                Err(error) => {
                    self.client = None;
                    let pause = backoff.pause(fastrand::f64());
                    tracing::warn!(%error, retry_in_ms = pause.as_millis(), "cannot write policy status");
                    tokio::time::sleep(pause).await;
                }
            }
        }
    }

    /// Carries out the whole plan: a verdict that etcd does not take is no reason to keep back the others. Gives the last
    /// error. When no connection can be had the rest would not fare better, and is left for the next try.
    async fn write_all(&mut self, book: &Book) -> Result<(), WriteError> {
        let mut failed = None;
        for write in plan(book, &self.settled) {
            match self.write(&write).await {
                Ok(done) => self.settle(write, done),
                Err(error @ WriteError::Connect(_)) => return Err(error),
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
    async fn write(&mut self, write: &Write) -> Result<bool, WriteError> {
        let key = self.layout.key(&Key::PolicyStatus(write.id.clone()));
        let operation = match &write.status {
            Some(status) => TxnOp::put(key.clone(), serde_json::to_vec(status)?, None),
            None => TxnOp::delete(key.clone(), None),
        };
        let transaction = Txn::new()
            .when([Compare::mod_revision(key, CompareOp::Equal, write.expected)])
            .and_then([operation]);
        let limit = self.args.timeout();
        let client = match &mut self.client {
            Some(client) => client,
            vacant => vacant.insert(self.args.connect().await?),
        };
        let answer = tokio::time::timeout(limit, client.txn(transaction))
            .await
            .map_err(|_| WriteError::Slow(limit))??;
        Ok(answer.succeeded())
    }
}
