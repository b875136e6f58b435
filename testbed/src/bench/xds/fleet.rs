//! All simulated proxies, and the orders that they take.

use super::proxy::{Endpoints, Proxy, Seen};
use crate::poll;
use anyhow::{Result, ensure};
use std::collections::BTreeSet;
use std::net::SocketAddr;
use std::sync::Arc;
use std::sync::atomic::Ordering;
use std::time::{Duration, Instant};
use tokio::sync::watch;
use tokio::task::JoinSet;

/// How long a phase may take before the bench gives up.
const PATIENCE: Duration = Duration::from_secs(120);
/// Pause before a lost connection is opened again, up to: Envoy waits a random time below 500 ms at first.
const RECONNECT_MS: u64 = 500;

/// What a proxy comes back with.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Return {
    /// Everything that it held, by version: the control plane was away.
    WithVersions,
    /// Nothing: the proxies were away.
    Empty,
}

#[derive(Clone, Copy, Debug)]
struct Order {
    epoch: u64,
    comes: Return,
}

/// The proxies, each a task with a connection.
#[derive(Debug)]
pub(super) struct Fleet {
    seen: Vec<Arc<Seen>>,
    orders: watch::Sender<Order>,
    tasks: JoinSet<()>,
}

impl Fleet {
    /// Lets so many proxies connect, all at once; the first `verifying` of them decode what they get.
    pub(super) fn connect(address: SocketAddr, proxies: usize, verifying: usize) -> Self {
        let (orders, _) = watch::channel(Order {
            epoch: 0,
            comes: Return::Empty,
        });
        let mut fleet = Self {
            seen: Vec::new(),
            orders,
            tasks: JoinSet::new(),
        };
        for number in 0..proxies {
            let seen = Arc::new(Seen::new(number < verifying));
            fleet.seen.push(Arc::clone(&seen));
            let proxy = Proxy::new(format!("simulated-{number:04}"));
            fleet.tasks.spawn(live(proxy, address, seen, fleet.orders.subscribe()));
        }
        fleet
    }

    /// All drop their connections and connect again, at once. Gives the moment of the order.
    pub(super) fn reconnect(&self, comes: Return) -> Instant {
        let empty = comes == Return::Empty;
        self.seen.iter().for_each(|seen| seen.start_over(empty));
        let now = Instant::now();
        self.orders.send_modify(|order| {
            order.epoch += 1;
            order.comes = comes;
        });
        now
    }

    /// Waits until every proxy holds something of every type on its present connection.
    pub(super) async fn await_synced(&self) -> Result<Instant> {
        self.await_all("proxies to be in sync", Seen::is_synced).await
    }

    /// Waits until every proxy has acknowledged this revision of endpoints.
    pub(super) async fn await_revision(&self, revision: i64) -> Result<Instant> {
        self.await_all("proxies to acknowledge the last change", |seen| {
            seen.revision() >= revision
        })
        .await
    }

    /// Those still waiting are asked again and again, so that the others cost nothing.
    async fn await_all(&self, what: &str, done: impl Fn(&Seen) -> bool) -> Result<Instant> {
        let mut waiting: Vec<&Arc<Seen>> = self.seen.iter().collect();
        poll::until(what, PATIENCE, async || {
            waiting.retain(|seen| !done(seen));
            ensure!(waiting.is_empty(), "{} of {} are not", waiting.len(), self.seen.len());
            Ok(Instant::now())
        })
        .await
    }

    /// From `from` until each proxy acknowledged the revision; `None` for one that did not.
    pub(super) fn latencies(&self, revision: i64, from: Instant) -> impl Iterator<Item = Option<Duration>> {
        let acknowledged = self.seen.iter().map(move |seen| seen.acknowledged(revision));
        acknowledged.map(move |when| when.map(|when| when.saturating_duration_since(from)))
    }

    /// Messages and bytes received, and connections lost other than by order, so far.
    pub(super) fn received(&self) -> Received {
        let sum = |of: fn(&Seen) -> u64| self.seen.iter().map(|seen| of(seen)).sum();
        Received {
            responses: sum(|seen| seen.responses.load(Ordering::Relaxed)),
            bytes: sum(|seen| seen.bytes.load(Ordering::Relaxed)),
            failures: sum(|seen| seen.failures.load(Ordering::Relaxed)),
        }
    }

    /// # Errors
    /// Unless all hold the same endpoints in the same versions, and those that decode them hold exactly these.
    pub(super) fn check(&self, expected: &Endpoints) -> Result<()> {
        let hashes = self.seen.iter().map(|seen| seen.endpoints_hash.load(Ordering::Relaxed));
        let different: BTreeSet<u64> = hashes.collect();
        ensure!(
            different.len() <= 1,
            "proxies hold {} different sets of endpoints",
            different.len()
        );
        ensure!(
            self.seen.iter().all(|seen| seen.holds(expected)),
            "proxies hold other endpoints or weights"
        );
        Ok(())
    }
}

/// What the proxies received.
#[derive(Clone, Copy, Debug)]
pub(super) struct Received {
    pub(super) responses: u64,
    pub(super) bytes: u64,
    pub(super) failures: u64,
}

async fn live(mut proxy: Proxy, address: SocketAddr, seen: Arc<Seen>, mut orders: watch::Receiver<Order>) {
    loop {
        let order = *orders.borrow_and_update();
        if order.comes == Return::Empty {
            proxy.forget();
        }
        loop {
            tokio::select! {
                changed = orders.changed() => match changed {
                    Ok(()) => break,
                    Err(_) => return,
                },
                Err(error) = proxy.speak(address, &seen) => {
                    seen.failures.fetch_add(1, Ordering::Relaxed);
                    tracing::warn!("a simulated proxy lost its connection: {error:#}");
                    tokio::time::sleep(Duration::from_millis(fastrand::u64(..RECONNECT_MS))).await;
                }
            }
        }
    }
}
