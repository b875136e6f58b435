//! The grammars of names and texts in documents.

use std::ops::RangeInclusive;

use super::reader::Node;
use super::violation::{Violations, quote};

/// Whether a text is a name: `[a-z0-9][a-z0-9._-]{0,62}`.
///
/// The one grammar for documents, models and versions, wherever they are declared: in documents, in the records of
/// workers and in their repositories. A version that a policy could name and no worker could serve would swallow its share
/// of the traffic. Lower case only: names become etcd keys, folders, cluster names and metric labels, some of which do not
/// tell cases apart.
pub fn is_name(text: &str) -> bool {
    let is_alphanumeric = |byte: &u8| byte.is_ascii_lowercase() || byte.is_ascii_digit();
    text.len() <= 63
        && text.as_bytes().first().is_some_and(is_alphanumeric)
        && text
            .as_bytes()
            .iter()
            .all(|byte| is_alphanumeric(byte) || matches!(byte, b'.' | b'_' | b'-'))
}

/// A string that [`is_name`].
pub(super) fn name(node: &Node<'_>, out: &mut Violations) -> Option<String> {
    let text = node.string(out)?;
    if !is_name(text) {
        let grammar = "1 to 63 lower-case letters, digits, `.`, `_` or `-`, and begin with a letter or a digit";
        out.add(node.path(), format!("{} is not a name: use {grammar}", quote(text)));
        return None;
    }
    Some(text.to_owned())
}

/// Text without control characters, of so many bytes.
pub(super) fn text(node: &Node<'_>, bytes: RangeInclusive<usize>, out: &mut Violations) -> Option<String> {
    let text = node.string(out)?;
    if !bytes.contains(&text.len()) || text.chars().any(char::is_control) {
        let (min, max) = bytes.into_inner();
        out.add(
            node.path(),
            format!("must be {min} to {max} bytes without control characters"),
        );
        return None;
    }
    Some(text.to_owned())
}
