//! Who is served: what of a node makes its configuration differ from that of others.

use envoy_types::pb::envoy::config::core::v3::Node;
use kilocard_weights::Locality;

/// How the user agents of gRPC's own xDS clients begin, in every language (gRFC A27: "user_agent_name: identifies the
/// implementation", for example `gRPC C-core linux Python`, `gRPC Go`, `gRPC Java`).
const GRPC: &str = "gRPC";

/// What takes the configuration.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum Client {
    /// A proxy.
    #[default]
    Envoy,
    /// A gRPC client without a proxy (`xds:///…`).
    Grpc,
}

impl Client {
    /// As reports show it.
    pub const fn label(self) -> &'static str {
        match self {
            Self::Envoy => "envoy",
            Self::Grpc => "grpc",
        }
    }
}

/// Nodes that are served alike.
#[derive(Clone, Debug, Default, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct Audience {
    /// What it is.
    pub client: Client,
    /// Where it says that it runs: `node.locality`'s zone, and its sub-zone as the rack.
    pub locality: Locality,
}

impl Audience {
    /// The audience that a node belongs to.
    pub fn of(node: &Node) -> Self {
        let client = if node.user_agent_name.starts_with(GRPC) {
            Client::Grpc
        } else {
            Client::Envoy
        };
        let locality = node.locality.as_ref().map(|locality| Locality {
            zone: locality.zone.clone(),
            rack: locality.sub_zone.clone(),
        });
        Self {
            client,
            locality: locality.unwrap_or_default(),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use envoy_types::pb::envoy::config::core::v3 as core;

    fn node(user_agent: &str, zone: Option<&str>) -> Node {
        Node {
            id: "n".to_owned(),
            user_agent_name: user_agent.to_owned(),
            locality: zone.map(|zone| core::Locality {
                zone: zone.to_owned(),
                sub_zone: "r7".to_owned(),
                ..core::Locality::default()
            }),
            ..Node::default()
        }
    }

    #[test]
    fn a_client_is_told_by_its_user_agent() {
        for (agent, client) in [
            ("envoy", Client::Envoy),
            ("", Client::Envoy),
            ("gRPC C-core linux Python", Client::Grpc),
            ("gRPC Go", Client::Grpc),
            ("gRPC Java", Client::Grpc),
        ] {
            assert_eq!(Audience::of(&node(agent, None)).client, client, "{agent}");
        }
    }

    #[test]
    fn where_it_runs_is_its_zone_and_its_rack() {
        assert_eq!(Audience::of(&node("envoy", Some("z1"))).locality.to_string(), "z1/r7");
        assert_eq!(Audience::of(&node("envoy", None)), Audience::default());
    }
}
