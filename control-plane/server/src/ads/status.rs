//! CSDS: how far each resource is at each connected client, for the tools that speak it (`envoy.service.status.v3`).
//!
//! Bodies are not repeated: among them are secrets. A stream is asked when someone asks here, so serving this costs nothing
//! otherwise.

use super::nodes::{Inspected, Nodes};
use envoy_types::pb::envoy::admin::v3::{ClientResourceStatus, UpdateFailureState};
use envoy_types::pb::envoy::config::core::v3::Node;
use envoy_types::pb::envoy::service::status::v3 as pb;
use envoy_types::pb::envoy::r#type::matcher::v3::string_matcher::MatchPattern;
use envoy_types::pb::envoy::r#type::matcher::v3::{NodeMatcher, StringMatcher};
use futures::StreamExt;
use kilocard_xds::report::{ResourceReport, ResourceStatus};
use kilocard_xds::snapshot::ResourceType;
use pb::client_config::GenericXdsConfig;
use pb::client_status_discovery_service_server::{ClientStatusDiscoveryService, ClientStatusDiscoveryServiceServer};
use std::collections::BTreeMap;
use tokio::sync::mpsc;
use tokio_stream::wrappers::ReceiverStream;
use tonic::{Request, Response, Status, Streaming};

/// Resources in one answer: some 100 MB.
const MAX_RESOURCES: usize = 500_000;

/// The service for a router.
pub(super) fn service(nodes: Nodes) -> ClientStatusDiscoveryServiceServer<ClientStatus> {
    ClientStatusDiscoveryServiceServer::new(ClientStatus { nodes })
}

/// The service.
#[derive(Clone, Debug)]
pub(super) struct ClientStatus {
    nodes: Nodes,
}

type Answers = ReceiverStream<Result<pb::ClientStatusResponse, Status>>;

#[tonic::async_trait]
impl ClientStatusDiscoveryService for ClientStatus {
    type StreamClientStatusStream = Answers;

    /// An answer for each request.
    async fn stream_client_status(
        &self,
        request: Request<Streaming<pb::ClientStatusRequest>>,
    ) -> Result<Response<Answers>, Status> {
        let mut requests = request.into_inner();
        let (answers, receiver) = mpsc::channel(1);
        let service = self.clone();
        tokio::spawn(async move {
            while let Some(Ok(request)) = requests.next().await {
                let answer = service.answer(request).await;
                let failed = answer.is_err();
                if answers.send(answer).await.is_err() || failed {
                    return;
                }
            }
        });
        Ok(Response::new(ReceiverStream::new(receiver)))
    }

    async fn fetch_client_status(
        &self,
        request: Request<pb::ClientStatusRequest>,
    ) -> Result<Response<pb::ClientStatusResponse>, Status> {
        self.answer(request.into_inner()).await.map(Response::new)
    }
}

impl ClientStatus {
    async fn answer(&self, request: pb::ClientStatusRequest) -> Result<pb::ClientStatusResponse, Status> {
        let matchers = request.node_matchers;
        matchers.iter().try_for_each(check)?;
        let wanted = |node: &Node| matchers.is_empty() || matchers.iter().any(|matcher| matches(matcher, node));
        let inspected = self.nodes.inspect(wanted).await;
        let resources: usize = inspected.iter().flat_map(|node| &node.resources).map(Vec::len).sum();
        if resources > MAX_RESOURCES {
            return Err(Status::resource_exhausted(format!(
                "{resources} resources of {} streams, more than the {MAX_RESOURCES} of one answer; name the nodes by \
                 node_matchers",
                inspected.len()
            )));
        }
        Ok(pb::ClientStatusResponse {
            config: inspected.into_iter().map(client).collect(),
        })
    }
}

/// Refuses what would match otherwise than meant.
fn check(matcher: &NodeMatcher) -> Result<(), Status> {
    if !matcher.node_metadatas.is_empty() {
        return Err(Status::invalid_argument(
            "node_matchers.node_metadatas is not supported; match by node_id",
        ));
    }
    let pattern = matcher.node_id.as_ref().and_then(|id| id.match_pattern.as_ref());
    match pattern {
        Some(MatchPattern::SafeRegex(_) | MatchPattern::Custom(_)) => Err(Status::invalid_argument(
            "node_matchers.node_id: exact, prefix, suffix and contains are supported",
        )),
        _ => Ok(()),
    }
}

fn matches(matcher: &NodeMatcher, node: &Node) -> bool {
    matcher.node_id.as_ref().is_none_or(|id| matches_text(id, &node.id))
}

fn matches_text(matcher: &StringMatcher, text: &str) -> bool {
    let fold = |text: &str| {
        if matcher.ignore_case {
            text.to_lowercase()
        } else {
            text.to_owned()
        }
    };
    let text = fold(text);
    match &matcher.match_pattern {
        None => true,
        Some(MatchPattern::Exact(pattern)) => text == fold(pattern),
        Some(MatchPattern::Prefix(pattern)) => text.starts_with(&fold(pattern)),
        Some(MatchPattern::Suffix(pattern)) => text.ends_with(&fold(pattern)),
        Some(MatchPattern::Contains(pattern)) => text.contains(&fold(pattern)),
        Some(MatchPattern::SafeRegex(_) | MatchPattern::Custom(_)) => false,
    }
}

fn client(inspected: Inspected) -> pb::ClientConfig {
    let Inspected {
        node,
        resources,
        reasons,
    } = inspected;
    let resources = resources.into_iter().flatten();
    pb::ClientConfig {
        node: Some(node),
        generic_xds_configs: resources.map(|resource| config(resource, &reasons)).collect(),
        ..pb::ClientConfig::default()
    }
}

fn config(resource: ResourceReport, reasons: &BTreeMap<(ResourceType, String), String>) -> GenericXdsConfig {
    let ResourceReport {
        kind,
        name,
        version,
        status,
    } = resource;
    let version = version.map(|version| version.to_string()).unwrap_or_default();
    let (config_status, client_status) = statuses(&status);
    // What a client uses of a resource that it refused is not known: it may have none.
    let (version_info, error_state) = match status {
        ResourceStatus::Refused(message) => {
            let reason = reasons.get(&(kind, name.clone())).cloned();
            let failure = UpdateFailureState {
                details: reason.unwrap_or_else(|| format!("refused along with others: {message}")),
                version_info: version,
                ..UpdateFailureState::default()
            };
            (String::new(), Some(failure))
        }
        _ => (version, None),
    };
    GenericXdsConfig {
        type_url: kind.url().to_owned(),
        name,
        version_info,
        config_status: config_status.into(),
        client_status: client_status.into(),
        error_state,
        ..GenericXdsConfig::default()
    }
}

/// As the server sees it and as the client does.
fn statuses(status: &ResourceStatus) -> (pb::ConfigStatus, ClientResourceStatus) {
    match status {
        ResourceStatus::NotSent => (pb::ConfigStatus::NotSent, ClientResourceStatus::Requested),
        // "Stale: management server has sent the config to client but has not received ACK/NACK yet."
        ResourceStatus::Sent => (pb::ConfigStatus::Stale, ClientResourceStatus::Requested),
        ResourceStatus::Accepted => (pb::ConfigStatus::Synced, ClientResourceStatus::Acked),
        ResourceStatus::Refused(_) => (pb::ConfigStatus::Error, ClientResourceStatus::Nacked),
        ResourceStatus::Absent => (pb::ConfigStatus::Synced, ClientResourceStatus::DoesNotExist),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn nodes_are_matched_by_their_id() {
        let node = Node {
            id: "Gateway-7".into(),
            ..Node::default()
        };
        let by = |pattern, ignore_case| NodeMatcher {
            node_id: Some(StringMatcher {
                ignore_case,
                match_pattern: Some(pattern),
            }),
            node_metadatas: vec![],
        };
        let exact = |text: &str| MatchPattern::Exact(text.into());
        for (matcher, expected) in [
            (by(exact("Gateway-7"), false), true),
            (by(exact("gateway-7"), false), false),
            (by(exact("gateway-7"), true), true),
            (by(MatchPattern::Prefix("Gate".into()), false), true),
            (by(MatchPattern::Suffix("-8".into()), false), false),
            (by(MatchPattern::Contains("WAY".into()), true), true),
            (NodeMatcher::default(), true),
        ] {
            assert!(check(&matcher).is_ok());
            assert_eq!(matches(&matcher, &node), expected, "{matcher:?}");
        }
        let regex = by(MatchPattern::SafeRegex(Default::default()), false);
        assert!(check(&regex).unwrap_err().message().contains("prefix"));
    }
}
