//! As much of delta xDS as a client needs that counts and compares: bodies stay bytes, and names and versions are slices of
//! the message, so that a thousand such clients leave the cores to the control plane.
//!
//! Field numbers are from Envoy's `discovery.proto`, `endpoint.proto` and `endpoint_components.proto` (API v3).

use bytes::Bytes;
use prost::Message;
use std::collections::HashMap;

/// The method of `AggregatedDiscoveryService`.
pub(super) const METHOD: &str = "/envoy.service.discovery.v3.AggregatedDiscoveryService/DeltaAggregatedResources";

pub(super) const CLUSTER: &str = "type.googleapis.com/envoy.config.cluster.v3.Cluster";
pub(super) const ENDPOINTS: &str = "type.googleapis.com/envoy.config.endpoint.v3.ClusterLoadAssignment";
pub(super) const LISTENER: &str = "type.googleapis.com/envoy.config.listener.v3.Listener";
pub(super) const ROUTE: &str = "type.googleapis.com/envoy.config.route.v3.RouteConfiguration";
pub(super) const EXTENSION: &str = "type.googleapis.com/envoy.config.core.v3.TypedExtensionConfig";

/// `DeltaDiscoveryRequest`.
#[derive(Clone, PartialEq, Message)]
pub(super) struct Request {
    #[prost(message, optional, tag = "1")]
    pub(super) node: Option<Node>,
    #[prost(string, tag = "2")]
    pub(super) type_url: String,
    #[prost(bytes = "bytes", repeated, tag = "3")]
    pub(super) subscribe: Vec<Bytes>,
    #[prost(map = "string, string", tag = "5")]
    pub(super) initial_versions: HashMap<String, String>,
    #[prost(string, tag = "6")]
    pub(super) nonce: String,
}

/// `Node`.
#[derive(Clone, PartialEq, Message)]
pub(super) struct Node {
    #[prost(string, tag = "1")]
    pub(super) id: String,
    #[prost(string, tag = "2")]
    pub(super) cluster: String,
    #[prost(string, tag = "6")]
    pub(super) user_agent_name: String,
}

/// `DeltaDiscoveryResponse`.
#[derive(Clone, PartialEq, Message)]
pub(super) struct Response {
    #[prost(message, repeated, tag = "2")]
    pub(super) resources: Vec<Resource>,
    #[prost(string, tag = "4")]
    pub(super) type_url: String,
    #[prost(string, tag = "5")]
    pub(super) nonce: String,
    #[prost(bytes = "bytes", repeated, tag = "6")]
    pub(super) removed: Vec<Bytes>,
    #[prost(message, optional, tag = "7")]
    pub(super) control_plane: Option<ControlPlane>,
}

/// `ControlPlane`.
#[derive(Clone, PartialEq, Message)]
pub(super) struct ControlPlane {
    #[prost(string, tag = "1")]
    pub(super) identifier: String,
}

/// `Resource`; names and versions are strings on the wire, which are bytes too.
#[derive(Clone, PartialEq, Message)]
pub(super) struct Resource {
    #[prost(bytes = "bytes", tag = "1")]
    pub(super) version: Bytes,
    #[prost(message, optional, tag = "2")]
    pub(super) resource: Option<Any>,
    #[prost(bytes = "bytes", tag = "3")]
    pub(super) name: Bytes,
}

/// `google.protobuf.Any`.
#[derive(Clone, PartialEq, Message)]
pub(super) struct Any {
    #[prost(bytes = "bytes", tag = "1")]
    pub(super) type_url: Bytes,
    #[prost(bytes = "bytes", tag = "2")]
    pub(super) value: Bytes,
}

impl Response {
    /// The etcd revision whose changes are all in what the proxy has after this response: the last part of the control
    /// plane's identifier, `…@<revision>`.
    pub(super) fn revision(&self) -> Option<i64> {
        let identifier = &self.control_plane.as_ref()?.identifier;
        identifier.rsplit_once('@')?.1.parse().ok()
    }
}

/// `ClusterLoadAssignment`, as far as it is compared.
#[derive(Clone, PartialEq, Message)]
pub(super) struct Assignment {
    #[prost(message, repeated, tag = "2")]
    localities: Vec<Locality>,
}

/// `LocalityLbEndpoints`.
#[derive(Clone, PartialEq, Message)]
struct Locality {
    #[prost(message, repeated, tag = "2")]
    endpoints: Vec<LbEndpoint>,
}

/// `LbEndpoint`.
#[derive(Clone, PartialEq, Message)]
struct LbEndpoint {
    #[prost(message, optional, tag = "1")]
    endpoint: Option<Endpoint>,
    #[prost(message, optional, tag = "4")]
    weight: Option<UInt32>,
}

/// `Endpoint`.
#[derive(Clone, PartialEq, Message)]
struct Endpoint {
    #[prost(message, optional, tag = "1")]
    address: Option<Address>,
}

/// `Address`.
#[derive(Clone, PartialEq, Message)]
struct Address {
    #[prost(message, optional, tag = "1")]
    socket: Option<SocketAddress>,
}

/// `SocketAddress`.
#[derive(Clone, PartialEq, Message)]
struct SocketAddress {
    #[prost(string, tag = "2")]
    address: String,
    #[prost(uint32, tag = "3")]
    port: u32,
}

/// `google.protobuf.UInt32Value`.
#[derive(Clone, Copy, PartialEq, Message)]
struct UInt32 {
    #[prost(uint32, tag = "1")]
    value: u32,
}

impl Assignment {
    /// Every endpoint as `IP:port`, with its weight; 1 where none is given, as Envoy reads it.
    pub(super) fn endpoints(&self) -> impl Iterator<Item = (String, u64)> {
        let all = self.localities.iter().flat_map(|locality| &locality.endpoints);
        all.filter_map(|endpoint| {
            let socket = endpoint.endpoint.as_ref()?.address.as_ref()?.socket.as_ref()?;
            let weight = endpoint.weight.map_or(1, |weight| weight.value.into());
            Some((format!("{}:{}", socket.address, socket.port), weight))
        })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_revision_is_the_last_part_of_the_identifier() {
        let response = |identifier: &str| Response {
            control_plane: Some(ControlPlane {
                identifier: identifier.to_owned(),
            }),
            ..Response::default()
        };
        assert_eq!(response("kilocard@host@42").revision(), Some(42));
        assert_eq!(response("kilocard").revision(), None);
        assert_eq!(Response::default().revision(), None);
    }

    #[test]
    fn endpoints_without_a_weight_weigh_one() {
        let endpoint = |port, weight: Option<u32>| LbEndpoint {
            endpoint: Some(Endpoint {
                address: Some(Address {
                    socket: Some(SocketAddress {
                        address: "10.0.0.1".to_owned(),
                        port,
                    }),
                }),
            }),
            weight: weight.map(|value| UInt32 { value }),
        };
        let assignment = Assignment {
            localities: vec![Locality {
                endpoints: vec![endpoint(1, Some(400)), endpoint(2, None)],
            }],
        };
        let encoded = assignment.encode_to_vec();
        let read: Vec<_> = Assignment::decode(encoded.as_slice()).unwrap().endpoints().collect();
        assert_eq!(read, [("10.0.0.1:1".to_owned(), 400), ("10.0.0.1:2".to_owned(), 1)]);
    }
}
