//! Who may connect as which node.
//!
//! A node id is what a proxy says of itself. Whether it is believed is decided here, once a stream, by its first request:
//! [`AllowAll`] on a network that is trusted, [`AllowNodes`] where the ids in use follow a pattern, or whatever an embedder
//! makes of the peer's address and the names in its certificate.

use envoy_types::pb::envoy::config::core::v3::Node;
use std::fmt;
use std::net::SocketAddr;
use std::str::FromStr;

/// Who is at the other end, as far as the transport knows.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Peer {
    /// Where it connected from; `None` for a transport without addresses.
    pub address: Option<SocketAddr>,
    /// Subject alternative names of its certificate; empty without TLS.
    pub names: Vec<String>,
}

/// Why a node is turned away, for the log and for the proxy.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[error("node {node:?} is not allowed here: {reason}")]
pub struct Denied {
    /// What it calls itself.
    pub node: String,
    /// Why.
    pub reason: String,
}

/// Decides who may connect.
pub trait Authorise: fmt::Debug + Send + Sync {
    /// Judges what a stream's first request says of its sender: id, cluster, locality, metadata.
    ///
    /// # Errors
    /// [`Denied`] ends the stream with `PERMISSION_DENIED`.
    fn authorise(&self, node: &Node, peer: &Peer) -> Result<(), Denied>;
}

/// Believes everyone.
#[derive(Clone, Copy, Debug, Default)]
pub struct AllowAll;

impl Authorise for AllowAll {
    fn authorise(&self, _: &Node, _: &Peer) -> Result<(), Denied> {
        Ok(())
    }
}

/// Lets in the nodes whose id matches one of the patterns.
#[derive(Clone, Debug)]
pub struct AllowNodes(pub Vec<NodePattern>);

impl Authorise for AllowNodes {
    fn authorise(&self, node: &Node, _: &Peer) -> Result<(), Denied> {
        if self.0.iter().any(|pattern| pattern.matches(&node.id)) {
            return Ok(());
        }
        Err(Denied {
            node: node.id.clone(),
            reason: "its id matches no pattern of --allow-nodes".to_owned(),
        })
    }
}

/// A pattern for node ids: `*` stands for any characters, `?` for one, everything else for itself.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct NodePattern(String);

/// A pattern that cannot be meant.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum InvalidPattern {
    /// Nothing matches it.
    #[error("an empty pattern matches no node; leave --allow-nodes out to let everyone in")]
    Empty,
    /// No node id can be so long.
    #[error("a pattern of {0} characters; 256 at most")]
    Long(usize),
}

impl FromStr for NodePattern {
    type Err = InvalidPattern;

    fn from_str(text: &str) -> Result<Self, InvalidPattern> {
        match text.chars().count() {
            0 => Err(InvalidPattern::Empty),
            length @ 257.. => Err(InvalidPattern::Long(length)),
            _ => Ok(Self(text.to_owned())),
        }
    }
}

impl fmt::Display for NodePattern {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.0)
    }
}

impl NodePattern {
    /// Whether the whole id matches. Linear in the id's length times the pattern's, whatever either is.
    pub fn matches(&self, id: &str) -> bool {
        let id: Vec<char> = id.chars().collect();
        // reached[n]: the pattern so far matches the first n characters of the id.
        let mut reached = vec![false; id.len() + 1];
        if let Some(start) = reached.first_mut() {
            *start = true;
        }
        for pattern in self.0.chars() {
            reached = step(&reached, pattern, &id);
        }
        reached.last().copied().unwrap_or(false)
    }
}

fn step(reached: &[bool], pattern: char, id: &[char]) -> Vec<bool> {
    if pattern == '*' {
        let mut any = false;
        return reached
            .iter()
            .map(|here| {
                any |= *here;
                any
            })
            .collect();
    }
    let taken = reached
        .iter()
        .zip(id)
        .map(|(before, c)| *before && (pattern == '?' || pattern == *c));
    std::iter::once(false).chain(taken).collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_pattern_matches_the_whole_id() {
        let matches = |pattern: &str, id: &str| pattern.parse::<NodePattern>().unwrap().matches(id);
        for (pattern, id) in [
            ("gateway-*", "gateway-1"),
            ("gateway-*", "gateway-"),
            ("*", ""),
            ("*", "x"),
            ("a?c", "abc"),
            ("*-eu-*-?", "gw-eu-west-7"),
            ("exact", "exact"),
            ("ü*", "übel"),
        ] {
            assert!(matches(pattern, id), "{pattern} {id}");
        }
        for (pattern, id) in [
            ("gateway-*", "my-gateway-1"),
            ("a?c", "ac"),
            ("exact", "exactly"),
            ("exact", "Exact"),
            ("*-x", "x"),
        ] {
            assert!(!matches(pattern, id), "{pattern} {id}");
        }
        assert!(matches(&"*a".repeat(100), &"a".repeat(4000)), "linear");
    }

    #[test]
    fn patterns_that_cannot_be_meant_are_refused() {
        assert!("".parse::<NodePattern>().unwrap_err().to_string().contains("leave"));
        assert!("x".repeat(257).parse::<NodePattern>().is_err());
    }

    #[test]
    fn who_matches_nothing_is_told_why() {
        let allow = AllowNodes(vec!["a-*".parse().unwrap(), "b".parse().unwrap()]);
        let node = |id: &str| Node {
            id: id.to_owned(),
            ..Node::default()
        };
        assert_eq!(allow.authorise(&node("a-1"), &Peer::default()), Ok(()));
        let denied = allow.authorise(&node("c"), &Peer::default()).unwrap_err();
        assert!(denied.to_string().contains("--allow-nodes"), "{denied}");
    }
}
