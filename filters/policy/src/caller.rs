//! Who may do what only some callers may.
//!
//! A caller is in a group by the SPIFFE ID that its certificate proves, or by the address of the direct peer. Identities
//! are compared whole or by segments of their path, never as beginnings of text.

use std::cell::OnceCell;
use std::collections::HashMap;
use std::net::IpAddr;
use std::sync::Arc;

use crate::config::{ANYONE, CallerGroup};
use crate::request::Peer;

#[cfg(test)]
mod tests;

/// All groups that a mesh declares, by name.
#[derive(Clone, Debug, Default)]
pub(crate) struct CallerGroups(HashMap<String, Arc<CallerGroup>>);

impl CallerGroups {
    pub(crate) fn new<'g>(groups: impl IntoIterator<Item = &'g CallerGroup>) -> Self {
        let by_name = |group: &CallerGroup| (group.name.clone(), Arc::new(group.clone()));
        Self(groups.into_iter().map(by_name).collect())
    }

    /// The groups of these names. One that is not declared has nobody in it; compiling has refused it before.
    pub(crate) fn named(&self, names: &[String]) -> Callers {
        if names.iter().any(|name| name == ANYONE) {
            return Callers::Anyone;
        }
        Callers::Groups(names.iter().filter_map(|name| self.0.get(name)).cloned().collect())
    }
}

/// Those whom a rule admits.
#[derive(Clone, Debug)]
pub(crate) enum Callers {
    Anyone,
    Groups(Vec<Arc<CallerGroup>>),
}

impl Callers {
    /// Whether this caller is one of them.
    pub(crate) fn admit(&self, caller: &Caller<'_>) -> bool {
        match self {
            Self::Anyone => true,
            Self::Groups(groups) => groups.iter().any(|group| caller.is_in(group)),
        }
    }
}

/// The peer of one request, asked at most once for its identity and once for its address.
pub(crate) struct Caller<'a> {
    peer: &'a dyn Peer,
    identity: OnceCell<Option<String>>,
    address: OnceCell<Option<IpAddr>>,
}

impl<'a> Caller<'a> {
    pub(crate) fn new(peer: &'a dyn Peer) -> Self {
        Self {
            peer,
            identity: OnceCell::new(),
            address: OnceCell::new(),
        }
    }

    fn is_in(&self, group: &CallerGroup) -> bool {
        let by_identity = || {
            self.identity()
                .is_some_and(|identity| group.spiffe.iter().any(|pattern| pattern.matches(identity)))
        };
        let by_address = || {
            self.address()
                .is_some_and(|address| group.addresses.iter().any(|block| block.contains(address)))
        };
        (!group.spiffe.is_empty() && by_identity()) || (!group.addresses.is_empty() && by_address())
    }

    /// "An X.509 SVID MUST contain exactly one URI SAN", and one with more must be rejected (X509-SVID, section 2).
    fn identity(&self) -> Option<&str> {
        let ask = || {
            let mut uris = self.peer.uri_sans();
            if uris.len() == 1 { uris.pop() } else { None }
        };
        self.identity.get_or_init(ask).as_deref()
    }

    fn address(&self) -> Option<IpAddr> {
        *self.address.get_or_init(|| self.peer.address())
    }
}
