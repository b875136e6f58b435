//! The envelope around every document: api_version, kind, metadata, spec.

use std::fmt;
use std::str::FromStr;

use serde::{Serialize, Serializer};
use serde_json::Value;

use super::admission_policy::{self, AdmissionPolicy};
use super::limits::MAX_DOCUMENT_BYTES;
use super::mesh_policy::{self, MeshPolicy};
use super::name;
use super::pool_policy::{self, PoolPolicy};
use super::rate_limit_policy::{self, RateLimitPolicy};
use super::reader::{Node, Object};
use super::routing_policy::{self, RoutingPolicy};
use super::scale_policy::{self, ScalePolicy};
use super::timeout_policy::{self, TimeoutPolicy};
use super::unique_keys;
use super::validation_policy::{self, ValidationPolicy};
use super::violation::{Violation, Violations, quote};
use super::weight_policy::{self, WeightPolicy};
use crate::API_VERSION;

/// A document that is valid by itself. Whether it is valid together with the others is for
/// [`Policy::compile`](crate::Policy::compile) to say.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
pub struct Document {
    api_version: &'static str,
    kind: Kind,
    metadata: Metadata,
    spec: Spec,
}

#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
struct Metadata {
    name: String,
}

impl Document {
    /// What kind of document it is.
    pub fn kind(&self) -> Kind {
        self.kind
    }

    /// Unique among the documents of its kind.
    pub fn name(&self) -> &str {
        &self.metadata.name
    }

    /// What it says.
    pub fn spec(&self) -> &Spec {
        &self.spec
    }

    /// `RoutingPolicy/minilm`, as violations between documents name it.
    pub fn id(&self) -> String {
        format!("{}/{}", self.kind, self.metadata.name)
    }
}

/// The kinds of documents.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
#[non_exhaustive]
pub enum Kind {
    /// How the traffic of a model is split.
    RoutingPolicy,
    /// What the headers of a request must satisfy.
    ValidationPolicy,
    /// What every stage shares.
    MeshPolicy,
    /// Connections of their own for some requests.
    PoolPolicy,
    /// How the control plane weighs endpoints.
    WeightPolicy,
    /// How much may be asked for.
    RateLimitPolicy,
    /// What requests of a model cost.
    AdmissionPolicy,
    /// How many replicas the versions of a model shall have.
    ScalePolicy,
    /// How long requests may take.
    TimeoutPolicy,
}

impl Kind {
    /// Every kind.
    pub const ALL: &'static [Self] = &[
        Self::RoutingPolicy,
        Self::ValidationPolicy,
        Self::MeshPolicy,
        Self::PoolPolicy,
        Self::WeightPolicy,
        Self::RateLimitPolicy,
        Self::AdmissionPolicy,
        Self::ScalePolicy,
        Self::TimeoutPolicy,
    ];

    /// As written in `kind:`.
    pub fn as_str(self) -> &'static str {
        match self {
            Self::RoutingPolicy => "RoutingPolicy",
            Self::ValidationPolicy => "ValidationPolicy",
            Self::MeshPolicy => "MeshPolicy",
            Self::PoolPolicy => "PoolPolicy",
            Self::WeightPolicy => "WeightPolicy",
            Self::RateLimitPolicy => "RateLimitPolicy",
            Self::AdmissionPolicy => "AdmissionPolicy",
            Self::ScalePolicy => "ScalePolicy",
            Self::TimeoutPolicy => "TimeoutPolicy",
        }
    }

    /// Whether filters read it; the control plane keeps the others to itself.
    pub fn is_for_filters(self) -> bool {
        match self {
            Self::RoutingPolicy
            | Self::ValidationPolicy
            | Self::MeshPolicy
            | Self::PoolPolicy
            | Self::RateLimitPolicy
            | Self::AdmissionPolicy
            | Self::TimeoutPolicy => true,
            Self::WeightPolicy | Self::ScalePolicy => false,
        }
    }
}

impl fmt::Display for Kind {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.as_str())
    }
}

impl Serialize for Kind {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        serializer.serialize_str(self.as_str())
    }
}

/// The text is not the name of a kind; says which ones there are.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct UnknownKind(String);

impl fmt::Display for UnknownKind {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let kinds: Vec<_> = Kind::ALL.iter().map(|kind| kind.as_str()).collect();
        write!(f, "{} is not a kind; the kinds are {}", self.0, kinds.join(", "))
    }
}

impl std::error::Error for UnknownKind {}

impl FromStr for Kind {
    type Err = UnknownKind;

    fn from_str(text: &str) -> Result<Self, UnknownKind> {
        Self::ALL
            .iter()
            .copied()
            .find(|kind| kind.as_str() == text)
            .ok_or_else(|| UnknownKind(quote(text)))
    }
}

/// What a document says, by kind.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
#[serde(untagged)]
#[non_exhaustive]
pub enum Spec {
    /// Of `kind: RoutingPolicy`.
    Routing(RoutingPolicy),
    /// Of `kind: ValidationPolicy`.
    Validation(ValidationPolicy),
    /// Of `kind: MeshPolicy`.
    Mesh(MeshPolicy),
    /// Of `kind: PoolPolicy`.
    Pool(PoolPolicy),
    /// Of `kind: WeightPolicy`.
    Weights(WeightPolicy),
    /// Of `kind: RateLimitPolicy`.
    RateLimit(RateLimitPolicy),
    /// Of `kind: AdmissionPolicy`.
    Admission(AdmissionPolicy),
    /// Of `kind: ScalePolicy`.
    Scale(ScalePolicy),
    /// Of `kind: TimeoutPolicy`.
    Timeouts(TimeoutPolicy),
}

/// Reads a document from JSON text.
///
/// # Errors
/// Everything that is wrong with it: too long, not JSON, a field given twice, or what [`parse`] finds.
pub fn parse_bytes(json: &[u8]) -> Result<Document, Vec<Violation>> {
    let mut out = Violations::default();
    if json.len() > MAX_DOCUMENT_BYTES {
        out.add(
            "",
            format!(
                "is {} bytes of JSON; at most {MAX_DOCUMENT_BYTES} are allowed",
                json.len()
            ),
        );
        return out.finish(None);
    }
    let document = unique_keys::read(json, &mut out).and_then(|value| read(&value, &mut out));
    out.finish(document)
}

/// Reads a document from a JSON value.
///
/// # Errors
/// Everything that is wrong with it, each with its path; at most 64, and then how many more there are.
pub fn parse(json: &Value) -> Result<Document, Vec<Violation>> {
    let mut out = Violations::default();
    let document = read(json, &mut out);
    out.finish(document)
}

fn read(json: &Value, out: &mut Violations) -> Option<Document> {
    let root = Node::root(json).object(&["api_version", "kind", "metadata", "spec"], out)?;
    let api_version = root
        .required("api_version", out)
        .and_then(|node| read_api_version(&node, out));
    let kind = root.required("kind", out).and_then(|node| read_kind(&node, out));
    let name = read_name(&root, out);
    let spec = root.required("spec", out);
    // Without a kind nothing can be said about the fields of the spec.
    let kind = kind?;
    let spec = match kind {
        Kind::RoutingPolicy => routing_policy::read(&spec?, name.as_deref(), out).map(Spec::Routing),
        Kind::ValidationPolicy => validation_policy::read(&spec?, out).map(Spec::Validation),
        Kind::MeshPolicy => mesh_policy::read(&spec?, out).map(Spec::Mesh),
        Kind::PoolPolicy => pool_policy::read(&spec?, name.as_deref(), out).map(Spec::Pool),
        Kind::WeightPolicy => weight_policy::read(&spec?, out).map(Spec::Weights),
        Kind::RateLimitPolicy => rate_limit_policy::read(&spec?, out).map(Spec::RateLimit),
        Kind::AdmissionPolicy => admission_policy::read(&spec?, out).map(Spec::Admission),
        Kind::ScalePolicy => scale_policy::read(&spec?, out).map(Spec::Scale),
        Kind::TimeoutPolicy => timeout_policy::read(&spec?, out).map(Spec::Timeouts),
    };
    Some(Document {
        api_version: api_version?,
        kind,
        metadata: Metadata { name: name? },
        spec: spec?,
    })
}

fn read_api_version(node: &Node<'_>, out: &mut Violations) -> Option<&'static str> {
    let text = node.string(out)?;
    if text != API_VERSION {
        out.add(
            node.path(),
            format!("{} is not supported; this release reads {API_VERSION}", quote(text)),
        );
        return None;
    }
    Some(API_VERSION)
}

fn read_kind(node: &Node<'_>, out: &mut Violations) -> Option<Kind> {
    match node.string(out)?.parse() {
        Ok(kind) => Some(kind),
        Err(error) => {
            out.add(node.path(), UnknownKind::to_string(&error));
            None
        }
    }
}

fn read_name(root: &Object<'_>, out: &mut Violations) -> Option<String> {
    let metadata = root.required("metadata", out)?.object(&["name"], out)?;
    let node = metadata.required("name", out)?;
    name::name(&node, out)
}
