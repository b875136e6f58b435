//! Being known in etcd: the worker's record, and its GPU's, under a lease.
//!
//! The lease is the only thing that says the worker lives: it is kept alive at a third of its time to live, and when the
//! worker dies everything under it goes. When etcd goes away the worker serves on and comes back to it for as long as it
//! takes; a new lease takes the keys over by writing them again, so there is no moment without them. A key that was deleted
//! or changed is put right; one that another live worker wrote is not fought over. A worker that ends says so in its record
//! before it takes that away: on a watch a lease that ran out looks the same as one that was revoked, and of many workers
//! that vanish at once the control plane holds those that did not say that they leave.

use crate::metrics::Metrics;
use etcd_client::{
    Client, Compare, CompareOp, LeaseKeepAliveStream, LeaseKeeper, PutOptions, Txn, TxnOp, TxnOpResponse,
};
use kilocard_registry::{
    connect::{ConnectError, EtcdArgs},
    device::DeviceRecord,
    layout::{DeviceId, Key, Layout},
    worker::WorkerRecord,
};
use std::{sync::Arc, time::Duration};
use tokio::{
    sync::watch,
    task::JoinHandle,
    time::{Instant, MissedTickBehavior, interval, sleep, sleep_until, timeout},
};
use tokio_util::sync::CancellationToken;

/// The least time between two writes of the records. How often there is something to write is for those to say who change
/// the records (`load_report`); this only keeps what comes in a burst together.
const WRITE_INTERVAL: Duration = Duration::from_millis(100);
const FIRST_RETRY: Duration = Duration::from_millis(100);
const LAST_RETRY: Duration = Duration::from_secs(3);

/// What is registered.
#[derive(Clone, Debug, PartialEq)]
pub struct Records {
    /// The worker.
    pub worker: WorkerRecord,
    /// Its GPU.
    pub device: Option<(DeviceId, DeviceRecord)>,
}

/// Why the worker is not in etcd just now.
#[derive(Debug, thiserror::Error)]
enum RegistrationError {
    #[error(transparent)]
    Connect(#[from] ConnectError),
    #[error("etcd: {0}")]
    Etcd(#[from] etcd_client::Error),
    #[error("the lease is gone")]
    LeaseLost,
    #[error(
        "two workers share the id {id:?}: one at {address} holds its key; give each an --id of its own (one that has just died frees it when its lease runs out)"
    )]
    IdTaken { id: String, address: String },
    #[error("etcd did not confirm the lease within {0:?}")]
    KeepAliveTimeout(Duration),
    #[error("a record cannot be written as JSON: {0}")]
    Json(#[from] serde_json::Error),
}

/// The worker in etcd. Dropping it without [`Registration::leave`] leaves the keys to the lease's end.
#[derive(Debug)]
pub struct Registration {
    stop: CancellationToken,
    task: JoinHandle<()>,
}

impl Registration {
    /// Registers in the background, and again whenever that is lost. What the channel holds is what is written, at
    /// most ten times a second.
    pub fn start(
        etcd: EtcdArgs,
        layout: Layout,
        lease_ttl: Duration,
        records: watch::Receiver<Records>,
        metrics: Arc<Metrics>,
    ) -> Self {
        let stop = CancellationToken::new();
        let registrar = Registrar {
            etcd,
            layout,
            lease_ttl,
            records,
            metrics,
            last_lease: None,
        };
        let task = tokio::spawn(registrar.run(stop.clone()));
        Self { stop, task }
    }

    /// Takes the keys out of etcd, if it answers; otherwise the lease does, when it ends.
    pub async fn leave(self) {
        self.stop.cancel();
        if self.task.await.is_err() {
            tracing::error!("the registration task panicked");
        }
    }
}

struct Registrar {
    etcd: EtcdArgs,
    layout: Layout,
    lease_ttl: Duration,
    records: watch::Receiver<Records>,
    metrics: Arc<Metrics>,
    // The lease before this one: what is still under it is ours.
    last_lease: Option<i64>,
}

/// A lease that lives, and the keys under it.
struct Session {
    client: Client,
    lease: i64,
    keeper: LeaseKeeper,
    confirmations: LeaseKeepAliveStream,
    // As last written.
    records: Records,
}

impl Registrar {
    async fn run(mut self, stop: CancellationToken) {
        let mut retry = FIRST_RETRY;
        while !stop.is_cancelled() {
            let error = match self.open().await {
                Ok(mut session) => match self.keep(&mut session, &stop, &mut retry).await {
                    Ok(()) => return,
                    Err(error) => {
                        self.metrics.set_registered(false);
                        // Nothing of a worker that gives up its place stays. One that only lost its connection comes back to
                        // the same keys with another lease, and if it does not, the old one runs out by itself.
                        if !matches!(
                            error,
                            RegistrationError::Etcd(_) | RegistrationError::KeepAliveTimeout(_)
                        ) {
                            drop(session.client.lease_revoke(session.lease).await);
                        }
                        error
                    }
                },
                Err(error) => error,
            };
            match error {
                RegistrationError::IdTaken { .. } => {
                    tracing::error!(%error, retry_in = ?retry, "not registered in etcd: nothing routes here");
                }
                error => tracing::warn!(%error, retry_in = ?retry, "not registered in etcd; serving on"),
            }
            tokio::select! {
                () = stop.cancelled() => return,
                // Jitter, so that workers that lost etcd together do not come back together.
                () = sleep(retry.mul_f64(0.5 + fastrand::f64() / 2.0)) => {}
            }
            retry = (retry * 2).min(LAST_RETRY);
        }
    }

    async fn open(&mut self) -> Result<Session, RegistrationError> {
        let mut client = self.etcd.connect().await?;
        let seconds = i64::try_from(self.lease_ttl.as_secs()).unwrap_or(i64::MAX).max(1);
        let lease = client.lease_grant(seconds, None).await?.id();
        let (keeper, confirmations) = client.lease_keep_alive(lease).await?;
        Ok(Session {
            client,
            lease,
            keeper,
            confirmations,
            records: self.records.borrow_and_update().clone(),
        })
    }

    /// Registers and keeps the session until told to stop, and then ends it.
    async fn keep(
        &mut self,
        session: &mut Session,
        stop: &CancellationToken,
        retry: &mut Duration,
    ) -> Result<(), RegistrationError> {
        self.hold(session).await?;
        self.last_lease = Some(session.lease);
        *retry = FIRST_RETRY;
        self.metrics.set_registered(true);
        tracing::info!(lease = session.lease, "registered in etcd");

        let mut confirm = interval(self.lease_ttl / 3);
        confirm.set_missed_tick_behavior(MissedTickBehavior::Delay);
        let mut next_write = Instant::now() + WRITE_INTERVAL;
        let mut changed = false;
        loop {
            tokio::select! {
                () = stop.cancelled() => {
                    self.say_goodbye(session).await?;
                    // The lease goes, and the keys with it.
                    session.client.lease_revoke(session.lease).await?;
                    tracing::info!("left etcd");
                    return Ok(());
                }
                _ = confirm.tick() => {
                    self.confirm(session).await?;
                    self.hold(session).await?;
                }
                Ok(()) = self.records.changed(), if !changed => changed = true,
                () = sleep_until(next_write), if changed => {
                    session.records = self.records.borrow_and_update().clone();
                    self.hold(session).await?;
                    changed = false;
                    next_write = Instant::now() + WRITE_INTERVAL;
                }
            }
        }
    }

    /// Marks the record, if it is still this worker's.
    async fn say_goodbye(&self, session: &mut Session) -> Result<(), RegistrationError> {
        session.records.worker.draining = true;
        let key = self.layout.key(&Key::Worker(session.records.worker.id.clone()));
        let value = serde_json::to_vec(&session.records.worker)?;
        let ours = Compare::lease(key.as_str(), CompareOp::Equal, session.lease);
        let put = TxnOp::put(key, value, Some(PutOptions::new().with_lease(session.lease)));
        session.client.txn(Txn::new().when([ours]).and_then([put])).await?;
        Ok(())
    }

    async fn confirm(&self, session: &mut Session) -> Result<(), RegistrationError> {
        let patience = self.lease_ttl / 3;
        session.keeper.keep_alive().await?;
        let confirmation = timeout(patience, session.confirmations.message())
            .await
            .map_err(|_| RegistrationError::KeepAliveTimeout(patience))??;
        if confirmation.is_some_and(|confirmation| confirmation.ttl() > 0) {
            Ok(())
        } else {
            Err(RegistrationError::LeaseLost)
        }
    }

    /// Sees to it that the keys are there as last written: whoever deleted or changed them did not end this worker.
    async fn hold(&self, session: &mut Session) -> Result<(), RegistrationError> {
        let own = [Some(session.lease), self.last_lease];
        let Records { worker, device } = session.records.clone();
        let key = self.layout.key(&Key::Worker(worker.id.clone()));
        let value = serde_json::to_vec(&worker)?;
        let take = |found: &Found| may_take_worker(found, own, &worker);
        if let Some(other) = put_unless_foreign(session, &key, value, take).await? {
            return Err(RegistrationError::IdTaken {
                address: other.address().unwrap_or_else(|| "an unknown address".to_owned()),
                id: worker.id,
            });
        }
        let Some((id, record)) = device else {
            return Ok(());
        };
        let key = self.layout.key(&Key::Device(id));
        let take = |found: &Found| may_take_device(found, own);
        // Somebody else's stays: an operator's inventory knows more than a worker does.
        drop(put_unless_foreign(session, &key, serde_json::to_vec(&record)?, take).await?);
        Ok(())
    }
}

/// What stands at a key.
#[derive(Clone, Debug, PartialEq)]
struct Found {
    lease: i64,
    revision: i64,
    value: Vec<u8>,
}

impl Found {
    /// Where the worker that wrote it serves.
    fn address(&self) -> Option<String> {
        serde_json::from_slice::<WorkerRecord>(&self.value)
            .ok()
            .map(|record| record.address)
    }
}

/// Whether a worker's key that stands otherwise than written may be written: under a lease of this worker; under none,
/// since then it is no live worker's; or with this worker's address, where nobody but a former life of it can have served.
fn may_take_worker(found: &Found, own: [Option<i64>; 2], worker: &WorkerRecord) -> bool {
    found.lease == 0 || own.contains(&Some(found.lease)) || found.address().as_deref() == Some(&worker.address)
}

/// Whether a device's key may be written: under a lease of this worker only. Under none, it is the operator's.
fn may_take_device(found: &Found, own: [Option<i64>; 2]) -> bool {
    own.contains(&Some(found.lease))
}

/// Puts the value under the session's lease, if it is not there and what is there may be taken; else, what is there.
async fn put_unless_foreign(
    session: &mut Session,
    key: &str,
    value: Vec<u8>,
    may_take: impl Fn(&Found) -> bool,
) -> Result<Option<Found>, RegistrationError> {
    loop {
        let as_written = [
            Compare::lease(key, CompareOp::Equal, session.lease),
            Compare::value(key, CompareOp::Equal, value.clone()),
        ];
        let look = Txn::new().when(as_written).or_else([TxnOp::get(key, None)]);
        let outcome = session.client.txn(look).await?;
        if outcome.succeeded() {
            return Ok(None);
        }
        let found = outcome.op_responses().into_iter().find_map(|response| match response {
            TxnOpResponse::Get(found) => found.kvs().first().map(|kv| Found {
                lease: kv.lease(),
                revision: kv.mod_revision(),
                value: kv.value().to_vec(),
            }),
            _ => None,
        });
        let revision = match found {
            Some(found) if !may_take(&found) => return Ok(Some(found)),
            Some(found) => found.revision,
            // etcd's word for a key that is not there.
            None => 0,
        };
        let unchanged = Compare::mod_revision(key, CompareOp::Equal, revision);
        let put = TxnOp::put(key, value.clone(), Some(PutOptions::new().with_lease(session.lease)));
        // Otherwise somebody was faster: what did they write?
        if session
            .client
            .txn(Txn::new().when([unchanged]).and_then([put]))
            .await?
            .succeeded()
        {
            return Ok(None);
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn worker(address: &str) -> WorkerRecord {
        WorkerRecord {
            id: "w-1".to_owned(),
            address: address.to_owned(),
            node: "n1".to_owned(),
            ..WorkerRecord::default()
        }
    }

    fn found(lease: i64, address: &str) -> Found {
        Found {
            lease,
            revision: 1,
            value: serde_json::to_vec(&worker(address)).unwrap(),
        }
    }

    #[test]
    fn only_another_live_worker_keeps_a_worker_from_its_key() {
        let own = [Some(7), Some(5)];
        let mine = worker("10.0.0.1:1");
        for (lease, address, may) in [
            (7, "10.0.0.2:1", true),
            (5, "10.0.0.1:9", true),
            (0, "10.0.0.2:1", true),
            (9, "10.0.0.1:1", true),
            (9, "10.0.0.2:1", false),
        ] {
            assert_eq!(
                may_take_worker(&found(lease, address), own, &mine),
                may,
                "{lease} {address}"
            );
        }
        let garbage = Found {
            value: b"garbage".to_vec(),
            ..found(9, "")
        };
        assert!(!may_take_worker(&garbage, own, &mine));
        assert!(may_take_worker(&Found { lease: 7, ..garbage }, own, &mine));
    }

    #[test]
    fn a_devices_record_is_taken_from_nobody() {
        for (lease, may) in [(7, true), (5, true), (0, false), (9, false)] {
            assert_eq!(
                may_take_device(&found(lease, "any"), [Some(7), Some(5)]),
                may,
                "{lease}"
            );
        }
        assert!(!may_take_device(&found(0, "any"), [Some(7), None]));
    }
}
