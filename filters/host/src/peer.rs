//! Who is at the other end of the connection.
//!
//! Knows no host calls, so that tests under `tests/` can include it by its path.

use std::net::{IpAddr, SocketAddr};

/// The address of the peer that Envoy's attribute `source.address` names, if it is the peer's own.
///
/// Where an HTTP connection manager trusts `x-forwarded-for` (`use_remote_address` left false, or trusted hops), the
/// attribute is what that header says, which any client can write. Envoy gives such an address port 0, which no
/// connection has: it is nobody's address.
pub(crate) fn direct_address(attribute: &[u8]) -> Option<IpAddr> {
    let address: SocketAddr = std::str::from_utf8(attribute).ok()?.parse().ok()?;
    (address.port() != 0).then(|| address.ip().to_canonical())
}
