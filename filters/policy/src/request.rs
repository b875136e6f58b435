//! What a decision sees of a request.

use std::fmt;
use std::net::IpAddr;

/// The headers of a request: raw bytes, in order, pseudo-headers included; and who sends it. Names are in lower case, as
/// HTTP/2 demands (RFC 9113, section 8.2); values may be any bytes.
#[derive(Clone, Copy)]
pub struct RequestView<'a> {
    headers: &'a [(&'a [u8], &'a [u8])],
    peer: &'a dyn Peer,
}

impl<'a> RequestView<'a> {
    /// A view of these `(name, value)` pairs, from nobody in particular.
    pub fn new(headers: &'a [(&'a [u8], &'a [u8])]) -> Self {
        Self {
            headers,
            peer: &Unknown,
        }
    }

    /// The same request from this peer.
    pub fn from_peer(self, peer: &'a dyn Peer) -> Self {
        Self { peer, ..self }
    }

    /// All headers, in order.
    pub fn headers(&self) -> &'a [(&'a [u8], &'a [u8])] {
        self.headers
    }

    /// Who sends it.
    pub fn peer(&self) -> &'a dyn Peer {
        self.peer
    }
}

impl fmt::Debug for RequestView<'_> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("RequestView")
            .field("headers", &self.headers)
            .finish_non_exhaustive()
    }
}

/// The other end of the connection. Asked only when a rule on callers applies: in Envoy each answer is a host call.
pub trait Peer {
    /// The address of the direct peer; `None` if it has none, as on a Unix socket.
    fn address(&self) -> Option<IpAddr>;

    /// The URI SANs of the certificate that the peer has proved to own; none without a verified one.
    fn uri_sans(&self) -> Vec<String>;
}

/// Nobody in particular: in no group of callers but `anyone`.
#[derive(Clone, Copy, Debug, Default)]
pub struct Unknown;

impl Peer for Unknown {
    fn address(&self) -> Option<IpAddr> {
        None
    }

    fn uri_sans(&self) -> Vec<String> {
        Vec::new()
    }
}

/// The path without its query. gRPC has none, plain HTTP may.
pub(crate) fn without_query(path: &[u8]) -> &[u8] {
    path.split(|byte| *byte == b'?').next().unwrap_or_default()
}
