//! How far a client is, for operators.

use crate::snapshot::{ResourceType, Version};
use std::collections::BTreeMap;
use std::sync::Arc;

/// One resource type of one stream.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct TypeReport {
    /// The type.
    pub kind: ResourceType,
    /// What the client has accepted: the served version if it has all of that which concerns it, else the version of the
    /// last response that it accepted.
    pub acked_version: Option<Version>,
    /// What was served when the stream last looked.
    pub served_version: Option<Version>,
    /// Whether the client lacks something of what is served, still holds what is gone, or has not answered.
    pub behind: bool,
    /// Whether a response is under way that the client has not answered.
    pub in_flight: bool,
    /// The last refusal; cleared by the next ACK.
    pub nack: Option<Nack>,
    /// Refused responses of which nothing has changed since. The last good state is in use instead.
    pub refused: Vec<Arc<Refusal>>,
}

/// The names of a response: the version sent, `None` for a removal.
pub type Members = BTreeMap<String, Option<Version>>;

/// A response that was refused, without what has changed or lost the client's interest since.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Refusal {
    /// The client's own words.
    pub message: Arc<str>,
    /// What was in it.
    pub members: Members,
}

/// One resource of one stream.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct ResourceReport {
    /// Its type.
    pub kind: ResourceType,
    /// Its name.
    pub name: String,
    /// The version that the status is about.
    pub version: Option<Version>,
    /// How far it is.
    pub status: ResourceStatus,
}

/// How far a resource is on its way to a client.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum ResourceStatus {
    /// It is to be sent; the version is what the client holds until then.
    NotSent,
    /// It is on its way and not answered.
    Sent,
    /// The client has it.
    Accepted,
    /// The client refused it, or a response with it; these are its words.
    Refused(Arc<str>),
    /// The client asked for it and was told that it does not exist.
    Absent,
}

/// A refusal.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Nack {
    /// Version of the refused response.
    pub version: Version,
    /// The client's own words.
    pub message: String,
}

/// What a request said about an earlier response.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Answer {
    /// Nothing: a first or a spontaneous request, or one with a stale nonce.
    None,
    /// It accepted the response with this version.
    Ack(Version),
    /// It refused a response.
    Nack(Nack),
}
