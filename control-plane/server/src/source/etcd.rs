//! The etcd side of the source: lists, watches, and starts over when anything is amiss.
//!
//! One session is: connect, list everything at one revision, watch from the next one. It ends in a relisting over the
//! same connection, or in a lost connection, after which the last good state stays in force until etcd answers again.

use crate::admission::{Candidate, Wanted};
use crate::model::inventory::{Change, Stored};
use crate::source::Health;
use crate::source::backoff::Backoff;
use crate::source::intake::Intake;
use crate::source::mirror::{Listing, Message, Relist};
use etcd_client::{Client, EventType, GetOptions, KeyValue, WatchOptions, WatchResponse};
use kilocard_registry::connect::{ConnectError, EtcdArgs};
use kilocard_registry::layout::{Key, Layout};
use std::collections::BTreeMap;
use std::time::Duration;
use tokio::time::{Instant, timeout};
use tokio_util::sync::CancellationToken;

/// Keys in one page of a listing: large enough to be few, small enough to stay far below gRPC's message limits.
const PAGE: i64 = 500;
/// Largest message taken from etcd; its own limit for one value is 1.5 MiB.
const MAX_MESSAGE_BYTES: usize = 256 << 20;
/// The safety net: everything is listed again after this time, give or take a quarter.
const RELIST_EVERY: Duration = Duration::from_secs(60);
/// A watch that says nothing for so long is asked for a sign of life.
const QUIET: Duration = Duration::from_secs(10);
/// A watch that was asked and does not answer in this time is dead.
const ANSWER: Duration = Duration::from_secs(5);
/// Patience with etcd at the start, after which what an earlier process left on disk is served: long enough for an etcd
/// that is there, so that proxies are not given an old state for a moment.
const PATIENCE: Duration = Duration::from_millis(700);
/// Pause before a listing that lacks suspiciously many workers is read again.
const SECOND_LOOK: Duration = Duration::from_millis(250);

/// Why a session ended.
#[derive(Debug, thiserror::Error)]
enum Lost {
    #[error(transparent)]
    Connect(#[from] ConnectError),
    #[error("etcd: {0}")]
    Etcd(#[from] etcd_client::Error),
    #[error("etcd ended the watch")]
    WatchEnded,
    #[error("the watch gave no sign of life for {} s", (QUIET + ANSWER).as_secs())]
    Silent,
    #[error("etcd did not answer within {} ms", .0.as_millis())]
    Slow(Duration),
}

/// The source; [`EtcdSource::run`] drives it.
pub struct EtcdSource {
    args: EtcdArgs,
    layout: Layout,
    intake: Intake,
    begun: bool,
    health: Health,
}

impl EtcdSource {
    /// A source that has not begun.
    pub fn new(args: EtcdArgs, layout: Layout, intake: Intake, health: Health) -> Self {
        Self {
            args,
            layout,
            intake,
            begun: false,
            health,
        }
    }

    /// Keeps up with etcd until cancelled.
    pub async fn run(mut self, cancel: CancellationToken) {
        let intake = self.intake.clone();
        let late = async {
            tokio::time::sleep(PATIENCE).await;
            intake.serve_saved();
            std::future::pending::<()>().await;
        };
        tokio::select! {
            () = cancel.cancelled() => {}
            () = self.keep_up() => {}
            () = late => {}
        }
    }

    async fn keep_up(&mut self) {
        let mut backoff = Backoff::new();
        loop {
            let lost = self.connection(&mut backoff).await;
            let was_connected = self.health.is_connected();
            self.health.connected.set(0);
            self.intake.serve_saved();
            let pause = backoff.pause(fastrand::f64());
            if was_connected {
                tracing::warn!(error = %lost, revision = self.intake.revision(), "etcd lost: the last good state stays in force");
            } else {
                tracing::warn!(error = %lost, retry_in_ms = pause.as_millis(), "etcd cannot be reached");
            }
            tokio::time::sleep(pause).await;
        }
    }

    /// One connection: sessions until it is lost.
    async fn connection(&mut self, backoff: &mut Backoff) -> Lost {
        let mut client = match self.args.connect().await {
            Ok(client) => client,
            Err(error) => return error.into(),
        };
        let mut reason = Relist::Connected;
        loop {
            let begun = Instant::now();
            reason = match self.session(&mut client, reason, backoff).await {
                Ok(next) => next,
                Err(lost) => return lost,
            };
            if begun.elapsed() < Duration::from_secs(1) {
                tokio::time::sleep(backoff.pause(fastrand::f64())).await;
            }
            if reason != Relist::Periodic {
                tracing::warn!(
                    reason = reason.label(),
                    revision = self.intake.revision(),
                    "listing etcd again"
                );
            }
        }
    }

    /// Lists and watches; gives the reason for listing again.
    async fn session(&mut self, client: &mut Client, reason: Relist, backoff: &mut Backoff) -> Result<Relist, Lost> {
        let listing = self.list(client).await?;
        self.health.relists.get_or_create(&[("reason", reason.label())]).inc();
        self.take_listing(client, listing).await?;
        self.health.connected.set(1);
        backoff.reset();
        if reason == Relist::Connected {
            tracing::info!(revision = self.intake.revision(), "etcd connected");
        }
        self.follow(client).await
    }

    async fn take_listing(&mut self, client: &mut Client, mut listing: Listing) -> Result<(), Lost> {
        if !self.begun {
            return self.take_first(client, listing).await;
        }
        if self.intake.is_suspicious(&listing) {
            tracing::warn!(
                revision = listing.revision,
                "many workers are missing from etcd at once: reading again"
            );
            tokio::time::sleep(SECOND_LOOK).await;
            listing = self.list(client).await?;
        }
        self.intake.replace(listing);
        Ok(())
    }

    /// Takes this process's first listing, with what was in force before it.
    async fn take_first(&mut self, client: &Client, listing: Listing) -> Result<(), Lost> {
        let cluster = listing.cluster;
        let mut ledger = self.intake.successor(cluster);
        ledger.begin(listing, std::time::Instant::now());
        let mut past = BTreeMap::new();
        for wanted in ledger.wanted() {
            let document = self.past(client, &wanted).await?;
            past.insert(wanted.id, document);
        }
        ledger.recover(&past);
        self.intake.install(ledger, cluster);
        self.begun = true;
        Ok(())
    }

    /// Watches from the revision after the listing's.
    async fn follow(&mut self, client: &mut Client) -> Result<Relist, Lost> {
        let options = WatchOptions::new()
            .with_prefix()
            .with_start_revision(self.intake.revision() + 1)
            .with_progress_notify();
        let mut watches = client.watch_client().max_decoding_message_size(MAX_MESSAGE_BYTES);
        let mut stream = self.in_time(watches.watch(self.layout.root(), Some(options))).await?;
        let relist_at = Instant::now() + RELIST_EVERY.mul_f64(0.75 + fastrand::f64() / 2.0);
        let mut asked = false;
        loop {
            let patience = if asked { ANSWER } else { QUIET };
            tokio::select! {
                () = tokio::time::sleep_until(relist_at) => return Ok(Relist::Periodic),
                heard = timeout(patience, stream.message()) => match heard {
                    Ok(message) => {
                        asked = false;
                        let response = message?.ok_or(Lost::WatchEnded)?;
                        if let Err(reason) = self.intake.react(to_message(&response)) {
                            return Ok(reason);
                        }
                    }
                    Err(_) if asked => return Err(Lost::Silent),
                    Err(_) => {
                        stream.request_progress().await?;
                        asked = true;
                    }
                },
            }
        }
    }

    /// Everything under the prefix at one revision, in pages.
    async fn list(&self, client: &Client) -> Result<Listing, Lost> {
        let mut keys = client.kv_client().max_decoding_message_size(MAX_MESSAGE_BYTES);
        let (mut from, end) = (self.layout.root().into_bytes(), end_of(&self.layout.root()));
        let mut listing = Listing::default();
        loop {
            let mut options = GetOptions::new().with_range(end.clone()).with_limit(PAGE);
            if listing.revision != 0 {
                options = options.with_revision(listing.revision);
            }
            let page = self.in_time(keys.get(from, Some(options))).await?;
            if listing.revision == 0 {
                listing.revision = page.header().map_or(0, etcd_client::ResponseHeader::revision);
                listing.cluster = page.header().map_or(0, etcd_client::ResponseHeader::cluster_id);
            }
            listing
                .entries
                .extend(page.kvs().iter().map(|kv| (kv.key().to_vec(), to_stored(kv))));
            match page.kvs().last() {
                Some(last) if page.more() => from = after(last.key()),
                _ => return Ok(listing),
            }
        }
    }

    /// A document as it stood at an earlier revision; `None` when history does not reach back so far.
    async fn past(&self, client: &Client, wanted: &Wanted) -> Result<Option<Candidate>, Lost> {
        let key = self.layout.key(&Key::Policy(wanted.id.clone()));
        let options = GetOptions::new().with_revision(wanted.revision);
        match self.in_time(client.kv_client().get(key, Some(options))).await {
            Ok(found) => Ok(found
                .kvs()
                .first()
                .map(|kv| Candidate {
                    revision: kv.mod_revision(),
                    json: kv.value().into(),
                })
                .filter(|candidate| candidate.revision == wanted.revision)),
            // OUT_OF_RANGE: compacted, or (after a restore of etcd) not there yet.
            Err(Lost::Etcd(etcd_client::Error::GRpcStatus(status))) if status.code() == tonic::Code::OutOfRange => {
                tracing::error!(policy = %wanted.id, revision = wanted.revision, "its last good document was compacted away");
                Ok(None)
            }
            Err(lost) => Err(lost),
        }
    }

    async fn in_time<T>(&self, call: impl Future<Output = Result<T, etcd_client::Error>>) -> Result<T, Lost> {
        timeout(self.args.timeout(), call)
            .await
            .map_err(|_| Lost::Slow(self.args.timeout()))?
            .map_err(Lost::Etcd)
    }
}

fn to_message(response: &WatchResponse) -> Message {
    let changes = response.events().iter().filter_map(|event| {
        let kv = event.kv()?;
        let stored = (event.event_type() == EventType::Put).then(|| to_stored(kv));
        Some((
            kv.mod_revision(),
            Change {
                key: kv.key().to_vec(),
                stored,
            },
        ))
    });
    let changes: Vec<_> = changes.collect();
    // An answer to a request for progress (watch id −1) may overtake events on servers before 3.4.25 (etcd issue 15220),
    // so it counts as a sign of life only.
    let periodic = changes.is_empty() && !response.created() && !response.canceled() && response.watch_id() >= 0;
    let revision = response.header().map(etcd_client::ResponseHeader::revision);
    Message {
        cancelled: response.canceled(),
        compact_revision: response.compact_revision(),
        reason: response.cancel_reason().to_owned(),
        complete_to: revision.filter(|_| periodic),
        changes,
    }
}

fn to_stored(kv: &KeyValue) -> Stored {
    Stored {
        created: kv.create_revision(),
        modified: kv.mod_revision(),
        value: kv.value().into(),
    }
}

/// The least key after all keys that begin with `root`, which ends in a slash.
fn end_of(root: &str) -> Vec<u8> {
    let mut end = root.trim_end_matches('/').as_bytes().to_vec();
    end.push(b'/' + 1);
    end
}

/// The least key after `key`.
fn after(key: &[u8]) -> Vec<u8> {
    let mut next = key.to_vec();
    next.push(0);
    next
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_range_of_a_prefix_ends_right_after_it() {
        let end = end_of("/kilocard/v1/");
        assert_eq!(end, b"/kilocard/v10");
        assert!(b"/kilocard/v1/zzz".as_slice() < end.as_slice() && b"/kilocard/v10".as_slice() >= end.as_slice());
        assert_eq!(after(b"/a"), b"/a\0");
    }
}
