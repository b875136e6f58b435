//! How far a client is, for operators.

use crate::snapshot::{ResourceType, Version};

/// One resource type of one stream.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct TypeReport {
    /// The type.
    pub kind: ResourceType,
    /// Version of the last response that the client accepted, or which it brought along from an earlier stream.
    pub acked_version: Option<Version>,
    /// Whether a response is under way that the client has not answered.
    pub in_flight: bool,
    /// The last refusal; cleared by the next ACK.
    pub nack: Option<Nack>,
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
