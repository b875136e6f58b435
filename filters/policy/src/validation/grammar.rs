//! The grammars of values, as predicates over bytes.

/// 0x00–0x1f and 0x7f. Tab too: gRPC's ASCII-Value is %x20–%x7e. No early exit, so that the compiler can vectorise it.
pub(super) fn has_control_bytes(value: &[u8]) -> bool {
    value
        .iter()
        .fold(false, |found, byte| found | (*byte < 0x20) | (*byte == 0x7f))
}

/// `application/grpc`, then nothing, `+subtype`, `;parameters`, or both.
pub(super) fn is_content_type(value: &[u8]) -> bool {
    let Some(rest) = value.strip_prefix(b"application/grpc") else {
        return false;
    };
    let Some(rest) = rest.strip_prefix(b"+") else {
        return matches!(rest, [] | [b';', ..]);
    };
    let subtype = rest.split(|byte| *byte == b';').next().unwrap_or_default();
    let is_token = |byte: &u8| byte.is_ascii_alphanumeric() || matches!(byte, b'-' | b'_' | b'.' | b'+');
    !subtype.is_empty() && subtype.iter().all(is_token)
}

/// `/package.Service/Method`; the package is optional, as the protocol allows.
pub(super) fn is_path(value: &[u8]) -> bool {
    let Some(rest) = value.strip_prefix(b"/") else {
        return false;
    };
    let mut parts = rest.split(|byte| *byte == b'/');
    let (Some(service), Some(method), None) = (parts.next(), parts.next(), parts.next()) else {
        return false;
    };
    is_identifier(method) && service.split(|byte| *byte == b'.').all(is_identifier)
}

/// A protobuf identifier: a letter or `_`, then letters, digits and `_`.
fn is_identifier(text: &[u8]) -> bool {
    text.first()
        .is_some_and(|byte| byte.is_ascii_alphabetic() || *byte == b'_')
        && text.iter().all(|byte| byte.is_ascii_alphanumeric() || *byte == b'_')
}

/// "TimeoutValue → {positive integer as ASCII string of at most 8 digits}", then one of H M S m u n. Zero passes: it is
/// what clients send whose deadline is over, and the server answers it best.
pub(super) fn is_timeout(value: &[u8]) -> bool {
    let Some((unit, digits)) = value.split_last() else {
        return false;
    };
    matches!(unit, b'H' | b'M' | b'S' | b'm' | b'u' | b'n')
        && (1..=8).contains(&digits.len())
        && digits.iter().all(u8::is_ascii_digit)
}

/// An integer from 0 to 100, at most three digits, no sign.
pub(super) fn percent(value: &[u8]) -> Option<u16> {
    if value.is_empty() || value.len() > 3 || !value.iter().all(u8::is_ascii_digit) {
        return None;
    }
    let percent = value.iter().fold(0, |sum, digit| sum * 10 + u16::from(digit - b'0'));
    (percent <= 100).then_some(percent)
}
