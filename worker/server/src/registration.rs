//! Being known in etcd: the worker's record, and its GPU's, under a lease.
//!
//! The lease is the only thing that says the worker lives: it is kept alive at a third of its time to live, and when the
//! worker dies everything under it goes. When etcd goes away the worker serves on and comes back to it for as long as it
//! takes; a new lease takes the keys over by writing them again, so there is no moment without them.

use crate::metrics::Metrics;
use etcd_client::{Client, Compare, CompareOp, GetOptions, LeaseKeepAliveStream, LeaseKeeper, PutOptions, Txn, TxnOp};
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

/// The least time between two writes of the records: etcd is no place for a stream of telemetry.
const WRITE_INTERVAL: Duration = Duration::from_secs(1);
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
    /// Registers in the background, and again whenever that is lost. What the channel holds is what is written, at most
    /// once a second.
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
    owns_device: bool,
}

impl Registrar {
    async fn run(mut self, stop: CancellationToken) {
        let mut retry = FIRST_RETRY;
        while !stop.is_cancelled() {
            let error = match self.open().await {
                Ok(session) => {
                    retry = FIRST_RETRY;
                    self.metrics.set_registered(true);
                    tracing::info!(lease = session.lease, "registered in etcd");
                    let ended = self.keep(session, &stop).await;
                    self.metrics.set_registered(false);
                    match ended {
                        Ok(()) => return,
                        Err(error) => error,
                    }
                }
                Err(error) => error,
            };
            tracing::warn!(%error, retry_in = ?retry, "not registered in etcd; serving on");
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
        let mut session = Session {
            client,
            lease,
            keeper,
            confirmations,
            owns_device: false,
        };
        self.write(&mut session).await?;
        self.last_lease = Some(lease);
        Ok(session)
    }

    /// Keeps the session until told to stop, and then ends it.
    async fn keep(&mut self, mut session: Session, stop: &CancellationToken) -> Result<(), RegistrationError> {
        let mut confirm = interval(self.lease_ttl / 3);
        confirm.set_missed_tick_behavior(MissedTickBehavior::Delay);
        let mut next_write = Instant::now() + WRITE_INTERVAL;
        let mut changed = false;
        loop {
            tokio::select! {
                () = stop.cancelled() => {
                    // The lease goes, and the keys with it.
                    session.client.lease_revoke(session.lease).await?;
                    tracing::info!("left etcd");
                    return Ok(());
                }
                _ = confirm.tick() => {
                    self.confirm(&mut session).await?;
                    if !session.owns_device {
                        self.claim_device(&mut session).await?;
                    }
                }
                Ok(()) = self.records.changed(), if !changed => changed = true,
                () = sleep_until(next_write), if changed => {
                    self.write(&mut session).await?;
                    changed = false;
                    next_write = Instant::now() + WRITE_INTERVAL;
                }
            }
        }
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

    async fn write(&mut self, session: &mut Session) -> Result<(), RegistrationError> {
        let worker = self.records.borrow_and_update().worker.clone();
        let key = self.layout.key(&Key::Worker(worker.id.clone()));
        let options = PutOptions::new().with_lease(session.lease);
        session
            .client
            .put(key, serde_json::to_vec(&worker)?, Some(options))
            .await?;
        self.claim_device(session).await
    }

    /// Writes the GPU's record, unless somebody else has: an operator's inventory knows more than a worker does.
    async fn claim_device(&mut self, session: &mut Session) -> Result<(), RegistrationError> {
        let Some((id, record)) = self.records.borrow().device.clone() else {
            return Ok(());
        };
        let key = self.layout.key(&Key::Device(id));
        let value = serde_json::to_vec(&record)?;
        let found = session.client.get(key.as_str(), None::<GetOptions>).await?;
        let revision = match found.kvs().first() {
            None => 0,
            Some(kv) if kv.lease() == session.lease && kv.value() == value => {
                session.owns_device = true;
                return Ok(());
            }
            Some(kv) if kv.lease() == session.lease || (kv.lease() != 0 && Some(kv.lease()) == self.last_lease) => {
                kv.mod_revision()
            }
            Some(_) => {
                session.owns_device = false;
                return Ok(());
            }
        };
        let put = TxnOp::put(key.as_str(), value, Some(PutOptions::new().with_lease(session.lease)));
        let unchanged = Compare::mod_revision(key.as_str(), CompareOp::Equal, revision);
        let outcome = session.client.txn(Txn::new().when([unchanged]).and_then([put])).await?;
        session.owns_device = outcome.succeeded();
        Ok(())
    }
}
