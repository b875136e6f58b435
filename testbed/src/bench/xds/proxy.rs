//! One simulated proxy: a delta-xDS client on a connection of its own, which subscribes and acknowledges as Envoy does.
//!
//! Clusters and listeners by wildcard, endpoints by the clusters' names, the route configuration and the filter by the names
//! that the listener refers to (taken as known here: bodies are not decoded). After a reconnect it asks for everything in one
//! go, and brings its versions along or not.

use super::wire::{self, Assignment, METHOD, Node, Request, Response};
use anyhow::{Context, Result, bail};
use bytes::Bytes;
use http::uri::PathAndQuery;
use prost::Message;
use std::collections::{BTreeMap, BTreeSet, HashMap};
use std::net::SocketAddr;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::sync::{Mutex, PoisonError};
use std::time::Instant;
use tokio::sync::mpsc;
use tokio_stream::wrappers::ReceiverStream;
use tonic::client::Grpc;
use tonic::transport::{Channel, Endpoint};
use tonic_prost::ProstCodec;

/// Windows that hold whole responses, as Envoy's own do (its defaults are larger still): the stream is never idle for want of
/// a window.
const STREAM_WINDOW: u32 = 16 << 20;
const CONNECTION_WINDOW: u32 = 24 << 20;
/// A full assignment of fifty thousand endpoints is some ten megabytes.
const MAX_RESPONSE_BYTES: usize = 1 << 30;

/// What the gateway's listener refers to (docs/architecture.md).
const ROUTE_NAME: &str = "gateway";
const EXTENSION_NAME: &str = "kilocard-gateway";

/// Endpoints by cluster: `IP:port` and weight.
pub(super) type Endpoints = BTreeMap<String, BTreeMap<String, u64>>;

/// Names and versions held, by type.
type Versions = BTreeMap<Box<[u8]>, Box<[u8]>>;

/// What all see of one proxy while it runs.
#[derive(Debug, Default)]
pub(super) struct Seen {
    /// Revisions of endpoints that were new to the proxy, and when it acknowledged them; rising in both.
    acknowledged: Mutex<Vec<(i64, Instant)>>,
    /// Whether it holds something of every type on this connection.
    synced: AtomicBool,
    /// Connections lost other than by order.
    pub(super) failures: AtomicU64,
    /// Messages received.
    pub(super) responses: AtomicU64,
    /// Bytes of these messages.
    pub(super) bytes: AtomicU64,
    /// Hash over the names and versions of endpoints that it holds; the same for all that hold the same.
    pub(super) endpoints_hash: AtomicU64,
    /// The endpoints that it holds; `None` unless it verifies.
    decoded: Option<Mutex<Endpoints>>,
}

impl Seen {
    /// Of a proxy that decodes endpoints, or does not.
    pub(super) fn new(verifies: bool) -> Self {
        Self {
            decoded: verifies.then(Mutex::default),
            ..Self::default()
        }
    }

    /// Whether it holds exactly these endpoints, as far as it decodes them.
    pub(super) fn holds(&self, expected: &Endpoints) -> bool {
        self.decoded.as_ref().is_none_or(|decoded| *lock(decoded) == *expected)
    }

    /// The newest revision of endpoints that it has acknowledged.
    pub(super) fn revision(&self) -> i64 {
        lock(&self.acknowledged).last().map_or(0, |(revision, _)| *revision)
    }

    /// When it first acknowledged this revision or a later one.
    pub(super) fn acknowledged(&self, revision: i64) -> Option<Instant> {
        let acknowledged = lock(&self.acknowledged);
        let at = acknowledged.partition_point(|(seen, _)| *seen < revision);
        acknowledged.get(at).map(|(_, when)| *when)
    }

    pub(super) fn is_synced(&self) -> bool {
        self.synced.load(Ordering::Acquire)
    }

    /// Before a new connection.
    pub(super) fn start_over(&self, empty: bool) {
        self.synced.store(false, Ordering::Release);
        if empty {
            self.decoded.iter().for_each(|decoded| lock(decoded).clear());
        }
    }
}

fn lock<T>(mutex: &Mutex<T>) -> std::sync::MutexGuard<'_, T> {
    mutex.lock().unwrap_or_else(PoisonError::into_inner)
}

/// The proxy's own state; it outlives connections.
#[derive(Debug, Default)]
pub(super) struct Proxy {
    id: String,
    held: BTreeMap<String, Versions>,
}

impl Proxy {
    pub(super) fn new(id: String) -> Self {
        Self {
            id,
            held: BTreeMap::new(),
        }
    }

    /// Forgets everything, as a proxy that was started anew.
    pub(super) fn forget(&mut self) {
        self.held.clear();
    }

    /// Connects and speaks until the connection ends.
    ///
    /// # Errors
    /// Whatever ended it.
    pub(super) async fn speak(&mut self, address: SocketAddr, seen: &Seen) -> Result<()> {
        let channel = Endpoint::from_shared(format!("http://{address}"))?
            .initial_stream_window_size(Some(STREAM_WINDOW))
            .initial_connection_window_size(Some(CONNECTION_WINDOW))
            .tcp_nodelay(true)
            .connect()
            .await?;
        let mut grpc: Grpc<Channel> = Grpc::new(channel).max_decoding_message_size(MAX_RESPONSE_BYTES);
        grpc.ready().await?;
        let (requests, receiver) = mpsc::channel(16);
        for request in self.first_requests() {
            requests.send(request).await?;
        }
        let path = PathAndQuery::from_static(METHOD);
        let codec: ProstCodec<Request, Response> = ProstCodec::default();
        let stream = grpc.streaming(tonic::Request::new(ReceiverStream::new(receiver)), path, codec);
        let mut responses = stream.await?.into_inner();
        while let Some(response) = responses.message().await? {
            self.take(response, &requests, seen).await?;
        }
        bail!("the control plane ended the stream")
    }

    /// A new proxy asks for clusters and listeners; one that holds something asks for all that it holds.
    fn first_requests(&self) -> Vec<Request> {
        let node = Node {
            id: self.id.clone(),
            cluster: "bench".to_owned(),
            user_agent_name: "envoy".to_owned(),
        };
        let mut kinds = vec![wire::CLUSTER];
        if !self.held.is_empty() {
            kinds.push(wire::ENDPOINTS);
        }
        kinds.push(wire::LISTENER);
        if !self.held.is_empty() {
            kinds.extend([wire::ROUTE, wire::EXTENSION]);
        }
        let requests = kinds.into_iter().enumerate().map(|(place, kind)| {
            let held = self.held.get(kind);
            let wildcard = matches!(kind, wire::CLUSTER | wire::LISTENER);
            let names = held.into_iter().flat_map(BTreeMap::keys);
            Request {
                node: (place == 0).then(|| node.clone()),
                type_url: kind.to_owned(),
                subscribe: names
                    .filter(|_| !wildcard)
                    .map(|name| Bytes::copy_from_slice(name))
                    .collect(),
                initial_versions: held.map(to_strings).unwrap_or_default(),
                nonce: String::new(),
            }
        });
        requests.collect()
    }

    async fn take(&mut self, response: Response, requests: &mpsc::Sender<Request>, seen: &Seen) -> Result<()> {
        seen.responses.fetch_add(1, Ordering::Relaxed);
        seen.bytes.fetch_add(response.encoded_len() as u64, Ordering::Relaxed);
        let (kind, revision) = (response.type_url.clone(), response.revision());
        let new = self.keep(&response);
        if response.type_url == wire::ENDPOINTS {
            decode(&response, seen)?;
        }
        requests
            .send(Request {
                type_url: response.type_url,
                nonce: response.nonce,
                ..Request::default()
            })
            .await?;
        match kind.as_str() {
            wire::CLUSTER if !new.is_empty() => requests.send(subscription(wire::ENDPOINTS, new)).await?,
            wire::LISTENER if !new.is_empty() => {
                let name = |name: &'static str| vec![Bytes::from_static(name.as_bytes())];
                requests.send(subscription(wire::ROUTE, name(ROUTE_NAME))).await?;
                requests
                    .send(subscription(wire::EXTENSION, name(EXTENSION_NAME)))
                    .await?;
            }
            wire::ENDPOINTS => self.note(revision, seen),
            _ => {}
        }
        if !seen.is_synced() && self.is_complete() {
            self.note_hash(seen);
            seen.synced.store(true, Ordering::Release);
        }
        Ok(())
    }

    /// Keeps versions; gives the names that are new.
    fn keep(&mut self, response: &Response) -> Vec<Bytes> {
        let held = self.held.entry(response.type_url.clone()).or_default();
        for name in &response.removed {
            held.remove(name.as_ref());
        }
        let mut new = Vec::new();
        for resource in &response.resources {
            let version: Box<[u8]> = resource.version.as_ref().into();
            match held.get_mut(resource.name.as_ref()) {
                Some(held) => *held = version,
                None => {
                    held.insert(resource.name.as_ref().into(), version);
                    new.push(resource.name.clone());
                }
            }
        }
        new
    }

    fn note(&self, revision: Option<i64>, seen: &Seen) {
        let now = Instant::now();
        if let Some(revision) = revision {
            let mut acknowledged = lock(&seen.acknowledged);
            if acknowledged.last().is_none_or(|(last, _)| *last < revision) {
                acknowledged.push((revision, now));
            }
        }
        self.note_hash(seen);
    }

    fn note_hash(&self, seen: &Seen) {
        use std::hash::{DefaultHasher, Hash, Hasher};
        let mut hasher = DefaultHasher::new();
        self.held.get(wire::ENDPOINTS).hash(&mut hasher);
        seen.endpoints_hash.store(hasher.finish(), Ordering::Relaxed);
    }

    /// Whether it holds the endpoints of all its clusters, and something of every other type.
    fn is_complete(&self) -> bool {
        let names = |kind: &str| -> BTreeSet<&Box<[u8]>> {
            self.held
                .get(kind)
                .into_iter()
                .flatten()
                .map(|(name, _)| name)
                .collect()
        };
        let others = [wire::LISTENER, wire::ROUTE, wire::EXTENSION];
        let clusters = names(wire::CLUSTER);
        !clusters.is_empty()
            && others.into_iter().all(|kind| !names(kind).is_empty())
            && names(wire::ENDPOINTS) == clusters
    }
}

/// Takes over the endpoints of a response, if the proxy verifies.
fn decode(response: &Response, seen: &Seen) -> Result<()> {
    let Some(decoded) = &seen.decoded else { return Ok(()) };
    let mut decoded = lock(decoded);
    for resource in &response.resources {
        let body = resource.resource.as_ref().context("a resource without a body")?;
        let assignment = Assignment::decode(body.value.clone())?;
        let name = String::from_utf8(resource.name.to_vec())?;
        decoded.insert(name, assignment.endpoints().collect());
    }
    for name in &response.removed {
        decoded.remove(std::str::from_utf8(name)?);
    }
    Ok(())
}

fn subscription(kind: &str, subscribe: Vec<Bytes>) -> Request {
    Request {
        type_url: kind.to_owned(),
        subscribe,
        ..Request::default()
    }
}

fn to_strings(versions: &Versions) -> HashMap<String, String> {
    let text = |bytes: &[u8]| String::from_utf8_lossy(bytes).into_owned();
    versions
        .iter()
        .map(|(name, version)| (text(name), text(version)))
        .collect()
}
