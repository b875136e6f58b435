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
    /// The client says that it holds more than it could be subscribed to.
    #[error("brings versions of {names} resources of {}, more than the {MAX_NAMES} that are served", kind.url())]
    TooManyVersions {
        /// The type.
        kind: ResourceType,
        /// How many there are.
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

    /// Refuses growth beyond [`MAX_NAMES`]. A name that is subscribed to already is no growth.
    pub(crate) fn check_growth<'a>(
        &self,
        kind: ResourceType,
        added: impl ExactSizeIterator<Item = &'a String>,
    ) -> Result<(), ProtocolError> {
        if self.names.len().saturating_add(added.len()) <= MAX_NAMES {
            return Ok(());
        }
        let new: BTreeSet<&String> = added.filter(|name| !self.names.contains(*name)).collect();
        let names = self.names.len().saturating_add(new.len());
        if new.is_empty() || names <= MAX_NAMES {
            Ok(())
        } else {
            Err(ProtocolError::TooManyNames { kind, names })
        }
    }
}
