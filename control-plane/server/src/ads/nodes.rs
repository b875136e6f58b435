//! The connected proxies: how far each is, and how often they agreed.

use kilocard_registry::report::{NackReport, NodeReport, NodeTypeReport};
use kilocard_xds::report::{Answer, TypeReport};
use kilocard_xds::snapshot::ResourceType;
use std::collections::BTreeMap;
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

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
}

#[derive(Debug, Default)]
struct Streams {
    last: u64,
    open: BTreeMap<u64, Arc<Entry>>,
}

#[derive(Debug)]
struct Entry {
    node: String,
    protocol: &'static str,
    types: Mutex<Vec<TypeReport>>,
}

#[derive(Debug, Default)]
struct Counting {
    responses: AtomicU64,
    acks: AtomicU64,
    nacks: AtomicU64,
}

impl Default for Inner {
    fn default() -> Self {
        Self {
            streams: Mutex::default(),
            types: ResourceType::ALL
                .into_iter()
                .map(|kind| (kind, Counting::default()))
                .collect(),
        }
    }
}

/// What `/metrics` counts.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct AdsCounters {
    /// Streams open now.
    pub connected_streams: usize,
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
}

impl Nodes {
    /// All open streams, sorted by node id. A node with several streams appears once for each.
    pub fn report(&self) -> Vec<NodeReport> {
        let open: Vec<Arc<Entry>> = lock(&self.inner.streams).open.values().cloned().collect();
        let mut nodes: Vec<NodeReport> = open.iter().map(|entry| entry.report()).collect();
        nodes.sort_by(|a, b| a.id.cmp(&b.id));
        nodes
    }

    /// For `/metrics`.
    pub fn counters(&self) -> AdsCounters {
        let types = self.inner.types.iter();
        AdsCounters {
            connected_streams: lock(&self.inner.streams).open.len(),
            types: types.map(|(kind, counting)| (*kind, counting.read())).collect(),
        }
    }

    /// Registers a stream until the result is dropped.
    pub(super) fn connect(&self, node: String, protocol: &'static str) -> Connection {
        let entry = Arc::new(Entry {
            node,
            protocol,
            types: Mutex::default(),
        });
        let mut streams = lock(&self.inner.streams);
        streams.last += 1;
        let stream = streams.last;
        streams.open.insert(stream, Arc::clone(&entry));
        Connection {
            nodes: Arc::clone(&self.inner),
            stream,
            entry,
        }
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
        *lock(&self.entry.types) = types;
    }

    /// Counts a response and takes the stream's new state.
    pub(super) fn responded(&self, kind: ResourceType, types: Vec<TypeReport>) {
        self.count(kind, |counting| Some(&counting.responses));
        self.rests(types);
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
        }
    }
}

impl Entry {
    fn report(&self) -> NodeReport {
        let mut types: Vec<NodeTypeReport> = lock(&self.types).iter().map(type_report).collect();
        types.sort_by(|a, b| a.type_url.cmp(&b.type_url));
        NodeReport {
            id: self.node.clone(),
            protocol: self.protocol.to_owned(),
            types,
        }
    }
}

fn type_report(report: &TypeReport) -> NodeTypeReport {
    NodeTypeReport {
        type_url: report.kind.url().to_owned(),
        acked_version: report.acked_version.as_ref().map(ToString::to_string),
        in_flight: report.in_flight,
        nack: report.nack.as_ref().map(|nack| NackReport {
            version: nack.version.to_string(),
            message: nack.message.clone(),
        }),
    }
}
