//! Values of flags as people type them.

use std::time::Duration;

/// `name: value`, or for a pseudo-header `:name: value`. Optional white space around the value is no part of it
/// (RFC 9110, 5.5).
pub(super) fn parse_header(text: &str) -> Result<(String, String), String> {
    // A pseudo-header begins with the colon that separates others.
    let (head, rest) = if text.starts_with(':') {
        text.split_at(1)
    } else {
        ("", text)
    };
    let Some((name, value)) = rest.split_once(':') else {
        return Err("a header is written 'name: value'".to_owned());
    };
    let name = name.trim();
    if name.is_empty() {
        return Err("the header has no name; it is written 'name: value'".to_owned());
    }
    // A token (RFC 9110, 5.1 and 5.6.2); nothing else gets past an HTTP parser.
    let is_token = |byte: u8| byte.is_ascii_alphanumeric() || b"!#$%&'*+-.^_`|~".contains(&byte);
    if !name.bytes().all(is_token) {
        return Err(format!("{name:?} is not the name of a header"));
    }
    // HTTP/2 has lower-case names only (RFC 9113, 8.2.1), and so has everything behind Envoy.
    Ok((
        format!("{head}{}", name.to_ascii_lowercase()),
        value.trim_matches([' ', '\t']).to_owned(),
    ))
}

/// `10s`, `500ms`, `2m`; at most a day.
pub(super) fn parse_duration(text: &str) -> Result<Duration, String> {
    let wrong = || format!("{text:?} is not a time; write for example 10s, 500ms or 2m");
    let digits = text.find(|c: char| !c.is_ascii_digit()).ok_or_else(wrong)?;
    let (number, unit) = text.split_at(digits);
    let number: u64 = number.parse().map_err(|_| wrong())?;
    let milliseconds = match unit {
        "ms" => Some(number),
        "s" => number.checked_mul(1_000),
        "m" => number.checked_mul(60_000),
        _ => None,
    };
    milliseconds
        .filter(|ms| *ms <= 86_400_000)
        .map(Duration::from_millis)
        .ok_or_else(wrong)
}

/// The policy compares it; here it only has to be one at all, so that a slip is not taken for "in no group".
pub(super) fn parse_spiffe(text: &str) -> Result<String, String> {
    match text.strip_prefix("spiffe://") {
        Some(rest) if !rest.is_empty() && !rest.starts_with('/') => Ok(text.to_owned()),
        _ => Err("a SPIFFE ID is written spiffe://trust-domain/path".to_owned()),
    }
}

/// Longest author that a record of the history takes, in characters.
const MAX_AUTHOR: usize = 128;
/// Longest reason that a record of the history takes, in characters.
const MAX_REASON: usize = 1000;

pub(super) fn parse_author(text: &str) -> Result<String, String> {
    line("an author", text, MAX_AUTHOR)
}

pub(super) fn parse_reason(text: &str) -> Result<String, String> {
    line("a reason", text, MAX_REASON)
}

/// What is shown in a table's cell has to be one line.
fn line(what: &str, text: &str, longest: usize) -> Result<String, String> {
    let text = text.trim();
    let length = text.chars().count();
    if text.is_empty() {
        return Err(format!("{what} must not be empty; leave the flag out instead"));
    }
    if length > longest {
        return Err(format!(
            "{what} has at most {longest} characters, and this one has {length}"
        ));
    }
    if text.chars().any(char::is_control) {
        return Err(format!("{what} is one line without control characters"));
    }
    Ok(text.to_owned())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn headers_keep_inner_colons_and_lose_outer_space() {
        assert_eq!(
            parse_header("X-Model:  a b ").unwrap(),
            ("x-model".into(), "a b".into())
        );
        assert_eq!(parse_header("x-t: 10:30").unwrap(), ("x-t".into(), "10:30".into()));
        assert_eq!(
            parse_header(":authority: a:1").unwrap(),
            (":authority".into(), "a:1".into())
        );
        assert_eq!(parse_header("x-model:").unwrap(), ("x-model".into(), String::new()));
        for wrong in ["x-model", ": x", ":path", "", "x y: a", "x\u{1b}[2J: a", "ü: a"] {
            assert!(parse_header(wrong).is_err(), "{wrong:?}");
        }
    }

    #[test]
    fn times_need_a_unit_and_a_bound() {
        assert_eq!(parse_duration("10s"), Ok(Duration::from_secs(10)));
        assert_eq!(parse_duration("250ms"), Ok(Duration::from_millis(250)));
        assert_eq!(parse_duration("2m"), Ok(Duration::from_secs(120)));
        for wrong in ["", "10", "s", "-1s", "1.5s", "10h", "18446744073709551615s"] {
            assert!(parse_duration(wrong).is_err(), "{wrong}");
        }
    }

    #[test]
    fn a_caller_is_a_whole_spiffe_id() {
        assert!(parse_spiffe("spiffe://mesh.example/ns/ops/sa/ada").is_ok());
        for wrong in ["", "ada", "spiffe://", "spiffe:///ns", "https://mesh.example/ada"] {
            assert!(parse_spiffe(wrong).is_err(), "{wrong}");
        }
    }

    #[test]
    fn authors_and_reasons_are_one_short_line() {
        assert_eq!(parse_author(" ada@laptop "), Ok("ada@laptop".to_owned()));
        assert_eq!(
            parse_reason("v2 antwortet fälschlich"),
            Ok("v2 antwortet fälschlich".to_owned())
        );
        for wrong in ["", "  ", "a\nb", "\u{1b}[2J", &"a".repeat(1001)] {
            assert!(parse_reason(wrong).is_err(), "{wrong:?}");
        }
        assert!(parse_author(&"a".repeat(129)).is_err());
    }
}
