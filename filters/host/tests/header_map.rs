//! The wire format of header maps. Includes the module by its path: the crate itself holds host calls, which do not link
//! natively.

#[path = "../src/header_map.rs"]
#[allow(unreachable_pub, dead_code)]
mod header_map;

use proptest::collection::vec;
use proptest::prelude::*;

/// As Envoy writes it.
fn encode(headers: &[(Vec<u8>, Vec<u8>)]) -> Vec<u8> {
    let mut map = (headers.len() as u32).to_le_bytes().to_vec();
    for (name, value) in headers {
        map.extend((name.len() as u32).to_le_bytes());
        map.extend((value.len() as u32).to_le_bytes());
    }
    for (name, value) in headers {
        map.extend(name.iter().chain(&[0]).chain(value).chain(&[0]));
    }
    map
}

#[test]
fn a_map_in_the_bytes_of_the_specification_is_read() {
    let map = b"\x02\0\0\0\x02\0\0\0\x08\0\0\0\x01\0\0\0\0\0\0\0te\0trailers\0a\0\0";
    let expected: Vec<(&[u8], &[u8])> = vec![(b"te", b"trailers"), (b"a", b"")];
    assert_eq!(header_map::read(map).unwrap(), expected);
}

#[test]
fn no_bytes_are_no_headers() {
    assert!(header_map::read(b"").unwrap().is_empty());
    assert!(header_map::read(&header_map::write(&[])).unwrap().is_empty());
}

#[test]
fn what_is_written_is_read_back() {
    let map = header_map::write(&[("x-kilocard-reason", "NOT_GRPC"), ("b", "")]);
    let expected: Vec<(&[u8], &[u8])> = vec![(b"x-kilocard-reason", b"NOT_GRPC"), (b"b", b"")];
    assert_eq!(header_map::read(&map).unwrap(), expected);
}

#[test]
fn sizes_that_lie_are_refused_without_reading_beyond_the_map() {
    assert!(header_map::read(b"\xff\xff\xff\xff").is_err());
    assert!(header_map::read(b"\x01\0\0\0\xff\xff\xff\xff\xff\xff\xff\xffte\0").is_err());
    assert!(header_map::read(b"\x01\0\0\0\x02\0\0\0").is_err());
}

proptest! {
    #[test]
    fn any_bytes_survive_the_journey(headers in vec((vec(any::<u8>(), 0..40), vec(any::<u8>(), 0..200)), 0..40)) {
        let map = encode(&headers);
        let read = header_map::read(&map).unwrap();
        let read: Vec<_> = read.into_iter().map(|(name, value)| (name.to_vec(), value.to_vec())).collect();
        prop_assert_eq!(read, headers);
    }

    #[test]
    fn every_cut_is_noticed(headers in vec((vec(any::<u8>(), 0..10), vec(any::<u8>(), 0..10)), 1..6), cut in any::<prop::sample::Index>()) {
        let map = encode(&headers);
        let length = 1 + cut.index(map.len() - 1);
        if length < map.len() {
            prop_assert!(header_map::read(&map[..length]).is_err());
        }
    }

    #[test]
    fn arbitrary_bytes_never_panic(map in vec(any::<u8>(), 0..300)) {
        let _ = header_map::read(&map);
    }
}
