//! What a decision sees of a request.

use std::fmt;
use std::net::IpAddr;

use crate::cohort::Key;

/// The headers of a request: raw bytes, in order, pseudo-headers included; and who sends it. Names are in lower case, as
/// HTTP/2 demands (RFC 9113, section 8.2); values may be any bytes.
#[derive(Clone, Copy)]
pub struct RequestView<'a> {
    headers: &'a [(&'a [u8], &'a [u8])],
    peer: &'a dyn Peer,
    replayed: Option<Replayed<'a>>,
}

impl<'a> RequestView<'a> {
    /// A view of these `(name, value)` pairs, from nobody in particular.
    pub fn new(headers: &'a [(&'a [u8], &'a [u8])]) -> Self {
        Self {
            headers,
            peer: &Unknown,
            replayed: None,
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

    /// The same request out of a capture.
    pub(crate) fn replay(self, replayed: Replayed<'a>) -> Self {
        Self {
            replayed: Some(replayed),
            ..self
        }
    }

    /// What a capture says of the request besides its headers, if it comes out of one.
    pub(crate) fn replayed(&self) -> Option<Replayed<'a>> {
        self.replayed
    }

    /// Whether of this header's value no more is known than its length and its digest.
    pub(crate) fn is_hashed(&self, name: &[u8]) -> bool {
        let hashed = |replayed: Replayed<'_>| replayed.digests.iter().any(|(candidate, _)| *candidate == name);
        self.replayed.is_some_and(hashed)
    }

    /// The digest of a header's value: the one that is known in its place, or that of the value.
    pub(crate) fn key_of(&self, name: &[u8], value: &[u8]) -> Key {
        let known = self.replayed.and_then(|replayed| {
            let digests = replayed.digests.iter();
            digests
                .filter(|(candidate, _)| *candidate == name)
                .map(|(_, key)| *key)
                .next()
        });
        known.unwrap_or_else(|| Key::of(value))
    }

    /// Who sends it.
    pub fn peer(&self) -> &'a dyn Peer {
        self.peer
    }
}

/// What a capture says of a request besides its headers.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Replayed<'a> {
    /// Of the headers whose values it has not kept. In their place stand values of the same length that pass their grammar
    /// or break it as the true ones did.
    pub(crate) digests: &'a [(&'a [u8], Key)],
    /// Whether the caller was one whose `x-canary-weight` counted.
    pub(crate) may_override: bool,
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
