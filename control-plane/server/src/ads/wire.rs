//! Protobuf ⇄ the machines of `kilocard_xds`. Responses are written field by field, so that resources' bodies are referred to
//! and not copied, see [`super::frames`].

use super::blame::without_dumps;
use super::frames::Assembly;
use super::session::{Outgoing, Protocol};
use bytes::Bytes;
use envoy_types::pb::envoy::config::core::v3::{ControlPlane, Node};
use envoy_types::pb::envoy::service::discovery::v3 as pb;
use envoy_types::pb::google::protobuf::Duration;
use kilocard_xds::report::{Answer, ResourceReport, TypeReport};
use kilocard_xds::snapshot::{Resource, ResourceType, Snapshot, Version};
use kilocard_xds::{ProtocolError, delta, sotw};
use prost::encoding::{WireType, encode_key, encode_varint};
use prost::{Message, Name};
use std::sync::Arc;

fn size(resources: &[Arc<Resource>]) -> usize {
    resources.iter().map(|resource| resource.size()).sum()
}

/// A TTL is bounded by what operators may set, far below what fits.
fn duration(ttl: std::time::Duration) -> Duration {
    Duration {
        seconds: i64::try_from(ttl.as_secs()).unwrap_or(i64::MAX),
        nanos: i32::try_from(ttl.subsec_nanos()).unwrap_or(0),
    }
}

/// Field numbers, from Envoy's `discovery.proto` and protobuf's `any.proto`.
mod field {
    /// `DiscoveryResponse.resources`, `DeltaDiscoveryResponse.resources` and `Resource.resource`.
    pub(super) const RESOURCES: u32 = 2;
    /// `Resource.resource`
    pub(super) const RESOURCE: u32 = 2;
    /// `Any.type_url`
    pub(super) const TYPE_URL: u32 = 1;
    /// `Any.value`
    pub(super) const VALUE: u32 = 2;
}

/// The beginning of a length-delimited field.
fn begin(buffer: &mut Vec<u8>, tag: u32, length: usize) {
    encode_key(tag, WireType::LengthDelimited, buffer);
    encode_varint(length as u64, buffer);
}

/// An `Any` up to where its value of so many bytes begins.
fn any(url: &str, value: usize) -> Vec<u8> {
    let mut head = Vec::with_capacity(url.len() + 12);
    begin(&mut head, field::TYPE_URL, url.len());
    head.extend_from_slice(url.as_bytes());
    begin(&mut head, field::VALUE, value);
    head
}

/// A `Resource` with its name and version, up to where its body begins; for a heartbeat, which has none, all of it.
fn wrapped(kind: ResourceType, resource: &Resource, version: &Version, body: bool) -> Vec<u8> {
    let shell = pb::Resource {
        name: resource.name.clone(),
        version: version.to_string(),
        ttl: resource.ttl.map(duration),
        ..pb::Resource::default()
    };
    let mut head = shell.encode_to_vec();
    if body {
        let any = any(kind.url(), resource.body.len());
        begin(&mut head, field::RESOURCE, any.len() + resource.body.len());
        head.extend_from_slice(&any);
    }
    head
}

/// Appends a resource to a response: `head`, and its body where it is.
fn append(message: &mut Assembly, head: &[u8], body: &Bytes) {
    let mut beginning = Vec::with_capacity(head.len() + 12);
    begin(&mut beginning, field::RESOURCES, head.len() + body.len());
    beginning.extend_from_slice(head);
    message.copy(&beginning);
    message.share(body);
}

/// "In order to use TTL with SotW xDS, the relevant resources must be wrapped in a Resource."
fn append_sotw(message: &mut Assembly, (kind, version): (ResourceType, &Version), resource: &Resource) {
    if resource.ttl.is_none() {
        append(message, &any(kind.url(), resource.body.len()), &resource.body);
        return;
    }
    let inner = wrapped(kind, resource, version, true);
    let mut head = any(&pb::Resource::type_url(), inner.len() + resource.body.len());
    head.extend_from_slice(&inner);
    append(message, &head, &resource.body);
}

/// Who says this, and as of which revision of the store: all changes up to it are in what the proxy has after this response.
/// "Opaque" to Envoy, which shows it in its statistics (`control_plane.identifier`).
fn as_of(snapshot: &Snapshot) -> ControlPlane {
    ControlPlane {
        identifier: format!("kilocard@{}", snapshot.revision()),
    }
}

impl Protocol for delta::Stream {
    type Request = pb::DeltaDiscoveryRequest;
    const NAME: &'static str = "delta";

    fn node(request: &Self::Request) -> Option<&Node> {
        request.node.as_ref()
    }

    fn type_url(request: &Self::Request) -> &str {
        &request.type_url
    }

    fn on_request(&mut self, kind: ResourceType, request: Self::Request) -> Result<Answer, ProtocolError> {
        let versions = request.initial_resource_versions.into_iter();
        delta::Stream::on_request(
            self,
            delta::Request {
                kind,
                nonce: request.response_nonce,
                subscribe: request.resource_names_subscribe,
                unsubscribe: request.resource_names_unsubscribe,
                initial_versions: versions
                    .map(|(name, version)| (name, Version::from(version.as_str())))
                    .collect(),
                error: request.error_detail.map(|status| without_dumps(&status.message)),
            },
        )
    }

    fn next_response(&mut self, snapshot: &Snapshot) -> Option<Outgoing> {
        let response = delta::Stream::next_response(self, snapshot)?;
        let bytes = size(&response.resources);
        let shell = pb::DeltaDiscoveryResponse {
            system_version_info: response.system_version.to_string(),
            type_url: response.kind.url().to_owned(),
            removed_resources: response.removed,
            nonce: response.nonce,
            control_plane: Some(as_of(snapshot)),
            ..pb::DeltaDiscoveryResponse::default()
        };
        let mut message = Assembly::new();
        message.copy(&shell.encode_to_vec());
        for resource in &response.resources {
            let head = wrapped(response.kind, resource, &resource.version, true);
            append(&mut message, &head, &resource.body);
        }
        for resource in &response.heartbeats {
            let whole = wrapped(response.kind, resource, &resource.version, false);
            append(&mut message, &whole, &Bytes::new());
        }
        Some(Outgoing {
            kind: response.kind,
            bytes,
            message: message.finish(),
        })
    }

    fn refresh(&mut self, snapshot: &Snapshot) {
        delta::Stream::refresh(self, snapshot);
    }

    fn inspect(&self, snapshot: &Snapshot) -> Vec<ResourceReport> {
        delta::Stream::inspect(self, snapshot)
    }

    fn end_opening(&mut self) {
        delta::Stream::end_opening(self);
    }

    fn report(&self) -> Vec<TypeReport> {
        delta::Stream::report(self)
    }
}

impl Protocol for sotw::Stream {
    type Request = pb::DiscoveryRequest;
    const NAME: &'static str = "sotw";

    fn node(request: &Self::Request) -> Option<&Node> {
        request.node.as_ref()
    }

    fn type_url(request: &Self::Request) -> &str {
        &request.type_url
    }

    fn on_request(&mut self, kind: ResourceType, request: Self::Request) -> Result<Answer, ProtocolError> {
        sotw::Stream::on_request(
            self,
            sotw::Request {
                kind,
                version: request.version_info,
                nonce: request.response_nonce,
                names: request.resource_names,
                error: request.error_detail.map(|status| without_dumps(&status.message)),
            },
        )
    }

    fn next_response(&mut self, snapshot: &Snapshot) -> Option<Outgoing> {
        let response = sotw::Stream::next_response(self, snapshot)?;
        let bytes = size(&response.resources);
        let shell = pb::DiscoveryResponse {
            version_info: response.version.to_string(),
            type_url: response.kind.url().to_owned(),
            nonce: response.nonce,
            control_plane: Some(as_of(snapshot)),
            ..pb::DiscoveryResponse::default()
        };
        let mut message = Assembly::new();
        message.copy(&shell.encode_to_vec());
        for resource in &response.resources {
            append_sotw(&mut message, (response.kind, &response.version), resource);
        }
        Some(Outgoing {
            kind: response.kind,
            bytes,
            message: message.finish(),
        })
    }

    fn refresh(&mut self, snapshot: &Snapshot) {
        sotw::Stream::refresh(self, snapshot);
    }

    fn inspect(&self, snapshot: &Snapshot) -> Vec<ResourceReport> {
        sotw::Stream::inspect(self, snapshot)
    }

    fn report(&self) -> Vec<TypeReport> {
        sotw::Stream::report(self)
    }
}
