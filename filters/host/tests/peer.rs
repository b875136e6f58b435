//! Whose address a peer's address is. Includes the module by its path: the crate itself holds host calls, which do not
//! link natively.

#[path = "../src/peer.rs"]
#[allow(unreachable_pub)]
mod peer;

use peer::direct_address;

#[test]
fn the_address_of_a_connection_is_its_peers() {
    for (attribute, address) in [
        ("127.0.0.1:38164", "127.0.0.1"),
        ("[2001:db8::7]:443", "2001:db8::7"),
        ("[::ffff:10.1.2.3]:443", "10.1.2.3"),
    ] {
        assert_eq!(
            direct_address(attribute.as_bytes()),
            Some(address.parse().unwrap()),
            "{attribute}"
        );
    }
}

#[test]
fn an_address_that_a_client_wrote_into_a_header_is_nobodys() {
    for attribute in ["10.1.2.3:0", "[::1]:0"] {
        assert_eq!(direct_address(attribute.as_bytes()), None, "{attribute}");
    }
}

#[test]
fn a_peer_without_an_ip_address_has_none() {
    for attribute in [
        &b""[..],
        b"@envoy/socket",
        b"/run/envoy.sock",
        b"10.1.2.3",
        b"\xff\xfe:1",
    ] {
        assert_eq!(direct_address(attribute), None, "{attribute:?}");
    }
}
