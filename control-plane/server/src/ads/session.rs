//! One stream, from its first request to its end.

use super::Ads;
use super::authorise::Peer;
use super::frames::Message;
use super::nodes::{Connection, Inspection};
use crate::audience::Audience;
use crate::snapshot::editions::Editions;
use envoy_types::pb::envoy::config::core::v3::Node;
use futures::StreamExt;
use kilocard_xds::ProtocolError;
use kilocard_xds::report::{Answer, ResourceReport, TypeReport};
use kilocard_xds::snapshot::{ResourceType, Snapshot};
use std::collections::BTreeMap;
use std::sync::Arc;
use std::time::{Duration, Instant};
use tokio::sync::{mpsc, watch};
use tonic::{Status, Streaming};

/// How long the first response waits after the first request. A reconnecting client asks for all its types in one go, and is
/// answered best when all are known. In the state of the world, where the first response of a type says all that there is,
/// clusters that only the client knows of go with it, so its routes had better be known by then.
const OPENING: Duration = Duration::from_millis(20);
/// How long a delta client that brought versions along is waited for with removals, see [`kilocard_xds`], rule 4: one that
/// asks for its types more slowly keeps what its routes refer to, and one that never asks for some does not keep it for ever.
const FIRST_REQUESTS: Duration = Duration::from_secs(1);

/// What gRPC clients take by default, in bytes. Envoy takes more.
const CLIENT_LIMIT: usize = 4 << 20;
/// How many heartbeats a resource with a TTL gets before a client would drop it: one may be late, and another one lost.
const HEARTBEATS: u32 = 3;

/// What a stream may be about.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Scope {
    /// Any type: the aggregated service.
    All,
    /// One type: a service of its own.
    Only(ResourceType),
}

impl Scope {
    /// The type that a request is about; `None` for one that is not served.
    fn kind(self, type_url: &str) -> Result<Option<ResourceType>, Status> {
        match self {
            // DiscoveryRequest.type_url "is implicit in requests made via singleton xDS APIs such as CDS, LDS, etc. but is
            // required for ADS."
            Self::All if type_url.is_empty() => Err(Status::invalid_argument("type_url is required on an ADS stream")),
            Self::All => Ok(ResourceType::from_url(type_url)),
            Self::Only(kind) if type_url.is_empty() || type_url == kind.url() => Ok(Some(kind)),
            Self::Only(kind) => Err(Status::invalid_argument(format!(
                "a request for {type_url} on a stream of {}; use that type's service, or ADS",
                kind.url()
            ))),
        }
    }

    /// The protocol as reports show it.
    fn describe(self, protocol: &str) -> String {
        match self {
            Self::All => protocol.to_owned(),
            Self::Only(kind) => format!("{protocol} {}", kind.url().rsplit('.').next().unwrap_or_default()),
        }
    }
}

/// Where responses go.
type Responses = mpsc::Sender<Result<Message, Status>>;

/// A response with its type and what it takes on the wire, about.
pub(super) struct Outgoing {
    pub(super) kind: ResourceType,
    pub(super) bytes: usize,
    pub(super) message: Message,
}

/// Delta or state of the world, in protobuf.
pub(super) trait Protocol: Send + 'static {
    type Request: prost::Message + Default + 'static;
    /// As reports show it.
    const NAME: &'static str;

    fn node(request: &Self::Request) -> Option<&Node>;
    fn type_url(request: &Self::Request) -> &str;
    fn on_request(&mut self, kind: ResourceType, request: Self::Request) -> Result<Answer, ProtocolError>;
    fn next_response(&mut self, snapshot: &Snapshot) -> Option<Outgoing>;
    /// Resources with a TTL are to be mentioned again.
    fn refresh(&mut self, snapshot: &Snapshot);
    /// How far each resource is.
    fn inspect(&self, snapshot: &Snapshot) -> Vec<ResourceReport>;
    /// No more first requests are to be expected.
    fn end_opening(&mut self) {}
    fn report(&self) -> Vec<TypeReport>;
}

/// A stream whose client has said who it is.
struct Session<P> {
    protocol: P,
    scope: Scope,
    node: String,
    audience: Audience,
    connection: Connection,
    inspections: mpsc::Receiver<Inspection>,
    opened: Instant,
    /// When the change was noticed that the response under way tells of, by type. What a new stream is told first is no news.
    pushing: BTreeMap<ResourceType, Instant>,
}

/// Serves a stream until the client leaves, breaks the protocol, or the server shuts down; the last two are told apart by
/// the status that the stream ends with: OK for a shutdown.
pub(super) async fn run<P: Protocol>(
    protocol: P,
    (scope, peer): (Scope, Peer),
    (mut requests, responses): (Streaming<P::Request>, Responses),
    ads: Ads,
) {
    let first = tokio::select! {
        () = ads.shutdown.cancelled() => return,
        () = responses.closed() => return,
        first = requests.next() => first,
    };
    let Some(Ok(first)) = first else { return };
    let node = match identify(P::node(&first), &peer, &ads) {
        Ok(node) => node,
        Err(status) => {
            let why = status.message();
            tracing::warn!(protocol = P::NAME, peer = ?peer.address, why, "xDS stream refused");
            // A receiver that is gone needs no status.
            let _ = responses.send(Err(status)).await;
            return;
        }
    };
    let (id, audience) = (node.id.clone(), Audience::of(&node));
    tracing::info!(node = id, protocol = P::NAME, peer = ?peer.address, "xDS stream opened");
    let (connection, inspections) = ads.nodes.connect(node, peer, scope.describe(P::NAME));
    let mut session = Session {
        protocol,
        scope,
        node: id,
        audience,
        connection,
        inspections,
        opened: Instant::now(),
        pushing: BTreeMap::new(),
    };
    let ended = match session.on_request(first) {
        Ok(()) => session.serve(&mut requests, &responses, &ads).await,
        Err(status) => Err(status),
    };
    match ended {
        Ok(why) => tracing::info!(node = session.node, protocol = P::NAME, why, "xDS stream closed"),
        Err(status) => {
            tracing::warn!(
                node = session.node,
                protocol = P::NAME,
                why = status.message(),
                "xDS stream refused"
            );
            let _ = responses.send(Err(status)).await;
        }
    }
}

/// Who it is, if it may be here. "Only the first request on a stream is guaranteed to carry the node identifier."
fn identify(node: Option<&Node>, peer: &Peer, ads: &Ads) -> Result<Node, Status> {
    let node = node.filter(|node| !node.id.is_empty()).ok_or_else(|| {
        Status::invalid_argument("the first request must carry node.id; set `node.id` in the bootstrap")
    })?;
    ads.authorise.authorise(node, peer).map_err(|denied| {
        ads.nodes.deny();
        Status::permission_denied(denied.to_string())
    })?;
    // The rest, extensions and metadata, is large and shown nowhere.
    Ok(Node {
        id: node.id.clone(),
        cluster: node.cluster.clone(),
        locality: node.locality.clone(),
        user_agent_name: node.user_agent_name.clone(),
        ..Node::default()
    })
}

impl<P: Protocol> Session<P> {
    /// Returns why the stream ended, or the status to end it with.
    async fn serve(
        &mut self,
        requests: &mut Streaming<P::Request>,
        responses: &Responses,
        ads: &Ads,
    ) -> Result<&'static str, Status> {
        let mut snapshots = ads.snapshots.clone();
        let now = Instant::now();
        let opening = tokio::time::sleep_until(ads.turn(now).max(now + OPENING).into());
        let first_requests = tokio::time::sleep(FIRST_REQUESTS);
        let ending = async {
            ads.shutdown.cancelled().await;
            tokio::time::sleep(ads.drain.delay(ads.nodes.count(), fastrand::f64())).await;
        };
        // Far away until there is something with a TTL.
        let heartbeat = tokio::time::sleep(Duration::from_secs(u64::from(u32::MAX)));
        let mut ttl = None;
        tokio::pin!(opening, first_requests, ending, heartbeat);
        // `due`: something may have to be sent. `publishing`: there may be further snapshots.
        let (mut opened, mut complete, mut due, mut publishing) = (false, false, true, true);
        loop {
            tokio::select! {
                // Requests before responses: what lies there already is known before the machine speaks.
                biased;
                () = &mut ending => return Ok("shutdown"),
                request = requests.next() => match request {
                    Some(Ok(request)) => {
                        self.on_request(request)?;
                        due = true;
                    }
                    Some(Err(_)) => return Ok("connection lost"),
                    None => return Ok("closed by the client"),
                },
                changed = snapshots.changed(), if publishing => {
                    publishing = changed.is_ok();
                    due = true;
                    let shortest = self.served(&snapshots).and_then(|snapshot| snapshot.ttl());
                    if ttl != shortest {
                        ttl = shortest;
                        heartbeat.as_mut().reset(next_heartbeat(ttl));
                    }
                }
                () = &mut heartbeat, if ttl.is_some() => {
                    let snapshot = self.served(&snapshots);
                    snapshot.iter().for_each(|snapshot| self.protocol.refresh(snapshot));
                    heartbeat.as_mut().reset(next_heartbeat(ttl));
                    due = true;
                }
                Some(inspection) = self.inspections.recv() => {
                    let snapshot = self.served(&snapshots).unwrap_or_default();
                    // Whoever asked may have given up.
                    let _ = inspection.send(self.protocol.inspect(&snapshot));
                }
                () = &mut opening, if !opened => opened = true,
                () = &mut first_requests, if !complete => {
                    self.protocol.end_opening();
                    (complete, due) = (true, true);
                }
                room = responses.reserve(), if due && opened => {
                    let Ok(room) = room else { return Ok("connection lost") };
                    snapshots.mark_unchanged();
                    let snapshot = self.served(&snapshots);
                    match snapshot.and_then(|snapshot| self.next_response(&snapshot)) {
                        Some(message) => room.send(Ok(message)),
                        None => due = false,
                    }
                }
                () = responses.closed() => return Ok("connection lost"),
            }
        }
    }

    /// The edition for this client of what is served now.
    fn served(&self, snapshots: &watch::Receiver<Option<Arc<Editions>>>) -> Option<Arc<Snapshot>> {
        let editions = snapshots.borrow().clone()?;
        Some(editions.of(&self.audience))
    }

    fn on_request(&mut self, request: P::Request) -> Result<(), Status> {
        let Some(kind) = self.scope.kind(P::type_url(&request))? else {
            tracing::debug!(
                node = self.node,
                type_url = P::type_url(&request),
                "xDS type not served, request ignored"
            );
            return Ok(());
        };
        let answer = self
            .protocol
            .on_request(kind, request)
            .map_err(|error: ProtocolError| Status::resource_exhausted(error.to_string()))?;
        match &answer {
            Answer::Nack(nack) => tracing::warn!(
                node = self.node,
                type_url = kind.url(),
                version = %nack.version,
                message = nack.message,
                "xDS response refused by the proxy; it keeps what it has"
            ),
            Answer::Ack(version) => {
                tracing::debug!(node = self.node, type_url = kind.url(), %version, "xDS ACK");
                if let Some(noticed) = self.pushing.remove(&kind) {
                    self.connection.pushed(kind, noticed.elapsed());
                }
            }
            Answer::None => {}
        }
        self.connection.answered(kind, &answer, self.protocol.report());
        Ok(())
    }

    fn next_response(&mut self, snapshot: &Snapshot) -> Option<Message> {
        let Some(Outgoing { kind, bytes, message }) = self.protocol.next_response(snapshot) else {
            // That there is nothing to send may itself be news: the client has all that is served.
            self.connection.rests(self.protocol.report());
            return None;
        };
        if bytes > CLIENT_LIMIT {
            self.connection.oversized(kind);
            tracing::warn!(
                node = self.node,
                type_url = kind.url(),
                bytes,
                "xDS response beyond the 4 MiB that gRPC clients take by default; Envoy takes it"
            );
        }
        match snapshot.noticed_at().filter(|noticed| *noticed >= self.opened) {
            Some(noticed) => self.pushing.insert(kind, noticed),
            None => self.pushing.remove(&kind),
        };
        self.connection.responded(kind, self.protocol.report());
        Some(message)
    }
}

fn next_heartbeat(ttl: Option<Duration>) -> tokio::time::Instant {
    let pause = ttl.map_or(Duration::from_secs(u64::from(u32::MAX)), |ttl| ttl / HEARTBEATS);
    tokio::time::Instant::now() + pause
}
