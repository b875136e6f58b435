//! Which lines of a log hold a captured request.

use super::MAX_LINE_BYTES;
use kilocard_policy::capture::Captured;

/// What a line is.
#[derive(Debug)]
pub(super) enum Line {
    /// A captured request.
    Capture(Box<Captured>),
    /// Something else; a log holds many lines.
    Other,
    /// A line that should hold a captured request, and why it does not.
    Malformed(String),
}

/// Tells what a line is. A collector of logs may have put a prefix before the JSON.
pub(super) fn read(line: &[u8]) -> Line {
    if line.len() > MAX_LINE_BYTES {
        return Line::Malformed(format!("is longer than {MAX_LINE_BYTES} bytes"));
    }
    let Some(start) = line.iter().position(|byte| *byte == b'{') else {
        return Line::Other;
    };
    let json = line.get(start..).unwrap_or_default().trim_ascii_end();
    // Most lines of a log hold none, and are not worth being parsed.
    if !holds(json, b"\"capture\"") && !holds(json, b"\"headers\"") {
        return Line::Other;
    }
    match Captured::parse(json) {
        Ok(Some(captured)) => Line::Capture(Box::new(captured)),
        Ok(None) => Line::Other,
        Err(why) => Line::Malformed(why),
    }
}

fn holds(line: &[u8], needle: &[u8]) -> bool {
    line.windows(needle.len()).any(|window| window == needle)
}

#[cfg(test)]
mod tests {
    use super::*;
    use serde_json::json;

    #[test]
    fn captures_are_found_bare_and_in_access_logs_with_and_without_a_prefix() {
        let bare = json!({
            "v": 1, "stages": "validation+routing", "random": "0000000000000000", "headers": [["x-model", "m"]]})
        .to_string();
        let logged = json!({"status": 200, "capture": bare}).to_string();
        let prefixed = format!("2026-11-23T18:00:00Z stdout F {logged}\r");
        for line in [bare, logged, prefixed] {
            assert!(matches!(read(line.as_bytes()), Line::Capture(_)), "{line}");
        }
    }

    #[test]
    fn what_holds_no_capture_is_passed_over() {
        for line in [
            "",
            "[info] started",
            r#"{"status":200}"#,
            r#"{"capture":null}"#,
            r#"{"capture":"-"}"#,
            "{",
            "\u{fffd}",
        ] {
            assert!(matches!(read(line.as_bytes()), Line::Other), "{line}");
        }
    }

    #[test]
    fn a_capture_that_is_cut_or_garbled_is_malformed() {
        for line in [
            &br#"{"capture":"{\"v\":1"#[..],
            br#"{"capture":5}"#,
            b"{\"headers\": \xff}",
        ] {
            assert!(matches!(read(line), Line::Malformed(_)), "{line:?}");
        }
        assert!(matches!(read(&vec![b'x'; MAX_LINE_BYTES + 1]), Line::Malformed(_)));
    }
}
