//! Regular expressions that a whole header value must match.
//!
//! Matched in time linear in the value (no backtracking, Thompson 1968), so no value can be crafted to stall a proxy; what
//! is left to bound is the size of the compiled expression, for it is the factor before the length of the value.

use std::fmt;

use regex_lite::{Regex, RegexBuilder};

use super::reader::Node;
use super::text::is_text;
use super::violation::Violations;

/// Longest expression, in bytes.
const MAX_PATTERN_BYTES: usize = 512;
/// Most memory for a compiled expression, in bytes, natively; in wasm, where pointers are shorter, the same expression takes
/// less. Enough for `[a-z0-9-]{1,128}` and for a list of fifty words; a repetition of a repetition soon exceeds it.
const MAX_COMPILED_BYTES: usize = 16 * 1024;
/// Deepest nesting of groups; the parser recurses.
const MAX_NESTING: u32 = 16;

/// A regular expression that compiles; it is for a whole value.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
pub struct Pattern(String);

is_text!(Pattern, r"^[ -~]{1,512}$");

impl Pattern {
    /// The expression.
    pub fn as_str(&self) -> &str {
        &self.0
    }

    /// Compiles it, anchored at both ends.
    ///
    /// # Errors
    /// None for a pattern that came out of a document: it was compiled there.
    pub fn compile(&self) -> Result<Regex, regex_lite::Error> {
        build(&format!("^(?:{})$", self.0))
    }

    pub(super) fn read(node: &Node<'_>, out: &mut Violations) -> Option<Self> {
        let text = node.string(out)?;
        if text.is_empty() || text.len() > MAX_PATTERN_BYTES || !text.bytes().all(|byte| matches!(byte, b' '..=b'~')) {
            let message = format!("must be 1 to {MAX_PATTERN_BYTES} printable ASCII characters");
            out.add(node.path(), message);
            return None;
        }
        let pattern = Self(text.to_owned());
        // By itself as well: `a)|(b` becomes an expression only between the anchors.
        match build(text).and_then(|_| pattern.compile()) {
            Ok(_) => Some(pattern),
            Err(error) => {
                out.add(
                    node.path(),
                    format!("is no regular expression that can be used: {error}{}", advice(&error)),
                );
                None
            }
        }
    }
}

/// What to do about an expression that is too large. The library tells its errors apart by their texts alone.
fn advice(error: &regex_lite::Error) -> &'static str {
    if error.to_string().contains("size limit") {
        "; repetitions of repetitions multiply, and `length` bounds a value at no cost"
    } else {
        ""
    }
}

fn build(text: &str) -> Result<Regex, regex_lite::Error> {
    RegexBuilder::new(text)
        .size_limit(MAX_COMPILED_BYTES)
        .nest_limit(MAX_NESTING)
        .build()
}

impl fmt::Display for Pattern {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.0)
    }
}
