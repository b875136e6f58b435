//! The wire format in which Envoy passes headers to the filter.

#[path = "../../../host/src/header_map.rs"]
#[allow(dead_code, unreachable_pub)]
mod format;

/// Whatever the bytes are, headers come out or an error does; what comes out lies within the bytes, and is the same when
/// it is written as Envoy writes it and read again.
pub fn run(data: &[u8]) {
    let Ok(headers) = format::read(data) else { return };
    let text: usize = headers.iter().map(|(name, value)| name.len() + value.len() + 2).sum();
    let written = 4 + headers.len() * 8 + text;
    assert!(data.is_empty() || written <= data.len(), "more came out than was in it");
    let again = encode(&headers);
    assert_eq!(format::read(&again).as_ref(), Ok(&headers));
}

fn encode(headers: &[(&[u8], &[u8])]) -> Vec<u8> {
    let mut map = (headers.len() as u32).to_le_bytes().to_vec();
    for (name, value) in headers {
        map.extend((name.len() as u32).to_le_bytes());
        map.extend((value.len() as u32).to_le_bytes());
    }
    for part in headers.iter().flat_map(|(name, value)| [name, value]) {
        map.extend_from_slice(part);
        map.push(0);
    }
    map
}
