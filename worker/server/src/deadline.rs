//! `grpc-timeout`, as the gRPC protocol spells it.
//!
//! <https://github.com/grpc/grpc/blob/master/doc/PROTOCOL-HTTP2.md>: "Timeout → 'grpc-timeout' TimeoutValue TimeoutUnit;
//! TimeoutValue → {positive integer as ASCII string of at most 8 digits}; TimeoutUnit → Hour / Minute / Second /
//! Millisecond / Microsecond / Nanosecond: 'H' / 'M' / 'S' / 'm' / 'u' / 'n'".

use std::time::Duration;
use tonic::{Status, metadata::MetadataMap};

/// How long the caller waits; `None` for as long as it takes.
pub(crate) fn timeout(metadata: &MetadataMap) -> Result<Option<Duration>, Status> {
    let Some(value) = metadata.get("grpc-timeout") else {
        return Ok(None);
    };
    value.to_str().ok().and_then(parse).map(Some).ok_or_else(|| {
        Status::invalid_argument("grpc-timeout must be 1 to 8 digits and one of H, M, S, m, u, n, for example 250m")
    })
}

fn parse(text: &str) -> Option<Duration> {
    let unit = text.chars().last()?;
    let digits = text.strip_suffix(unit)?;
    if digits.is_empty() || digits.len() > 8 || !digits.bytes().all(|byte| byte.is_ascii_digit()) {
        return None;
    }
    let value: u64 = digits.parse().ok()?;
    Some(match unit {
        'H' => Duration::from_secs(value * 3600),
        'M' => Duration::from_secs(value * 60),
        'S' => Duration::from_secs(value),
        'm' => Duration::from_millis(value),
        'u' => Duration::from_micros(value),
        'n' => Duration::from_nanos(value),
        _ => return None,
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn timeouts_are_read_as_the_protocol_spells_them() {
        assert_eq!(parse("250m"), Some(Duration::from_millis(250)));
        assert_eq!(parse("99999999H"), Some(Duration::from_secs(99_999_999 * 3600)));
        assert_eq!(parse("1n"), Some(Duration::from_nanos(1)));
        for bad in ["", "m", "250", "250x", "-1m", "123456789m", "1.5S", "1é"] {
            assert_eq!(parse(bad), None, "{bad:?}");
        }
    }
}
