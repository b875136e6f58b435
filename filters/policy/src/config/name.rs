//! The grammars of names and texts in documents.

use std::ops::RangeInclusive;

use super::limits::{MAX_HEADER_NAME_BYTES, MAX_LISTED_VALUE_BYTES};
use super::reader::Node;
use super::violation::{Violations, quote};
use crate::headers;

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

/// Whether a text is a version of a model: a [name](is_name) whose parts between `.`, `_` and `-` are not empty,
/// `[a-z0-9]+([._-][a-z0-9]+)*`. So `v2`, `2026.11` and `v2-rc.1`, but neither `v2-` nor `1..2`, which are more likely slips
/// than versions.
pub fn is_version(text: &str) -> bool {
    is_name(text) && text.split(['.', '_', '-']).all(|part| !part.is_empty())
}

/// A string that [`is_version`].
pub(super) fn version(node: &Node<'_>, out: &mut Violations) -> Option<String> {
    let text = node.string(out)?;
    if !is_version(text) {
        let grammar = "1 to 63 lower-case letters and digits, with single `.`, `_` or `-` between them";
        out.add(node.path(), format!("{} is not a version: use {grammar}", quote(text)));
        return None;
    }
    Some(text.to_owned())
}

/// A header that a rule may be about: lower case as in HTTP/2, or `:path` or `:authority`; none that only the mesh sets.
pub(super) fn header(node: &Node<'_>, out: &mut Violations) -> Option<String> {
    let text = node.string(out)?;
    let is_token = |byte: u8| byte.is_ascii_lowercase() || byte.is_ascii_digit() || matches!(byte, b'-' | b'_' | b'.');
    let is_pseudo = matches!(text, headers::PATH | headers::AUTHORITY);
    if !is_pseudo && (text.is_empty() || text.len() > MAX_HEADER_NAME_BYTES || !text.bytes().all(is_token)) {
        let grammar = format!(
            "1 to {MAX_HEADER_NAME_BYTES} lower-case letters, digits, `-`, `_` or `.`; or `:path` or `:authority`"
        );
        out.add(node.path(), format!("{} is not a header: use {grammar}", quote(text)));
        return None;
    }
    if headers::is_internal(text.as_bytes()) {
        let message = "is a header that only the mesh sets: from clients it is removed, so nothing can depend on it";
        out.add(node.path(), format!("{} {message}", quote(text)));
        return None;
    }
    Some(text.to_owned())
}

/// A tenant, as `x-tenant-id` may name it.
pub(super) fn tenant(node: &Node<'_>, out: &mut Violations) -> Option<String> {
    let text = node.string(out)?;
    let max = headers::MAX_USER_ID_BYTES;
    if text.is_empty() || text.len() > max || !text.bytes().all(headers::is_user_id_byte) {
        let grammar = format!("1 to {max} letters, digits and . _ @ : + / = -");
        out.add(node.path(), format!("{} is not a tenant: use {grammar}", quote(text)));
        return None;
    }
    Some(text.to_owned())
}

/// A value that a header can have: printable ASCII.
pub(super) fn header_value(node: &Node<'_>, out: &mut Violations) -> Option<String> {
    let text = node.string(out)?;
    if text.len() > MAX_LISTED_VALUE_BYTES || !text.bytes().all(|byte| matches!(byte, 0x20..=0x7e)) {
        let message = format!("must be 0 to {MAX_LISTED_VALUE_BYTES} printable ASCII characters");
        out.add(node.path(), message);
        return None;
    }
    Some(text.to_owned())
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
