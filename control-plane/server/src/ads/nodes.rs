//! The connected proxies: how far each is, and how often they agreed.

use super::authorise::Peer;
use super::progress::Progress;
use crate::audience::Audience;
use envoy_types::pb::envoy::config::core::v3::Node;
use kilocard_registry::report::NodeReport;
use kilocard_xds::report::{Answer, ResourceReport, TypeReport};
use kilocard_xds::snapshot::ResourceType;
use prometheus_client::metrics::family::Family;
use prometheus_client::metrics::histogram::Histogram;
use std::collections::BTreeMap;
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::{Duration, Instant};
use tokio::sync::{mpsc, oneshot};

/// How long a stream may take to say how far each of its resources is.
const INSPECTION: Duration = Duration::from_secs(1);

/// The registry of open streams. Cloning shares it. Locked as a whole only when a stream comes or goes and when someone
/// reads it: a message touches the lock of its stream and the counters, which are atomic.
#[derive(Clone, Debug, Default)]
pub struct Nodes {
    inner: Arc<Inner>,
}

#[derive(Debug)]
struct Inner {
    streams: Mutex<Streams>,
    types: BTreeMap<ResourceType, Counting>,
    denied: AtomicU64,
    push_seconds: PushSeconds,
}

/// From a change that was noticed until a proxy had acknowledged what followed from it, by the last part of the type's URL.
pub(crate) type PushSeconds = Family<[(&'static str, &'static str); 1], Histogram, fn() -> Histogram>;

/// Bounds of the buckets: the aim is 50 ms for half of the pushes and 250 ms for all but one of a hundred.
const PUSH_BUCKETS: [f64; 11] = [0.005, 0.01, 0.025, 0.05, 0.1, 0.25, 0.5, 1.0, 2.5, 5.0, 10.0];

#[derive(Debug, Default)]
struct Streams {
    last: u64,
    open: BTreeMap<u64, Arc<Entry>>,
}

#[derive(Debug)]
struct Entry {
    node: Node,
    peer: Peer,
    protocol: String,
    since: Instant,
    progress: Mutex<Progress>,
    inspections: mpsc::Sender<Inspection>,
}

/// A question to a stream's task: how far is each resource?
pub(super) type Inspection = oneshot::Sender<Vec<ResourceReport>>;

/// The answer.
pub(super) struct Inspected {
    /// Who it is.
    pub(super) node: Node,
    /// By type and name; `None` if the stream did not answer in time.
    pub(super) resources: Option<Vec<ResourceReport>>,
    /// What the client said of each resource that it named when it refused a response.
    pub(super) reasons: BTreeMap<(ResourceType, String), String>,
}

#[derive(Debug, Default)]
struct Counting {
    responses: AtomicU64,
    acks: AtomicU64,
    nacks: AtomicU64,
    oversized: AtomicU64,
}

impl Default for Inner {
    fn default() -> Self {
        Self {
            streams: Mutex::default(),
            types: ResourceType::ALL
                .into_iter()
                .map(|kind| (kind, Counting::default()))
                .collect(),
            denied: AtomicU64::default(),
            push_seconds: PushSeconds::new_with_constructor(|| Histogram::new(PUSH_BUCKETS)),
        }
    }
}

/// What `/metrics` counts.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct AdsCounters {
    /// Streams open now.
    pub connected_streams: usize,
    /// Streams refused since the start, since their node is not allowed.
    pub denied: u64,
    /// Since the start, by type.
    pub types: BTreeMap<ResourceType, TypeCounters>,
}

/// Counts since the start, over all streams.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct TypeCounters {
    /// Responses handed to streams.
    pub responses: u64,
    /// Responses accepted.
    pub acks: u64,
    /// Responses refused.
    pub nacks: u64,
    /// Responses beyond what a gRPC client takes by default.
    pub oversized: u64,
    /// Streams that lack something of what is served, now.
    pub behind: u64,
    /// The longest time that one of them has been behind.
    pub behind_longest: Duration,
    /// Resources that stand refused, over all streams, now.
    pub refused_resources: u64,
}

impl Nodes {
    /// All open streams, sorted by node id. A node with several streams appears once for each.
    pub fn report(&self) -> Vec<NodeReport> {
        let now = Instant::now();
        let mut nodes: Vec<NodeReport> = self.open().iter().map(|entry| entry.report(now)).collect();
        nodes.sort_by(|a, b| a.id.cmp(&b.id));
        nodes
    }

    fn open(&self) -> Vec<Arc<Entry>> {
        lock(&self.inner.streams).open.values().cloned().collect()
    }

    /// How many streams are open.
    pub(super) fn count(&self) -> usize {
        lock(&self.inner.streams).open.len()
    }

    /// Every resource of the streams whose node is wanted.
    pub(super) async fn inspect(&self, wanted: impl Fn(&Node) -> bool) -> Vec<Inspected> {
        let mut open = self.open();
        open.retain(|entry| wanted(&entry.node));
        open.sort_by(|a, b| a.node.id.cmp(&b.node.id));
        let inspections = open.into_iter().map(|entry| async move { entry.inspect().await });
        futures::future::join_all(inspections).await
    }

    /// Counts a stream that was refused.
    pub(super) fn deny(&self) {
        self.inner.denied.fetch_add(1, Ordering::Relaxed);
    }

    /// How soon proxies have what changes.
    pub(crate) fn push_seconds(&self) -> PushSeconds {
        self.inner.push_seconds.clone()
    }

    /// For `/metrics`.
    pub fn counters(&self) -> AdsCounters {
        let (now, open) = (Instant::now(), self.open());
        let types = self.inner.types.iter();
        let mut types: BTreeMap<_, _> = types.map(|(kind, counting)| (*kind, counting.read())).collect();
        for entry in &open {
            let progress = lock(&entry.progress);
            for (kind, since) in progress.behind() {
                if let Some(counters) = types.get_mut(&kind) {
                    counters.behind += 1;
                    counters.behind_longest = counters.behind_longest.max(now.saturating_duration_since(since));
                }
            }
            for (kind, count) in progress.refused() {
                if let Some(counters) = types.get_mut(&kind) {
                    counters.refused_resources += count as u64;
                }
            }
        }
        AdsCounters {
            connected_streams: open.len(),
            denied: self.inner.denied.load(Ordering::Relaxed),
            types,
        }
    }

    /// Registers a stream until the result is dropped. Who has the other end answers questions about its resources.
    pub(super) fn connect(&self, node: Node, peer: Peer, protocol: String) -> (Connection, mpsc::Receiver<Inspection>) {
        let (inspections, receiver) = mpsc::channel(1);
        let entry = Arc::new(Entry {
            node,
            peer,
            protocol,
            since: Instant::now(),
            progress: Mutex::default(),
            inspections,
        });
        let mut streams = lock(&self.inner.streams);
        streams.last += 1;
        let stream = streams.last;
        streams.open.insert(stream, Arc::clone(&entry));
        let connection = Connection {
            nodes: Arc::clone(&self.inner),
            stream,
            entry,
        };
        (connection, receiver)
    }
}

/// Nothing under these locks can be left half done, so a poisoned one is as good as any.
fn lock<T>(mutex: &Mutex<T>) -> MutexGuard<'_, T> {
    mutex.lock().unwrap_or_else(PoisonError::into_inner)
}

/// One registered stream.
#[derive(Debug)]
pub(super) struct Connection {
    nodes: Arc<Inner>,
    stream: u64,
    entry: Arc<Entry>,
}

impl Connection {
    /// Takes the stream's new state.
    pub(super) fn rests(&self, types: Vec<TypeReport>) {
        lock(&self.entry.progress).update(types, Instant::now());
    }

    /// Counts a response and takes the stream's new state.
    pub(super) fn responded(&self, kind: ResourceType, types: Vec<TypeReport>) {
        self.count(kind, |counting| Some(&counting.responses));
        self.rests(types);
    }

    /// Counts a response that a gRPC client would not take by default.
    pub(super) fn oversized(&self, kind: ResourceType) {
        self.count(kind, |counting| Some(&counting.oversized));
    }

    /// Takes down how long it took from a change until the proxy acknowledged it.
    pub(super) fn pushed(&self, kind: ResourceType, took: Duration) {
        let label = [("type", kind.url().rsplit('.').next().unwrap_or_default())];
        self.nodes
            .push_seconds
            .get_or_create(&label)
            .observe(took.as_secs_f64());
    }

    /// Counts an answer and takes the stream's new state.
    pub(super) fn answered(&self, kind: ResourceType, answer: &Answer, types: Vec<TypeReport>) {
        self.count(kind, |counting| match answer {
            Answer::None => None,
            Answer::Ack(_) => Some(&counting.acks),
            Answer::Nack(_) => Some(&counting.nacks),
        });
        self.rests(types);
    }

    fn count(&self, kind: ResourceType, which: impl FnOnce(&Counting) -> Option<&AtomicU64>) {
        if let Some(counter) = self.nodes.types.get(&kind).and_then(which) {
            counter.fetch_add(1, Ordering::Relaxed);
        }
    }
}

impl Drop for Connection {
    fn drop(&mut self) {
        lock(&self.nodes.streams).open.remove(&self.stream);
    }
}

impl Counting {
    fn read(&self) -> TypeCounters {
        TypeCounters {
            responses: self.responses.load(Ordering::Relaxed),
            acks: self.acks.load(Ordering::Relaxed),
            nacks: self.nacks.load(Ordering::Relaxed),
            oversized: self.oversized.load(Ordering::Relaxed),
            ..TypeCounters::default()
        }
    }
}

impl Entry {
    fn report(&self, now: Instant) -> NodeReport {
        let Audience { client, locality } = Audience::of(&self.node);
        NodeReport {
            id: self.node.id.clone(),
            protocol: self.protocol.clone(),
            client: client.label().to_owned(),
            zone: locality.zone,
            rack: locality.rack,
            cluster: self.node.cluster.clone(),
            address: self.peer.address.map(|address| address.to_string()),
            connected_s: now.saturating_duration_since(self.since).as_secs(),
            types: lock(&self.progress).report(now),
        }
    }

    async fn inspect(&self) -> Inspected {
        let ask = async {
            let (answer, answered) = oneshot::channel();
            self.inspections.send(answer).await.ok()?;
            answered.await.ok()
        };
        let resources = tokio::time::timeout(INSPECTION, ask).await.ok().flatten();
        let progress = lock(&self.progress);
        let named = resources.iter().flatten().filter_map(|resource| {
            let reason = progress.reason(resource.kind, &resource.name)?;
            Some(((resource.kind, resource.name.clone()), reason.to_owned()))
        });
        let reasons = named.collect();
        drop(progress);
        Inspected {
            node: self.node.clone(),
            resources,
            reasons,
        }
    }
}
