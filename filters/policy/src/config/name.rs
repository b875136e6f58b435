//! The grammars of names in documents.

use std::ops::RangeInclusive;

use super::reader::Node;
use super::violation::{Violations, quote};
use crate::headers::is_name_value;

/// `[a-z0-9][a-z0-9._-]{0,62}`: names of documents and models. Lower case only: they become etcd keys, cluster names
/// and metric labels, some of which do not tell cases apart.
pub(super) fn lower_case_name(node: &Node<'_>, out: &mut Violations) -> Option<String> {
    let text = node.string(out)?;
    let well_formed = text.len() <= 63
        && text
            .bytes()
            .next()
            .is_some_and(|b| b.is_ascii_lowercase() || b.is_ascii_digit())
        && text
            .bytes()
            .all(|b| b.is_ascii_lowercase() || b.is_ascii_digit() || matches!(b, b'.' | b'_' | b'-'));
    if !well_formed {
        let grammar = "1 to 63 lower-case letters, digits, `.`, `_` or `-`, and begin with a letter or a digit";
        out.add(node.path(), format!("{} is not a name: use {grammar}", quote(text)));
        return None;
    }
    Some(text.to_owned())
}

/// What `x-model-version` may hold, so that every version in a document can be pinned.
pub(super) fn version(node: &Node<'_>, out: &mut Violations) -> Option<String> {
    let text = node.string(out)?;
    if !is_name_value(text.as_bytes()) {
        let grammar = "1 to 64 letters, digits, `.`, `_` or `-`, and begin with a letter or a digit";
        out.add(node.path(), format!("{} is not a version: use {grammar}", quote(text)));
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
