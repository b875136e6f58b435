//! Which gRPC methods a rule is about.

use std::fmt;

use super::limits::MAX_METHOD_BYTES;
use super::reader::Node;
use super::text::is_text;
use super::violation::{Violations, quote};

/// One method, or all of a service.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
pub enum MethodPattern {
    /// The whole path: `/package.Service/Method`.
    Method(String),
    /// What the paths of the service begin with, `/package.Service/`; in documents with a `*` after it.
    Service(String),
}

is_text!(
    MethodPattern,
    r"^/[A-Za-z_][A-Za-z0-9_]*(\.[A-Za-z_][A-Za-z0-9_]*)*/([A-Za-z_][A-Za-z0-9_]*|\*)$"
);

impl MethodPattern {
    /// Whether a request's `:path` is meant.
    pub fn matches(&self, path: &[u8]) -> bool {
        match self {
            Self::Method(method) => path == method.as_bytes(),
            Self::Service(service) => path.starts_with(service.as_bytes()),
        }
    }

    pub(super) fn read(node: &Node<'_>, out: &mut Violations) -> Option<Self> {
        let text = node.string(out)?;
        let pattern = Self::parse(text);
        if pattern.is_none() {
            let message = format!(
                "{} is not a method: use /package.Service/Method, or /package.Service/* for all of a service",
                quote(text)
            );
            out.add(node.path(), message);
        }
        pattern
    }

    fn parse(text: &str) -> Option<Self> {
        if text.len() > MAX_METHOD_BYTES {
            return None;
        }
        let (service, method) = text.strip_prefix('/')?.split_once('/')?;
        if !service.split('.').all(is_identifier) {
            return None;
        }
        match method {
            "*" => Some(Self::Service(format!("/{service}/"))),
            method => is_identifier(method).then(|| Self::Method(text.to_owned())),
        }
    }
}

/// As protobuf's language has it (Protocol Buffers Language Specification, "Identifiers"); an underscore may begin one,
/// because generated services do so.
fn is_identifier(text: &str) -> bool {
    let mut bytes = text.bytes();
    bytes
        .next()
        .is_some_and(|first| first.is_ascii_alphabetic() || first == b'_')
        && bytes.all(|byte| byte.is_ascii_alphanumeric() || byte == b'_')
}

impl fmt::Display for MethodPattern {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Method(method) => f.write_str(method),
            Self::Service(service) => write!(f, "{service}*"),
        }
    }
}
