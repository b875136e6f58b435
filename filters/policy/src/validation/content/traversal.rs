//! Ways out of a folder.

/// Whether a segment of a path is `..`: between slashes or backslashes, one of which may be missing at an end. `..` within
/// words, as in `v1..v2`, `wait..` or `.../`, is none.
pub(super) fn is_in(view: &[u8]) -> bool {
    view.windows(2).enumerate().any(|(at, pair)| {
        pair == b".." && {
            let before = at.checked_sub(1).and_then(|before| view.get(before)).copied();
            let after = view.get(at + 2..).unwrap_or_default();
            is_segment(before, after)
        }
    })
}

fn is_segment(before: Option<u8>, after: &[u8]) -> bool {
    let begins = before.is_none_or(|byte| !is_of_name(byte));
    // Some servers drop what follows a semicolon from a segment.
    let ends = matches!(after, [b'/' | b'\\', ..] | [b';', b'/' | b'\\', ..]);
    let is_last = after.first().is_none_or(|byte| !is_of_name(*byte));
    (begins && ends) || (matches!(before, Some(b'/' | b'\\')) && is_last) || (before.is_none() && after.is_empty())
}

fn is_of_name(byte: u8) -> bool {
    byte.is_ascii_alphanumeric() || matches!(byte, b'.' | b'_' | b'-') || !byte.is_ascii()
}
