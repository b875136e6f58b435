//! Identities of callers.

use std::fmt;

use crate::config::limits::MAX_SPIFFE_BYTES;
use crate::config::reader::Node;
use crate::config::text::is_text;
use crate::config::violation::{Violations, quote};

const SCHEME: &str = "spiffe://";

/// One SPIFFE ID, or all below a path. Compared segment by segment: `…/ns/ops/*` has `…/ns/ops/sa/ada` in it, and neither
/// `…/ns/ops` nor `…/ns/ops-x/sa/eve`.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
pub struct SpiffePattern {
    /// Without the `*` at its end.
    text: String,
    below: bool,
}

is_text!(SpiffePattern, r"^spiffe://[a-z0-9._-]{1,255}(/[A-Za-z0-9._-]+)*(/\*)?$");

impl SpiffePattern {
    /// Whether this URI, of a certificate's subject alternative names, is meant. What is not a SPIFFE ID never is.
    pub fn matches(&self, uri: &str) -> bool {
        if !self.below {
            return uri == self.text;
        }
        uri.starts_with(&self.text) && is_id(uri)
    }

    pub(super) fn read(node: &Node<'_>, out: &mut Violations) -> Option<Self> {
        let text = node.string(out)?;
        let (id, below) = match text.strip_suffix("/*") {
            Some(id) => (id, true),
            None => (text, false),
        };
        if !is_id(id) {
            let message = format!(
                "{} is not a SPIFFE ID: use spiffe://trust-domain/path, or end it with /* for all below",
                quote(text)
            );
            out.add(node.path(), message);
            return None;
        }
        let text = if below { format!("{id}/") } else { id.to_owned() };
        Some(Self { text, below })
    }
}

/// SPIFFE-ID, section 2: a trust domain and a path whose segments are not empty, `.` or `..`.
fn is_id(uri: &str) -> bool {
    let Some(rest) = uri.strip_prefix(SCHEME) else {
        return false;
    };
    let mut parts = rest.split('/');
    let domain = parts.next().unwrap_or_default();
    let in_domain = |byte: u8| byte.is_ascii_lowercase() || byte.is_ascii_digit() || matches!(byte, b'.' | b'_' | b'-');
    let in_segment = |byte: u8| byte.is_ascii_alphanumeric() || matches!(byte, b'.' | b'_' | b'-');
    uri.len() <= MAX_SPIFFE_BYTES
        && (1..=255).contains(&domain.len())
        && domain.bytes().all(in_domain)
        && parts.all(|part| !matches!(part, "" | "." | "..") && part.bytes().all(in_segment))
}

impl fmt::Display for SpiffePattern {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let star = if self.below { "*" } else { "" };
        write!(f, "{}{star}", self.text)
    }
}
