//! What a client is subscribed to, within one type.

use crate::snapshot::ResourceType;
use std::collections::BTreeSet;

/// The special name that subscribes to everything.
pub(crate) const WILDCARD: &str = "*";

/// How many names a client may be subscribed to within one type: far above any real mesh, and low enough that a broken
/// client cannot exhaust the control plane's memory.
pub const MAX_NAMES: usize = 100_000;

/// A request that cannot be served; the stream has to end.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
pub enum ProtocolError {
    /// The subscription would grow beyond [`MAX_NAMES`].
    #[error("subscribes to {names} names of {}, more than the {MAX_NAMES} that are served; subscribe to \"*\" instead", kind.url())]
    TooManyNames {
        /// The type subscribed to.
        kind: ResourceType,
        /// How many names it would be.
        names: usize,
    },
}

/// A subscription: names, the wildcard, or both.
#[derive(Debug, Default)]
pub(crate) struct Interest {
    wildcard: bool,
    names: BTreeSet<String>,
}

impl Interest {
    pub(crate) fn wildcard(&self) -> bool {
        self.wildcard
    }

    /// True if the wildcard is all there is.
    pub(crate) fn only_wildcard(&self) -> bool {
        self.wildcard && self.names.is_empty()
    }

    pub(crate) fn set_wildcard(&mut self, wildcard: bool) {
        self.wildcard = wildcard;
    }

    pub(crate) fn names(&self) -> &BTreeSet<String> {
        &self.names
    }

    pub(crate) fn insert(&mut self, name: String) {
        self.names.insert(name);
    }

    /// False for a name that was not subscribed to: a phantom.
    pub(crate) fn remove(&mut self, name: &str) -> bool {
        self.names.remove(name)
    }

    /// Whether a resource of that name, if it exists, is for this client.
    pub(crate) fn wants(&self, name: &str) -> bool {
        self.wildcard || self.names.contains(name)
    }

    /// Refuses growth beyond [`MAX_NAMES`].
    pub(crate) fn check_growth(&self, kind: ResourceType, added: usize) -> Result<(), ProtocolError> {
        let names = self.names.len().saturating_add(added);
        if added > 0 && names > MAX_NAMES {
            Err(ProtocolError::TooManyNames { kind, names })
        } else {
            Ok(())
        }
    }
}
