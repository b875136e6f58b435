//! The last good state on disk, so that a control plane that starts while its source is away has something to serve.
//!
//! Owns: what is kept ([`Saved`]), how it is written and checked ([`format`]), in which files ([`folder`]) and when
//! ([`saver`]). Must not know: what the records mean; the ledger makes a [`Saved`] and reads it back.

pub mod folder;
pub mod format;
pub mod saver;

use crate::admission::Candidate;
use crate::model::inventory::Stored;
use crate::model::record;
use crate::source::hold::Gone;
use kilocard_registry::layout::PolicyId;
use serde::{Deserialize, Serialize};
use std::collections::BTreeMap;
use std::sync::Arc;
use std::time::{Duration, Instant, SystemTime};

/// The raw records at one revision, and what they alone do not tell.
#[derive(Clone, Debug, Default, PartialEq)]
pub struct Saved {
    /// Newest revision taken in.
    pub revision: i64,
    /// Everything that stood below the prefix.
    pub entries: BTreeMap<Vec<u8>, Stored>,
    /// The policies in force: the last good document where the newest one is bad.
    pub documents: BTreeMap<PolicyId, Candidate>,
    /// When the hold began, while there is one.
    pub held_since: Option<SystemTime>,
    /// The workers that are held.
    pub held: Vec<HeldRecord>,
}

/// A worker that is held: its record as it last stood.
#[derive(Clone, Debug, PartialEq)]
pub struct HeldRecord {
    /// The worker's id.
    pub id: String,
    /// Its record.
    pub record: Stored,
}

impl HeldRecord {
    /// What is kept of one that is held.
    pub fn of(gone: &Gone) -> Self {
        Self {
            id: gone.worker.id.clone(),
            record: gone.record.clone(),
        }
    }

    /// The worker again; `None` if this release cannot read its record.
    pub fn read(&self, at: Instant) -> Option<Gone> {
        let worker = record::worker(&self.id, &self.record.value, self.record.created).ok()?;
        Some(Gone {
            worker: Arc::new(worker),
            record: self.record.clone(),
            at,
        })
    }
}

/// Whose state it is, and as of when.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Label {
    /// Where it came from.
    pub origin: Origin,
    /// When the source last confirmed it, milliseconds since 1970.
    pub saved_unix_ms: u64,
}

/// A source, well enough described to tell it from another one.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Origin {
    /// etcd.
    Etcd {
        /// Its endpoints, as the flag gave them, without credentials.
        endpoints: Vec<String>,
        /// The prefix.
        prefix: String,
        /// Its cluster id; a cluster that was restored from a backup has another one.
        cluster: u64,
    },
    /// A folder.
    Folder {
        /// Its absolute path.
        path: String,
    },
}

impl Origin {
    /// Whether a state of `self` may be served for `wanted`, whose cluster is not known yet: for a folder the same one, for
    /// etcd the same prefix and at least one endpoint in common, since endpoints may be added and replaced.
    pub fn may_stand_for(&self, wanted: &Self) -> bool {
        match (self, wanted) {
            (
                Self::Etcd { endpoints, prefix, .. },
                Self::Etcd {
                    endpoints: wanted,
                    prefix: same,
                    ..
                },
            ) => prefix == same && endpoints.iter().any(|endpoint| wanted.contains(endpoint)),
            (Self::Folder { path }, Self::Folder { path: same }) => path == same,
            _ => false,
        }
    }

    /// `etcd` or `folder`.
    pub const fn kind(&self) -> &'static str {
        match self {
            Self::Etcd { .. } => "etcd",
            Self::Folder { .. } => "folder",
        }
    }

    /// What files of this source are called by, so that several meshes can keep their state in one folder.
    pub fn slug(&self) -> String {
        let kind = self.kind();
        let (Self::Etcd { prefix: text, .. } | Self::Folder { path: text }) = self;
        let readable = text.chars().map(|c| if c.is_ascii_alphanumeric() { c } else { '-' });
        let readable: String = readable.collect();
        let hash = xxhash_rust::xxh3::xxh3_64(text.as_bytes());
        format!("{kind}{}-{:08x}", tail(&readable), hash as u32)
    }
}

/// The end of a name: what tells paths apart, in a bounded length.
fn tail(name: &str) -> &str {
    let from = name.len().saturating_sub(40);
    name.get(from..).unwrap_or(name)
}

/// A state with its label.
#[derive(Clone, Debug, PartialEq)]
pub struct Labelled {
    /// Whose, and as of when.
    pub label: Label,
    /// The state.
    pub saved: Saved,
}

impl Labelled {
    /// When the source last confirmed it.
    pub fn saved_at(&self) -> SystemTime {
        from_unix_ms(self.label.saved_unix_ms)
    }
}

/// Milliseconds since 1970; 0 for a clock that is set before.
pub fn to_unix_ms(time: SystemTime) -> u64 {
    let since = time.duration_since(SystemTime::UNIX_EPOCH).unwrap_or_default();
    u64::try_from(since.as_millis()).unwrap_or(u64::MAX)
}

/// The reverse of [`to_unix_ms`]; a time beyond what the clock can show counts as 1970.
pub fn from_unix_ms(unix_ms: u64) -> SystemTime {
    let since = Duration::from_millis(unix_ms);
    SystemTime::UNIX_EPOCH
        .checked_add(since)
        .unwrap_or(SystemTime::UNIX_EPOCH)
}

#[cfg(test)]
pub(crate) mod tests {
    use super::*;

    /// A state with a little of everything, a value that is no text among it.
    pub(crate) fn labelled(revision: i64) -> Labelled {
        let stored = |value: &[u8]| Stored {
            created: 3,
            modified: revision,
            value: value.into(),
        };
        let id = PolicyId::new("RoutingPolicy", "m");
        let json = br#"{"kind": "RoutingPolicy"}"#.as_slice().into();
        Labelled {
            label: Label {
                origin: etcd(&["http://a:2379"]),
                saved_unix_ms: 1_790_000_000_000,
            },
            saved: Saved {
                revision,
                entries: BTreeMap::from([
                    (b"/kilocard/v1/workers/w".to_vec(), stored(b"{}")),
                    (b"/kilocard/v1/workers/x".to_vec(), stored(b"\xff\x00")),
                ]),
                documents: BTreeMap::from([(id, Candidate { revision: 2, json })]),
                held_since: Some(from_unix_ms(1_789_999_999_000)),
                held: vec![HeldRecord {
                    id: "h".into(),
                    record: stored(b"{}"),
                }],
            },
        }
    }

    pub(crate) fn etcd(endpoints: &[&str]) -> Origin {
        Origin::Etcd {
            endpoints: endpoints.iter().map(|&endpoint| endpoint.to_owned()).collect(),
            prefix: "/kilocard/v1".into(),
            cluster: 7,
        }
    }

    #[test]
    fn a_state_stands_for_its_own_source_only() {
        let ours = etcd(&["http://a:2379", "http://b:2379"]);
        assert!(ours.may_stand_for(&etcd(&["http://b:2379", "http://c:2379"])));
        assert!(!ours.may_stand_for(&etcd(&["http://c:2379"])));
        let folder = |path: &str| Origin::Folder { path: path.into() };
        assert!(folder("/a").may_stand_for(&folder("/a")) && !folder("/a").may_stand_for(&folder("/b")));
        assert!(!folder("/a").may_stand_for(&ours));
        assert_ne!(folder("/a/b").slug(), folder("/a-b").slug());
    }
}
