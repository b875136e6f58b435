//! The grammars of names and values, as predicates over bytes.

/// gRPC over HTTP/2, "Header-Name → 1*( %x30-39 / %x61-7A / "_" / "-" / ".")"; of pseudo-headers those of HTTP/2
/// (RFC 9113, section 8.3.1; RFC 8441, section 4).
pub(super) fn is_header_name(name: &[u8]) -> bool {
    match name.strip_prefix(b":") {
        Some(pseudo) => matches!(pseudo, b"method" | b"scheme" | b"path" | b"authority" | b"protocol"),
        None => {
            !name.is_empty()
                && all(
                    name,
                    |byte| matches!(byte, b'a'..=b'z' | b'0'..=b'9' | b'_' | b'-' | b'.'),
                )
        }
    }
}

/// Whether a byte is outside of 0x20–0x7e, gRPC's "ASCII-Value".
pub(super) fn is_ascii_value(value: &[u8]) -> bool {
    all(value, |byte| matches!(byte, 0x20..=0x7e))
}

/// 0x00–0x1f and 0x7f. Tab too: gRPC's ASCII-Value is %x20–%x7e.
pub(super) fn has_control_bytes(value: &[u8]) -> bool {
    !all(value, |byte| byte >= 0x20 && byte != 0x7f)
}

/// Without an early exit, so that the compiler can vectorise it.
fn all(bytes: &[u8], holds: impl Fn(u8) -> bool) -> bool {
    bytes.iter().fold(true, |all, byte| all & holds(*byte))
}

/// gRPC over HTTP/2, "Reserved-Header": names that begin with `grpc-` are gRPC's; these are the ones that a request has.
pub(super) fn is_reserved(name: &[u8]) -> bool {
    name.strip_prefix(b"grpc-").is_some_and(|rest| {
        !matches!(
            rest,
            b"timeout"
                | b"encoding"
                | b"accept-encoding"
                | b"message-type"
                | b"previous-rpc-attempts"
                | b"trace-bin"
                | b"tags-bin"
        )
    })
}

/// The value of a `-bin` header: base64 of the standard alphabet, with or without padding ("Implementations MUST accept
/// padded and un-padded values"), or several of these with commas between.
pub(crate) fn is_binary_value(value: &[u8]) -> bool {
    value
        .split(|byte| *byte == b',')
        .all(|part| is_base64(part.trim_ascii()))
}

fn is_base64(text: &[u8]) -> bool {
    let (digits, is_padded) = match text {
        [digits @ .., b'=', b'='] | [digits @ .., b'='] => (digits, true),
        digits => (digits, false),
    };
    // A single digit over is six bits, of which no byte can be made.
    let fits = if is_padded {
        text.len().is_multiple_of(4)
    } else {
        digits.len() % 4 != 1
    };
    fits && all(digits, |byte| {
        byte.is_ascii_alphanumeric() || matches!(byte, b'+' | b'/')
    })
}

/// `application/grpc`, or of gRPC-Web `application/grpc-web` or `application/grpc-web-text`; then nothing, `+subtype`,
/// `;parameters`, or both.
pub(super) fn is_content_type(value: &[u8]) -> bool {
    let Some(rest) = value.strip_prefix(b"application/grpc") else {
        return false;
    };
    let rest = match rest.strip_prefix(b"-web") {
        Some(rest) => rest.strip_prefix(b"-text").unwrap_or(rest),
        None => rest,
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

/// "Content-Coding → "identity" / "gzip" / "deflate" / "snappy" / {custom}": a name like that.
pub(super) fn is_encoding(value: &[u8]) -> bool {
    (1..=64).contains(&value.len())
        && all(
            value,
            |byte| matches!(byte, b'a'..=b'z' | b'0'..=b'9' | b'_' | b'-' | b'.'),
        )
}

/// "Content-Coding *("," Content-Coding)", with blanks around the commas, as clients write them.
pub(super) fn is_encoding_list(value: &[u8]) -> bool {
    value
        .split(|byte| *byte == b',')
        .all(|part| is_encoding(part.trim_ascii()))
}

/// An integer from 0 to 100, at most three digits, no sign.
pub(super) fn percent(value: &[u8]) -> Option<u16> {
    if value.is_empty() || value.len() > 3 || !value.iter().all(u8::is_ascii_digit) {
        return None;
    }
    let percent = value.iter().fold(0, |sum, digit| sum * 10 + u16::from(digit - b'0'));
    (percent <= 100).then_some(percent)
}

/// `gpu0` to `gpu9999` or `any`, and `:high`, `:medium`, `:low` or nothing.
pub(super) fn is_gpu_affinity(value: &[u8]) -> bool {
    let mut parts = value.splitn(2, |byte| *byte == b':');
    let device = parts.next().unwrap_or_default();
    let is_device = device == b"any"
        || device.strip_prefix(b"gpu").is_some_and(|number| {
            (1..=4).contains(&number.len())
                && number.iter().all(u8::is_ascii_digit)
                // One card has one name.
                && (number == b"0" || !number.starts_with(b"0"))
        });
    is_device && matches!(parts.next(), None | Some(b"high" | b"medium" | b"low"))
}

/// 8 to 64 letters, digits and `-`: UUIDs, and the ids of the usual tracers.
pub(super) fn is_trace_id(value: &[u8]) -> bool {
    (8..=64).contains(&value.len()) && all(value, |byte| byte.is_ascii_alphanumeric() || byte == b'-')
}

/// W3C Trace Context, level 2, section 3.2: `version-traceid-parentid-flags` in lower-case hexadecimal. Version ff and ids
/// of zeros are invalid; versions after 00 may go on after another `-`.
pub(super) fn is_traceparent(value: &[u8]) -> bool {
    const LENGTH: usize = 55;
    let (base, more) = value.split_at_checked(LENGTH).unwrap_or((value, &[]));
    let mut parts = base.split(|byte| *byte == b'-');
    let (Some(version), Some(trace), Some(parent), Some(flags), None) =
        (parts.next(), parts.next(), parts.next(), parts.next(), parts.next())
    else {
        return false;
    };
    let is_hex =
        |part: &[u8], length| part.len() == length && all(part, |byte| matches!(byte, b'0'..=b'9' | b'a'..=b'f'));
    let is_id = |part: &[u8], length| is_hex(part, length) && part.iter().any(|byte| *byte != b'0');
    let ends = more.is_empty() || (version != b"00" && more.starts_with(b"-"));
    is_hex(version, 2) && version != b"ff" && is_id(trace, 32) && is_id(parent, 16) && is_hex(flags, 2) && ends
}

/// `P0`, `P1` or `P2`.
pub(super) fn is_priority(value: &[u8]) -> bool {
    matches!(value, b"P0" | b"P1" | b"P2")
}

/// A decimal number: an optional `-`, digits, and an optional fraction. Neither exponents nor words like `NaN`.
pub(crate) fn decimal(value: &[u8]) -> Option<f64> {
    const LONGEST: usize = 40;
    let digits = value.strip_prefix(b"-").unwrap_or(value);
    let mut parts = digits.splitn(2, |byte| *byte == b'.');
    let are_digits = |part: &[u8]| !part.is_empty() && part.iter().all(u8::is_ascii_digit);
    let is_decimal =
        value.len() <= LONGEST && parts.next().is_some_and(are_digits) && parts.next().is_none_or(are_digits);
    if !is_decimal {
        return None;
    }
    std::str::from_utf8(value).ok()?.parse().ok()
}
