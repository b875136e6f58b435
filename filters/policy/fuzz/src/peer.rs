//! Who sends a request.

use std::net::IpAddr;

use kilocard_policy::request::Peer;

/// An address and identities, all of which may be missing.
#[derive(Clone, Debug, Default)]
pub(crate) struct Somebody {
    pub(crate) address: Option<IpAddr>,
    pub(crate) uris: Vec<String>,
}

impl Somebody {
    /// One of the pool's group `operators`.
    pub(crate) fn operator() -> Self {
        Self {
            address: None,
            uris: vec!["spiffe://mesh.example/ns/ops/sa/ada".to_owned()],
        }
    }
}

impl Peer for Somebody {
    fn address(&self) -> Option<IpAddr> {
        self.address
    }

    fn uri_sans(&self) -> Vec<String> {
        self.uris.clone()
    }
}
