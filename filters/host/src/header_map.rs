//! The wire format in which proxy-wasm passes a header map: the number of headers, all pairs of sizes, then all names and
//! values, each ended by 0x00; numbers are little-endian u32.
//!
//! Knows no host calls, so that tests under `tests/` can include it by its path.

use std::fmt;

/// The bytes are not a header map.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct MalformedHeaderMap;

impl fmt::Display for MalformedHeaderMap {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("the host passed a header map that is cut short")
    }
}

/// A name and a value, as raw bytes.
pub(crate) type Header<'m> = (&'m [u8], &'m [u8]);

/// The headers in `map`, in order, as raw bytes. No bytes at all are no headers.
pub(crate) fn read(map: &[u8]) -> Result<Vec<Header<'_>>, MalformedHeaderMap> {
    if map.is_empty() {
        return Ok(Vec::new());
    }
    let (count, rest) = take_u32(map)?;
    let sizes_length = count.checked_mul(8).ok_or(MalformedHeaderMap)?;
    let (mut sizes, mut text) = rest.split_at_checked(sizes_length).ok_or(MalformedHeaderMap)?;
    // The sizes are there, so `count` is bounded by the length of the map.
    let mut headers = Vec::with_capacity(count);
    for _ in 0..count {
        let (name_size, rest) = take_u32(sizes)?;
        let (value_size, rest) = take_u32(rest)?;
        sizes = rest;
        let (name, rest) = take_text(text, name_size)?;
        let (value, rest) = take_text(rest, value_size)?;
        text = rest;
        headers.push((name, value));
    }
    Ok(headers)
}

fn take_u32(bytes: &[u8]) -> Result<(usize, &[u8]), MalformedHeaderMap> {
    let (number, rest) = bytes.split_first_chunk().ok_or(MalformedHeaderMap)?;
    let number = usize::try_from(u32::from_le_bytes(*number)).map_err(|_| MalformedHeaderMap)?;
    Ok((number, rest))
}

/// So many bytes, and the 0x00 after them.
fn take_text(bytes: &[u8], size: usize) -> Result<(&[u8], &[u8]), MalformedHeaderMap> {
    let (text, rest) = bytes.split_at_checked(size).ok_or(MalformedHeaderMap)?;
    let (_, rest) = rest.split_first().ok_or(MalformedHeaderMap)?;
    Ok((text, rest))
}

/// The same format, of headers that we made: they are few and short, so their sizes fit u32.
pub(crate) fn write(headers: &[(&str, &str)]) -> Vec<u8> {
    let text: usize = headers.iter().map(|(name, value)| name.len() + value.len() + 2).sum();
    let mut map = Vec::with_capacity(4 + headers.len() * 8 + text);
    map.extend_from_slice(&(headers.len() as u32).to_le_bytes());
    for (name, value) in headers {
        map.extend_from_slice(&(name.len() as u32).to_le_bytes());
        map.extend_from_slice(&(value.len() as u32).to_le_bytes());
    }
    for part in headers.iter().flat_map(|(name, value)| [name, value]) {
        map.extend_from_slice(part.as_bytes());
        map.push(0);
    }
    map
}
