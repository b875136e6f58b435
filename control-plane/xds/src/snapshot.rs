//! What is served: immutable, content-addressed resources by type and name.

use bytes::Bytes;
use sha2::{Digest, Sha256};
use std::collections::BTreeMap;
use std::fmt;
use std::sync::Arc;
use std::time::{Duration, Instant};

/// The resource types served here, in the order in which additions are sent (make before break: what is referred to goes
/// before what refers to it).
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum ResourceType {
    /// RTDS. First: a starting Envoy asks for its runtime before anything else, and asks for nothing else until it has it.
    Runtime,
    /// SDS. Before clusters: a cluster or listener that takes a secret from here stays warming until it has come, and Envoy
    /// asks for the secret only when it has got the cluster, so it never goes too early.
    Secret,
    /// CDS.
    Cluster,
    /// EDS.
    Endpoints,
    /// LDS.
    Listener,
    /// RDS.
    Route,
    /// ECDS: filter configuration.
    Extension,
}

impl ResourceType {
    /// All types, in sending order.
    pub const ALL: [Self; 7] = [
        Self::Runtime,
        Self::Secret,
        Self::Cluster,
        Self::Endpoints,
        Self::Listener,
        Self::Route,
        Self::Extension,
    ];

    /// The type URL on the wire.
    pub const fn url(self) -> &'static str {
        match self {
            Self::Runtime => "type.googleapis.com/envoy.service.runtime.v3.Runtime",
            Self::Secret => "type.googleapis.com/envoy.extensions.transport_sockets.tls.v3.Secret",
            Self::Cluster => "type.googleapis.com/envoy.config.cluster.v3.Cluster",
            Self::Endpoints => "type.googleapis.com/envoy.config.endpoint.v3.ClusterLoadAssignment",
            Self::Listener => "type.googleapis.com/envoy.config.listener.v3.Listener",
            Self::Route => "type.googleapis.com/envoy.config.route.v3.RouteConfiguration",
            Self::Extension => "type.googleapis.com/envoy.config.core.v3.TypedExtensionConfig",
        }
    }

    /// The type of a URL; `None` for one that is not served here.
    pub fn from_url(url: &str) -> Option<Self> {
        Self::ALL.into_iter().find(|kind| kind.url() == url)
    }

    /// Whether a state-of-the-world response must name every resource of the type, so that absence means deletion
    /// (spec, "Deleting Resources": LDS and CDS; for all others absence says nothing).
    pub const fn full_state(self) -> bool {
        matches!(self, Self::Cluster | Self::Listener)
    }
}

/// A content hash: the same bytes give the same version on every replica and after every restart.
#[derive(Clone, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct Version(Arc<str>);

impl Version {
    /// The version of one resource: the first 16 bytes of the SHA-256 of its encoding, in hex.
    pub fn of(body: &[u8]) -> Self {
        Self::from_digest(Sha256::new().chain_update(body))
    }

    /// The version of a collection: a hash over names and versions, in the order given (callers give it sorted by name).
    pub fn over<'a>(resources: impl IntoIterator<Item = &'a Arc<Resource>>) -> Self {
        let mut digest = Sha256::new();
        for resource in resources {
            digest.update(resource.name.as_bytes());
            digest.update([0]);
            digest.update(resource.version.as_str());
            digest.update([0]);
        }
        Self::from_digest(digest)
    }

    fn from_digest(digest: Sha256) -> Self {
        let hex = digest
            .finalize()
            .iter()
            .take(16)
            .fold(String::with_capacity(32), |mut hex, byte| {
                use fmt::Write;
                let _ = write!(hex, "{byte:02x}");
                hex
            });
        Self(hex.into())
    }

    /// As it stands on the wire.
    pub fn as_str(&self) -> &str {
        &self.0
    }
}

impl From<&str> for Version {
    fn from(text: &str) -> Self {
        Self(text.into())
    }
}

impl fmt::Display for Version {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.0)
    }
}

impl fmt::Debug for Version {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.0)
    }
}

/// One resource: the encoded message (the `value` of its `Any`) and its version. Cloning shares the bytes.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Resource {
    /// Unique within its type.
    pub name: String,
    /// Content hash of `body`.
    pub version: Version,
    /// Encoded protobuf message, without the `Any` around it.
    pub body: Bytes,
    awaits: Option<String>,
    /// How long a client keeps it once it has lost the server; `None`: for ever.
    pub ttl: Option<Duration>,
}

impl Resource {
    /// A resource from its encoding.
    pub fn new(name: impl Into<String>, body: impl Into<Bytes>) -> Self {
        let body = body.into();
        Self {
            name: name.into(),
            version: Version::of(&body),
            body,
            awaits: None,
            ttl: None,
        }
    }

    /// The same as a cluster whose endpoints bear another name than its own (`EdsClusterConfig.service_name`): several
    /// clusters may share one load assignment.
    #[must_use]
    pub fn awaiting(mut self, endpoints: impl Into<String>) -> Self {
        self.awaits = Some(endpoints.into());
        self
    }

    /// The name of the endpoints that a cluster awaits before it is warm.
    pub fn awaits(&self) -> &str {
        self.awaits.as_deref().unwrap_or(&self.name)
    }

    /// Bytes that it takes in a response, at most.
    pub fn size(&self) -> usize {
        // The type's URL, the version, and the tags and lengths around them.
        self.body.len() + self.name.len() + 160
    }

    /// The same, to be dropped by a client that has not heard of it for so long. "To update the TTL associated with a
    /// Resource, the management server resends the resource with a new TTL. To remove the TTL, the management server resends
    /// the resource with the TTL field unset": so the TTL is a part of what the version is the hash of.
    #[must_use]
    pub fn with_ttl(mut self, ttl: Duration) -> Self {
        let digest = Sha256::new()
            .chain_update(&self.body)
            .chain_update(ttl.as_nanos().to_be_bytes());
        self.version = Version::from_digest(digest);
        self.ttl = Some(ttl);
        self
    }
}

/// All resources of one type, by name.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct ResourceSet {
    resources: BTreeMap<String, Arc<Resource>>,
    version: Version,
    ttl: Option<Duration>,
}

impl ResourceSet {
    /// A set; of two resources with one name the later wins.
    pub fn new<R: Into<Arc<Resource>>>(resources: impl IntoIterator<Item = R>) -> Self {
        let resources = resources.into_iter().map(Into::<Arc<Resource>>::into);
        let resources: BTreeMap<_, _> = resources.map(|resource| (resource.name.clone(), resource)).collect();
        let version = Version::over(resources.values());
        let ttl = resources.values().filter_map(|resource| resource.ttl).min();
        Self {
            resources,
            version,
            ttl,
        }
    }

    /// The shortest TTL in it.
    pub fn ttl(&self) -> Option<Duration> {
        self.ttl
    }

    /// Content hash over names and versions.
    pub fn version(&self) -> &Version {
        &self.version
    }

    /// The resource of that name.
    pub fn get(&self, name: &str) -> Option<&Arc<Resource>> {
        self.resources.get(name)
    }

    /// All, sorted by name.
    pub fn iter(&self) -> impl Iterator<Item = &Arc<Resource>> {
        self.resources.values()
    }

    /// How many.
    pub fn len(&self) -> usize {
        self.resources.len()
    }

    /// Whether there is none.
    pub fn is_empty(&self) -> bool {
        self.resources.is_empty()
    }
}

impl Default for ResourceSet {
    fn default() -> Self {
        Self::new([] as [Resource; 0])
    }
}

/// Everything that is served at one moment.
#[derive(Clone, Debug, PartialEq, Eq, Default)]
pub struct Snapshot {
    sets: BTreeMap<ResourceType, ResourceSet>,
    revision: i64,
    noticed: Option<Instant>,
}

impl Snapshot {
    /// A snapshot from its sets; a type that is missing is empty.
    pub fn new(sets: impl IntoIterator<Item = (ResourceType, ResourceSet)>) -> Self {
        let mut all: BTreeMap<_, _> = ResourceType::ALL
            .into_iter()
            .map(|kind| (kind, ResourceSet::default()))
            .collect();
        all.extend(sets);
        Self {
            sets: all,
            revision: 0,
            noticed: None,
        }
    }

    /// The same with other resources of one type.
    #[must_use]
    pub fn with(mut self, kind: ResourceType, set: ResourceSet) -> Self {
        self.sets.insert(kind, set);
        self
    }

    /// The same, made from a store as of this revision.
    #[must_use]
    pub fn at(mut self, revision: i64) -> Self {
        self.revision = revision;
        self
    }

    /// The same, made since something was noticed then.
    #[must_use]
    pub fn noticed(mut self, when: Instant) -> Self {
        self.noticed = Some(when);
        self
    }

    /// When that was noticed for which this was made; carried along for whoever measures how soon clients have it.
    pub fn noticed_at(&self) -> Option<Instant> {
        self.noticed
    }

    /// The revision of the store that all of this follows from; no part of [`Snapshot::version`], since later revisions
    /// may change nothing here.
    pub fn revision(&self) -> i64 {
        self.revision
    }

    /// The resources of a type, `None` only for a snapshot made by `default()`, which serves nothing.
    pub fn set(&self, kind: ResourceType) -> Option<&ResourceSet> {
        self.sets.get(&kind)
    }

    /// The shortest TTL in it: a client must hear of such resources more often than that.
    pub fn ttl(&self) -> Option<Duration> {
        self.sets.values().filter_map(ResourceSet::ttl).min()
    }

    /// Content hash over all types.
    pub fn version(&self) -> Version {
        let mut digest = Sha256::new();
        for (kind, set) in &self.sets {
            digest.update(kind.url());
            digest.update(set.version().as_str());
        }
        Version::from_digest(digest)
    }
}
