//! Protobuf ⇄ the machines of `kilocard_xds`.

use super::session::{Outgoing, Protocol};
use envoy_types::pb::envoy::config::core::v3::{ControlPlane, Node};
use envoy_types::pb::envoy::service::discovery::v3 as pb;
use envoy_types::pb::google::protobuf::{Any, Duration};
use kilocard_xds::report::{Answer, ResourceReport, TypeReport};
use kilocard_xds::snapshot::{Resource, ResourceType, Snapshot, Version};
use kilocard_xds::{ProtocolError, delta, sotw};
use prost::{Message, Name};
use std::sync::Arc;

fn any(kind: ResourceType, resource: &Resource) -> Any {
    Any {
        type_url: kind.url().to_owned(),
        value: resource.body.to_vec(),
    }
}

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

/// A resource with its name and version, and with its body or, for a heartbeat, without.
fn wrapped(kind: ResourceType, resource: &Resource, version: &Version, body: bool) -> pb::Resource {
    pb::Resource {
        name: resource.name.clone(),
        version: version.to_string(),
        resource: body.then(|| any(kind, resource)),
        ttl: resource.ttl.map(duration),
        ..pb::Resource::default()
    }
}

/// "In order to use TTL with SotW xDS, the relevant resources must be wrapped in a Resource."
fn sotw_resource(kind: ResourceType, resource: &Resource, version: &Version, body: bool) -> Any {
    if resource.ttl.is_none() {
        return any(kind, resource);
    }
    Any {
        type_url: pb::Resource::type_url(),
        value: wrapped(kind, resource, version, body).encode_to_vec(),
    }
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
    type Response = pb::DeltaDiscoveryResponse;
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
                error: request.error_detail.map(|status| status.message),
            },
        )
    }

    fn next_response(&mut self, snapshot: &Snapshot) -> Option<Outgoing<Self::Response>> {
        let response = delta::Stream::next_response(self, snapshot)?;
        let bytes = size(&response.resources);
        let (all, heartbeats) = (response.resources.iter(), response.heartbeats.iter());
        let all = all.map(|resource| (resource, true));
        let resources = all
            .chain(heartbeats.map(|resource| (resource, false)))
            .map(|(resource, body)| wrapped(response.kind, resource, &resource.version, body));
        let message = pb::DeltaDiscoveryResponse {
            system_version_info: response.system_version.to_string(),
            resources: resources.collect(),
            type_url: response.kind.url().to_owned(),
            removed_resources: response.removed,
            nonce: response.nonce,
            control_plane: Some(as_of(snapshot)),
            ..pb::DeltaDiscoveryResponse::default()
        };
        Some(Outgoing {
            kind: response.kind,
            bytes,
            response: message,
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
    type Response = pb::DiscoveryResponse;
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
                error: request.error_detail.map(|status| status.message),
            },
        )
    }

    fn next_response(&mut self, snapshot: &Snapshot) -> Option<Outgoing<Self::Response>> {
        let response = sotw::Stream::next_response(self, snapshot)?;
        let bytes = size(&response.resources);
        let (all, heartbeats) = (response.resources.iter(), response.heartbeats.iter());
        let all = all.map(|resource| (resource, true));
        let message = pb::DiscoveryResponse {
            version_info: response.version.to_string(),
            resources: all
                .chain(heartbeats.map(|resource| (resource, false)))
                .map(|(resource, body)| sotw_resource(response.kind, resource, &response.version, body))
                .collect(),
            type_url: response.kind.url().to_owned(),
            nonce: response.nonce,
            control_plane: Some(as_of(snapshot)),
            ..pb::DiscoveryResponse::default()
        };
        Some(Outgoing {
            kind: response.kind,
            bytes,
            response: message,
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
