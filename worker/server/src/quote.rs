//! A caller's words in a message to the caller.
//!
//! Messages travel as the header `grpc-message`, and proxies end connections over headers that are too large: what a
//! caller made up is never repeated at length.

use std::fmt;

/// Characters of a text that are repeated: longer than any name that could be right.
const MAX_CHARS: usize = 64;
/// Dimensions of a shape that are repeated.
const MAX_DIMENSIONS: usize = 8;

/// In quotation marks and escaped, cut after 64 characters.
pub(crate) fn quote(text: &str) -> String {
    match text.char_indices().nth(MAX_CHARS) {
        Some((end, _)) => format!("{:?}… ({} bytes)", text.get(..end).unwrap_or_default(), text.len()),
        None => format!("{text:?}"),
    }
}

/// A shape as `[2, 3]`, cut after eight dimensions.
pub(crate) struct Shape<'a>(pub(crate) &'a [i64]);

impl fmt::Display for Shape<'_> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self.0.get(..MAX_DIMENSIONS) {
            Some(first) if self.0.len() > MAX_DIMENSIONS => {
                write!(f, "{first:?}… ({} dimensions)", self.0.len())
            }
            _ => write!(f, "{:?}", self.0),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_is_long_is_cut_and_measured() {
        assert_eq!(quote("a\n"), r#""a\n""#);
        assert_eq!(quote(&"é".repeat(64)), format!("\"{}\"", "é".repeat(64)));
        assert_eq!(quote(&"é".repeat(65)), format!("\"{}\"… (130 bytes)", "é".repeat(64)));
        assert_eq!(Shape(&[1, -2]).to_string(), "[1, -2]");
        assert_eq!(Shape(&[7; 9]).to_string(), "[7, 7, 7, 7, 7, 7, 7, 7]… (9 dimensions)");
    }
}
