//! Percent-decoding, as lenient as the laxest server behind.

/// The value with every `%41` and `%u0041` replaced by its byte; `None` if there is none. What is not a valid escape stays
/// as it is. Overlong UTF-8 of an ASCII character (`%c0%ae`) becomes that character.
pub(super) fn percent_decode(value: &[u8]) -> Option<Vec<u8>> {
    let first = value.iter().position(|byte| *byte == b'%')?;
    let (plain, mut rest) = value.split_at_checked(first)?;
    let mut decoded = Vec::with_capacity(value.len());
    decoded.extend_from_slice(plain);
    let mut changed = false;
    while let Some((byte, after)) = rest.split_first() {
        if let Some((byte, after)) = escape(rest) {
            push(&mut decoded, byte);
            changed = true;
            rest = after;
        } else {
            decoded.push(*byte);
            rest = after;
        }
    }
    changed.then_some(decoded)
}

/// The byte that an escape at the beginning of `text` stands for, and what comes after it.
fn escape(text: &[u8]) -> Option<(u8, &[u8])> {
    match text {
        [b'%', b'u' | b'U', b'0', b'0', high, low, after @ ..] | [b'%', high, low, after @ ..] => {
            Some((digit(*high)? << 4 | digit(*low)?, after))
        }
        _ => None,
    }
}

fn digit(byte: u8) -> Option<u8> {
    // A hexadecimal digit is below 16.
    char::from(byte).to_digit(16).map(|digit| digit as u8)
}

fn push(decoded: &mut Vec<u8>, byte: u8) {
    match (decoded.last_mut(), byte) {
        // 0xc0 and 0xc1 begin nothing in UTF-8 but two bytes for what one byte says.
        (Some(lead @ 0xc0..=0xc1), 0x80..=0xbf) => *lead = (*lead & 1) << 6 | byte & 0x3f,
        _ => decoded.push(byte),
    }
}
