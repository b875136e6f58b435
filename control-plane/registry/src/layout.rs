//! Keys: one place that knows how they are spelled and how they are read back.

use std::fmt;

/// The prefix used when an operator names none.
pub const DEFAULT_PREFIX: &str = "/kilocard/v1";

/// Where everything stands under one prefix of etcd.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Layout {
    prefix: String,
}

/// A key under the prefix, taken apart.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum Key {
    /// `policies/<kind>/<name>`: a policy document, written by operators.
    Policy(PolicyId),
    /// `devices/gpu/<node>/<pci>`: a GPU, see [`crate::device::DeviceRecord`].
    Device(DeviceId),
    /// `workers/<id>`: a serving worker under its lease, see [`crate::worker::WorkerRecord`].
    Worker(String),
    /// `status/policies/<kind>/<name>`: the control plane's verdict on a policy.
    PolicyStatus(PolicyId),
}

/// Which policy: its kind and name.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct PolicyId {
    /// For example `RoutingPolicy`.
    pub kind: String,
    /// Unique within the kind.
    pub name: String,
}

impl PolicyId {
    /// A policy's id from its kind and name.
    pub fn new(kind: impl Into<String>, name: impl Into<String>) -> Self {
        Self {
            kind: kind.into(),
            name: name.into(),
        }
    }
}

impl fmt::Display for PolicyId {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}/{}", self.kind, self.name)
    }
}

/// Which GPU: the node it is in and its PCI address there (for example `0000:3b:00.0`).
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct DeviceId {
    /// Host name.
    pub node: String,
    /// PCI address.
    pub pci: String,
}

impl fmt::Display for DeviceId {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}/{}", self.node, self.pci)
    }
}

/// A prefix that cannot be used.
#[derive(Debug, thiserror::Error, PartialEq, Eq)]
#[error("etcd prefix {0:?} must start with '/' and not end with '/'")]
pub struct InvalidPrefix(String);

impl Layout {
    /// # Errors
    /// [`InvalidPrefix`] unless the prefix starts with a slash and ends without one.
    pub fn new(prefix: &str) -> Result<Self, InvalidPrefix> {
        if prefix.len() < 2 || !prefix.starts_with('/') || prefix.ends_with('/') {
            return Err(InvalidPrefix(prefix.to_owned()));
        }
        Ok(Self {
            prefix: prefix.to_owned(),
        })
    }

    /// Everything of ours, as a prefix to list and watch.
    pub fn root(&self) -> String {
        format!("{}/", self.prefix)
    }

    /// All policies, as a prefix.
    pub fn policies(&self) -> String {
        format!("{}/policies/", self.prefix)
    }

    /// All workers, as a prefix.
    pub fn workers(&self) -> String {
        format!("{}/workers/", self.prefix)
    }

    /// All GPUs, as a prefix.
    pub fn devices(&self) -> String {
        format!("{}/devices/gpu/", self.prefix)
    }

    /// All verdicts of the control plane, as a prefix.
    pub fn statuses(&self) -> String {
        format!("{}/status/", self.prefix)
    }

    /// The records of all changes to the policies, as a prefix. Outside [`Self::root`], so that nobody who watches the
    /// mesh has to read it.
    pub fn history(&self) -> String {
        format!("{}-history/", self.prefix)
    }

    /// The election of the control plane that does what must be done by one, as a prefix. Outside [`Self::root`] too.
    pub fn election(&self) -> String {
        format!("{}-election/control-plane", self.prefix)
    }

    /// The key of a record of changes: by time, so that keys read in order; `token` tells apart those of one millisecond.
    pub fn history_key(&self, unix_ms: u64, token: u32) -> String {
        format!("{}{unix_ms:013}-{token:08x}", self.history())
    }

    /// The key in full.
    pub fn key(&self, key: &Key) -> String {
        let prefix = &self.prefix;
        match key {
            Key::Policy(id) => format!("{prefix}/policies/{}/{}", id.kind, id.name),
            Key::Device(id) => format!("{prefix}/devices/gpu/{}/{}", id.node, id.pci),
            Key::Worker(id) => format!("{prefix}/workers/{id}"),
            Key::PolicyStatus(id) => format!("{prefix}/status/policies/{}/{}", id.kind, id.name),
        }
    }

    /// Takes a key apart; `None` for a key that is not of this layout.
    pub fn parse(&self, key: &[u8]) -> Option<Key> {
        let rest = std::str::from_utf8(key)
            .ok()?
            .strip_prefix(&self.prefix)?
            .strip_prefix('/')?;
        let parts: Vec<&str> = rest.split('/').collect();
        if parts.iter().any(|part| part.is_empty()) {
            return None;
        }
        match parts.as_slice() {
            ["policies", kind, name] => Some(Key::Policy(PolicyId::new(*kind, *name))),
            ["devices", "gpu", node, pci] => Some(Key::Device(DeviceId {
                node: (*node).to_owned(),
                pci: (*pci).to_owned(),
            })),
            ["workers", id] => Some(Key::Worker((*id).to_owned())),
            ["status", "policies", kind, name] => Some(Key::PolicyStatus(PolicyId::new(*kind, *name))),
            _ => None,
        }
    }
}

impl Default for Layout {
    fn default() -> Self {
        Self {
            prefix: DEFAULT_PREFIX.to_owned(),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_key_reads_back_as_itself() {
        let layout = Layout::new("/mesh/eu").unwrap();
        for key in [
            Key::Policy(PolicyId::new("RoutingPolicy", "minilm")),
            Key::Device(DeviceId {
                node: "n1".into(),
                pci: "0000:3b:00.0".into(),
            }),
            Key::Worker("w-1".into()),
            Key::PolicyStatus(PolicyId::new("RoutingPolicy", "minilm")),
        ] {
            assert_eq!(layout.parse(layout.key(&key).as_bytes()), Some(key));
        }
    }

    #[test]
    fn foreign_keys_are_not_ours() {
        let layout = Layout::default();
        for key in [
            "/kilocard/v10/workers/a",
            "/kilocard/v1/workers/",
            "/kilocard/v1/workers/a/b",
            "/kilocard/v1",
            "x",
        ] {
            assert_eq!(layout.parse(key.as_bytes()), None, "{key}");
        }
        assert_eq!(layout.parse(b"/kilocard/v1/workers/\xff"), None);
    }

    #[test]
    fn the_history_is_not_under_the_watched_root_and_sorts_by_time() {
        let layout = Layout::default();
        let key = layout.history_key(1_700_000_000_123, 0xab);
        assert_eq!(key, "/kilocard/v1-history/1700000000123-000000ab");
        assert!(!key.starts_with(&layout.root()));
        assert_eq!(layout.parse(key.as_bytes()), None);
        assert!(layout.history_key(999, 0) < key);
    }

    #[test]
    fn a_prefix_must_be_absolute_and_open_ended() {
        for prefix in ["", "/", "a", "/a/"] {
            assert!(Layout::new(prefix).is_err(), "{prefix:?}");
        }
    }
}
