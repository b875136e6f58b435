//! The peer of the request that is being decided, asked of Envoy only when a rule on callers wants to know.

use std::net::IpAddr;

use kilocard_policy::Peer;

use crate::abi;
use crate::peer::direct_address;

/// Envoy's attributes; segments are separated by 0x00.
const ADDRESS: &str = "source\0address";
const URI_SAN: &str = "connection\0uri_san_peer_certificate";

/// What Envoy cannot tell is not there: a peer of whom nothing is known is in no group of callers.
pub(crate) struct Connection;

impl Peer for Connection {
    fn address(&self) -> Option<IpAddr> {
        direct_address(&abi::property(ADDRESS).ok()??)
    }

    /// Envoy gives the first one of the certificate.
    fn uri_sans(&self) -> Vec<String> {
        let san = abi::property(URI_SAN).ok().flatten();
        san.and_then(|bytes| String::from_utf8(bytes).ok())
            .into_iter()
            .collect()
    }
}
