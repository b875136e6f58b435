use std::cell::Cell;

use serde_json::json;

use super::*;
use crate::config::{Spec, parse};
use crate::request::Unknown;

struct From {
    uris: Vec<&'static str>,
    address: Option<&'static str>,
    asked: Cell<usize>,
}

impl Peer for From {
    fn address(&self) -> Option<IpAddr> {
        self.asked.set(self.asked.get() + 1);
        self.address.map(|address| address.parse().unwrap())
    }

    fn uri_sans(&self) -> Vec<String> {
        self.asked.set(self.asked.get() + 1);
        self.uris.iter().map(|uri| (*uri).to_owned()).collect()
    }
}

fn from(uris: &[&'static str], address: Option<&'static str>) -> From {
    From {
        uris: uris.to_vec(),
        address,
        asked: Cell::new(0),
    }
}

fn groups() -> CallerGroups {
    let document = parse(&json!({
        "api_version": "kilocard/v1",
        "kind": "MeshPolicy",
        "metadata": {"name": "mesh"},
        "spec": {"callers": [
            {"name": "ops", "spiffe": ["spiffe://mesh.example/ns/ops/sa/ada", "spiffe://mesh.example/ns/admin/*"]},
            {"name": "local", "addresses": ["10.0.0.0/8", "::1"]},
            {"name": "both", "spiffe": ["spiffe://mesh.example/a"], "addresses": ["192.0.2.7"]},
        ]},
    }))
    .unwrap();
    match document.spec() {
        Spec::Mesh(policy) => CallerGroups::new(policy.callers.iter().flatten()),
        other => panic!("not a MeshPolicy: {other:?}"),
    }
}

fn admits(group: &str, peer: &dyn Peer) -> bool {
    groups().named(&[group.to_owned()]).admit(&Caller::new(peer))
}

#[test]
fn an_identity_is_compared_whole_or_by_segments_and_never_as_a_beginning() {
    for uri in [
        "spiffe://mesh.example/ns/ops/sa/ada",
        "spiffe://mesh.example/ns/admin/sa/eve",
    ] {
        assert!(admits("ops", &from(&[uri], None)), "{uri}");
    }
    for uri in [
        "spiffe://mesh.example/ns/ops/sa/ada2",
        "spiffe://mesh.example/ns/ops/sa",
        "spiffe://mesh.example/ns/ops/sa/ada/x",
        "spiffe://mesh.example/ns/admin",
        "spiffe://mesh.example/ns/admin/",
        "spiffe://mesh.example/ns/administrators/sa/eve",
        "spiffe://mesh.example/ns/admin/../ops/sa/eve",
        "spiffe://mesh.example.evil/ns/admin/sa/eve",
        "https://mesh.example/ns/admin/sa/eve",
        "",
    ] {
        assert!(!admits("ops", &from(&[uri], None)), "{uri}");
    }
}

#[test]
fn a_certificate_with_two_uris_proves_no_identity() {
    let uris = [
        "spiffe://mesh.example/ns/ops/sa/ada",
        "spiffe://mesh.example/ns/ops/sa/eve",
    ];
    assert!(!admits("ops", &from(&uris, None)));
}

#[test]
fn an_address_counts_as_itself_and_as_mapped_into_ipv6() {
    for address in ["10.0.0.1", "10.255.255.255", "::ffff:10.1.2.3", "::1"] {
        assert!(admits("local", &from(&[], Some(address))), "{address}");
    }
    for address in ["11.0.0.1", "9.255.255.255", "::2", "::ffff:11.0.0.1", "::10.0.0.1"] {
        assert!(!admits("local", &from(&[], Some(address))), "{address}");
    }
}

#[test]
fn either_an_identity_or_an_address_suffices() {
    assert!(admits("both", &from(&["spiffe://mesh.example/a"], None)));
    assert!(admits("both", &from(&[], Some("192.0.2.7"))));
    assert!(!admits("both", &from(&["spiffe://mesh.example/b"], Some("192.0.2.8"))));
}

#[test]
fn nobody_in_particular_is_only_in_anyone() {
    assert!(admits("anyone", &Unknown));
    for group in ["ops", "local", "both", "undeclared"] {
        assert!(!admits(group, &Unknown), "{group}");
    }
    assert!(!groups().named(&[]).admit(&Caller::new(&Unknown)));
}

#[test]
fn a_peer_is_asked_once_and_only_for_what_matters() {
    let peer = from(&["spiffe://mesh.example/x"], Some("10.0.0.1"));
    let caller = Caller::new(&peer);
    assert!(groups().named(&["anyone".to_owned()]).admit(&caller));
    assert_eq!(peer.asked.get(), 0);
    for _ in 0..3 {
        assert!(!groups().named(&["ops".to_owned()]).admit(&caller));
    }
    assert_eq!(peer.asked.get(), 1);
    assert!(groups().named(&["ops".to_owned(), "local".to_owned()]).admit(&caller));
    assert_eq!(peer.asked.get(), 2);
}
