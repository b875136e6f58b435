//! One stream, from its first request to its end.

use super::Ads;
use super::nodes::Connection;
use envoy_types::pb::envoy::config::core::v3::Node;
use futures::StreamExt;
use kilocard_xds::ProtocolError;
use kilocard_xds::report::{Answer, TypeReport};
use kilocard_xds::snapshot::{ResourceType, Snapshot};
use std::time::Duration;
use tokio::sync::mpsc;
use tonic::{Status, Streaming};

/// How long the first response waits after the first request. A reconnecting client asks for all its types in one go, and is
/// answered best when all are known. In the state of the world, where the first response of a type says all that there is,
/// clusters that only the client knows of go with it, so its routes had better be known by then.
const OPENING: Duration = Duration::from_millis(20);
/// How long a delta client that brought versions along is waited for with removals, see [`kilocard_xds`], rule 4: one that
/// asks for its types more slowly keeps what its routes refer to, and one that never asks for some does not keep it for ever.
const FIRST_REQUESTS: Duration = Duration::from_secs(1);

/// Delta or state of the world, in protobuf.
pub(super) trait Protocol: Send + 'static {
    type Request: Send + 'static;
    type Response: Send + 'static;
    /// As reports show it.
    const NAME: &'static str;

    fn node(request: &Self::Request) -> Option<&Node>;
    fn type_url(request: &Self::Request) -> &str;
    fn on_request(&mut self, kind: ResourceType, request: Self::Request) -> Result<Answer, ProtocolError>;
    fn next_response(&mut self, snapshot: &Snapshot) -> Option<(ResourceType, Self::Response)>;
    /// No more first requests are to be expected.
    fn end_opening(&mut self) {}
    fn report(&self) -> Vec<TypeReport>;
}

/// A stream whose client has said who it is.
struct Session<P> {
    protocol: P,
    node: String,
    connection: Connection,
}

/// Serves a stream until the client leaves, breaks the protocol, or the server shuts down; the last two are told apart by
/// the status that the stream ends with: OK for a shutdown.
pub(super) async fn run<P: Protocol>(
    protocol: P,
    mut requests: Streaming<P::Request>,
    responses: mpsc::Sender<Result<P::Response, Status>>,
    ads: Ads,
) {
    let first = tokio::select! {
        () = ads.shutdown.cancelled() => return,
        () = responses.closed() => return,
        first = requests.next() => first,
    };
    let Some(Ok(first)) = first else { return };
    // "Only the first request on a stream is guaranteed to carry the node identifier."
    let Some(node) = P::node(&first).map(|node| node.id.clone()).filter(|id| !id.is_empty()) else {
        tracing::warn!(
            protocol = P::NAME,
            "xDS stream refused: its first request carries no node.id"
        );
        let status = Status::invalid_argument("the first request must carry node.id; set `node.id` in the bootstrap");
        // A receiver that is gone needs no status.
        let _ = responses.send(Err(status)).await;
        return;
    };
    let connection = ads.nodes.connect(node.clone(), P::NAME);
    tracing::info!(node, protocol = P::NAME, "xDS stream opened");
    let mut session = Session {
        protocol,
        node,
        connection,
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

impl<P: Protocol> Session<P> {
    /// Returns why the stream ended, or the status to end it with.
    async fn serve(
        &mut self,
        requests: &mut Streaming<P::Request>,
        responses: &mpsc::Sender<Result<P::Response, Status>>,
        ads: &Ads,
    ) -> Result<&'static str, Status> {
        let mut snapshots = ads.snapshots.clone();
        let opening = tokio::time::sleep(OPENING);
        let first_requests = tokio::time::sleep(FIRST_REQUESTS);
        tokio::pin!(opening, first_requests);
        // `due`: something may have to be sent. `publishing`: there may be further snapshots.
        let (mut opened, mut complete, mut due, mut publishing) = (false, false, true, true);
        loop {
            tokio::select! {
                // Requests before responses: what lies there already is known before the machine speaks.
                biased;
                () = ads.shutdown.cancelled() => return Ok("shutdown"),
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
                }
                () = &mut opening, if !opened => opened = true,
                () = &mut first_requests, if !complete => {
                    self.protocol.end_opening();
                    (complete, due) = (true, true);
                }
                room = responses.reserve(), if due && opened => {
                    let Ok(room) = room else { return Ok("connection lost") };
                    let snapshot = snapshots.borrow_and_update().clone();
                    match snapshot.and_then(|snapshot| self.next_response(&snapshot)) {
                        Some(response) => room.send(Ok(response)),
                        None => due = false,
                    }
                }
                () = responses.closed() => return Ok("connection lost"),
            }
        }
    }

    fn on_request(&mut self, request: P::Request) -> Result<(), Status> {
        let Some(kind) = ResourceType::from_url(P::type_url(&request)) else {
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
            Answer::Ack(version) => tracing::debug!(node = self.node, type_url = kind.url(), %version, "xDS ACK"),
            Answer::None => {}
        }
        self.connection.answered(kind, &answer, self.protocol.report());
        Ok(())
    }

    fn next_response(&mut self, snapshot: &Snapshot) -> Option<P::Response> {
        let Some((kind, response)) = self.protocol.next_response(snapshot) else {
            // That there is nothing to send may itself be news: the client has all that is served.
            self.connection.rests(self.protocol.report());
            return None;
        };
        self.connection.responded(kind, self.protocol.report());
        Some(response)
    }
}
