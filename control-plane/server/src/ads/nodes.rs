//! The connected proxies: how far each is, and how often they agreed.

use kilocard_registry::report::{NackReport, NodeReport, NodeTypeReport};
use kilocard_xds::report::{Answer, TypeReport};
use kilocard_xds::snapshot::ResourceType;
use std::collections::BTreeMap;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

/// The registry of open streams. Cloning shares it.
#[derive(Clone, Debug, Default)]
pub struct Nodes {
    inner: Arc<Mutex<Inner>>,
}

#[derive(Debug, Default)]
struct Inner {
    next_stream: u64,
    streams: BTreeMap<u64, Entry>,
    types: BTreeMap<ResourceType, TypeCounters>,
}

#[derive(Debug)]
struct Entry {
    node: String,
    protocol: &'static str,
    types: Vec<TypeReport>,
}

/// What `/metrics` counts.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct AdsCounters {
    /// Streams open now.
    pub connected_streams: usize,
    /// Since the start, by type; a type appears once it has been used.
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
        let mut nodes: Vec<NodeReport> = self.lock().streams.values().map(Entry::report).collect();
        nodes.sort_by(|a, b| a.id.cmp(&b.id));
        nodes
    }

    /// For `/metrics`.
    pub fn counters(&self) -> AdsCounters {
        let inner = self.lock();
        AdsCounters {
            connected_streams: inner.streams.len(),
            types: inner.types.clone(),
        }
    }

    /// Registers a stream until the result is dropped.
    pub(super) fn connect(&self, node: String, protocol: &'static str) -> Connection {
        let mut inner = self.lock();
        inner.next_stream += 1;
        let stream = inner.next_stream;
        inner.streams.insert(
            stream,
            Entry {
                node,
                protocol,
                types: Vec::new(),
            },
        );
        Connection {
            nodes: self.clone(),
            stream,
        }
    }

    /// Nothing under this lock can leave it half done, so a poisoned one is as good as any.
    fn lock(&self) -> MutexGuard<'_, Inner> {
        self.inner.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

/// One registered stream.
#[derive(Debug)]
pub(super) struct Connection {
    nodes: Nodes,
    stream: u64,
}

impl Connection {
    /// Counts a response and takes the stream's new state.
    pub(super) fn responded(&self, kind: ResourceType, types: Vec<TypeReport>) {
        self.update(kind, types, |counters| counters.responses += 1);
    }

    /// Counts an answer and takes the stream's new state.
    pub(super) fn answered(&self, kind: ResourceType, answer: &Answer, types: Vec<TypeReport>) {
        self.update(kind, types, |counters| match answer {
            Answer::None => {}
            Answer::Ack(_) => counters.acks += 1,
            Answer::Nack(_) => counters.nacks += 1,
        });
    }

    fn update(&self, kind: ResourceType, types: Vec<TypeReport>, count: impl FnOnce(&mut TypeCounters)) {
        let mut inner = self.nodes.lock();
        count(inner.types.entry(kind).or_default());
        if let Some(entry) = inner.streams.get_mut(&self.stream) {
            entry.types = types;
        }
    }
}

impl Drop for Connection {
    fn drop(&mut self) {
        self.nodes.lock().streams.remove(&self.stream);
    }
}

impl Entry {
    fn report(&self) -> NodeReport {
        let mut types: Vec<NodeTypeReport> = self.types.iter().map(type_report).collect();
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
