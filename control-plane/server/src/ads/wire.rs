//! Protobuf ⇄ the machines of `kilocard_xds`.

use super::session::Protocol;
use envoy_types::pb::envoy::config::core::v3::Node;
use envoy_types::pb::envoy::service::discovery::v3 as pb;
use envoy_types::pb::google::protobuf::Any;
use kilocard_xds::report::{Answer, TypeReport};
use kilocard_xds::snapshot::{Resource, ResourceType, Snapshot, Version};
use kilocard_xds::{ProtocolError, delta, sotw};

fn any(kind: ResourceType, resource: &Resource) -> Any {
    Any {
        type_url: kind.url().to_owned(),
        value: resource.body.to_vec(),
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

    fn next_response(&mut self, snapshot: &Snapshot) -> Option<(ResourceType, Self::Response)> {
        let response = delta::Stream::next_response(self, snapshot)?;
        let resources = response.resources.iter().map(|resource| pb::Resource {
            name: resource.name.clone(),
            version: resource.version.to_string(),
            resource: Some(any(response.kind, resource)),
            ..pb::Resource::default()
        });
        let message = pb::DeltaDiscoveryResponse {
            system_version_info: response.system_version.to_string(),
            resources: resources.collect(),
            type_url: response.kind.url().to_owned(),
            removed_resources: response.removed,
            nonce: response.nonce,
            ..pb::DeltaDiscoveryResponse::default()
        };
        Some((response.kind, message))
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

    fn next_response(&mut self, snapshot: &Snapshot) -> Option<(ResourceType, Self::Response)> {
        let response = sotw::Stream::next_response(self, snapshot)?;
        let message = pb::DiscoveryResponse {
            version_info: response.version.to_string(),
            resources: response
                .resources
                .iter()
                .map(|resource| any(response.kind, resource))
                .collect(),
            type_url: response.kind.url().to_owned(),
            nonce: response.nonce,
            ..pb::DiscoveryResponse::default()
        };
        Some((response.kind, message))
    }

    fn report(&self) -> Vec<TypeReport> {
        sotw::Stream::report(self)
    }
}
