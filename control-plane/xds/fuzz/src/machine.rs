//! Either protocol behind one face.

use kilocard_xds::snapshot::{ResourceType, Snapshot, Version};
use kilocard_xds::{delta, sotw};
use std::collections::{BTreeMap, BTreeSet};

/// Name to version; `None` for a removal.
pub type Contents = BTreeMap<String, Option<Version>>;

/// A response.
#[derive(Clone, Debug)]
pub struct Response {
    pub kind: ResourceType,
    pub nonce: String,
    pub version: String,
    pub contents: Contents,
    pub heartbeats: BTreeSet<String>,
    pub bytes: usize,
}

/// A request, as either protocol needs it.
#[derive(Clone, Debug)]
pub struct Request {
    pub kind: ResourceType,
    pub nonce: String,
    pub error: Option<String>,
    /// Delta: what changes.
    pub subscribe: Vec<String>,
    pub unsubscribe: Vec<String>,
    pub held: BTreeMap<String, Version>,
    /// State of the world: all of it, and the version in use.
    pub names: Vec<String>,
    pub version: String,
}

impl Request {
    pub fn new(kind: ResourceType) -> Self {
        Self {
            kind,
            nonce: String::new(),
            error: None,
            subscribe: Vec::new(),
            unsubscribe: Vec::new(),
            held: BTreeMap::new(),
            names: Vec::new(),
            version: String::new(),
        }
    }
}

/// A stream.
pub enum Machine {
    Delta(delta::Stream),
    Sotw(sotw::Stream),
}

impl Machine {
    pub fn new(delta: bool, limit: usize) -> Self {
        if delta {
            Self::Delta(delta::Stream::limited(limit))
        } else {
            Self::Sotw(sotw::Stream::new())
        }
    }

    pub fn take(&mut self, request: Request) {
        let taken = match self {
            Self::Delta(stream) => stream.on_request(delta::Request {
                kind: request.kind,
                nonce: request.nonce,
                subscribe: request.subscribe,
                unsubscribe: request.unsubscribe,
                initial_versions: request.held,
                error: request.error,
            }),
            Self::Sotw(stream) => stream.on_request(sotw::Request {
                kind: request.kind,
                version: request.version,
                nonce: request.nonce,
                names: request.names,
                error: request.error,
            }),
        };
        assert!(taken.is_ok(), "within limits: {taken:?}");
    }

    pub fn next(&mut self, snapshot: &Snapshot) -> Option<Response> {
        let (kind, nonce, version, resources, removed, heartbeats) = match self {
            Self::Delta(stream) => {
                let r = stream.next_response(snapshot)?;
                (r.kind, r.nonce, r.system_version, r.resources, r.removed, r.heartbeats)
            }
            Self::Sotw(stream) => {
                let r = stream.next_response(snapshot)?;
                (r.kind, r.nonce, r.version, r.resources, Vec::new(), Vec::new())
            }
        };
        let bytes = resources.iter().map(|resource| resource.size()).sum();
        let count = resources.len() + removed.len() + heartbeats.len();
        let sent = resources.iter().map(|r| (r.name.clone(), Some(r.version.clone())));
        let contents: Contents = sent.chain(removed.into_iter().map(|name| (name, None))).collect();
        let heartbeats: BTreeSet<String> = heartbeats.iter().map(|resource| resource.name.clone()).collect();
        let different: BTreeSet<&String> = contents.keys().chain(&heartbeats).collect();
        // "It is an error for a server to send a single response that contains the same resource name twice."
        assert_eq!(
            different.len(),
            count,
            "a name twice in one response: {contents:?} {heartbeats:?}"
        );
        Some(Response {
            kind,
            nonce,
            version: version.to_string(),
            contents,
            heartbeats,
            bytes,
        })
    }

    pub fn refresh(&mut self, snapshot: &Snapshot) {
        match self {
            Self::Delta(stream) => stream.refresh(snapshot),
            Self::Sotw(stream) => stream.refresh(snapshot),
        }
    }

    pub fn end_opening(&mut self) {
        if let Self::Delta(stream) = self {
            stream.end_opening();
        }
    }

    /// What reports say; all of it must be consistent whatever was said.
    pub fn inspect(&self, snapshot: &Snapshot) {
        let (reports, resources) = match self {
            Self::Delta(stream) => (stream.report(), stream.inspect(snapshot)),
            Self::Sotw(stream) => (stream.report(), stream.inspect(snapshot)),
        };
        assert!(
            reports.iter().all(|report| report.behind || !report.in_flight),
            "{reports:?}"
        );
        let names: BTreeSet<(ResourceType, &str)> = resources.iter().map(|r| (r.kind, r.name.as_str())).collect();
        assert_eq!(names.len(), resources.len(), "a resource twice: {resources:?}");
    }
}
