//! One file: a line that names the format and the checksum, and the state as JSON. Pure.
//!
//! ```text
//! kilocard-state 1 <xxh3-128 of the rest, 32 hex digits> <its length in bytes>\n
//! {"label": …, "revision": …, "entries": […], "documents": […], "held": …}
//! ```
//! JSON, so that an operator can read it when all else is gone (`tail -n +2 FILE | jq`).

use crate::admission::Candidate;
use crate::model::inventory::Stored;
use crate::saved::{HeldRecord, Label, Labelled, Saved, from_unix_ms, to_unix_ms};
use base64::Engine;
use base64::engine::general_purpose::STANDARD;
use kilocard_registry::layout::PolicyId;
use serde::{Deserialize, Serialize};

/// The version of the format that this release writes, and the only one it reads.
pub const VERSION: u32 = 1;
const MAGIC: &str = "kilocard-state";

/// Why a file cannot be used.
#[derive(Debug, thiserror::Error)]
pub enum Unusable {
    /// Not even the first line is right.
    #[error(
        "does not begin with \"{MAGIC} VERSION CHECKSUM LENGTH\": it is not a state file, or its beginning is lost"
    )]
    Header,
    /// Written by another release.
    #[error(
        "has format version {found}; this release reads version {VERSION}: start the release that wrote it, or wait for the source"
    )]
    Version {
        /// As it says.
        found: u32,
    },
    /// Cut off.
    #[error("is cut off: {found} of {expected} bytes are there")]
    Truncated {
        /// Bytes that the first line promises.
        expected: usize,
        /// Bytes that there are.
        found: usize,
    },
    /// Changed after it was written.
    #[error("is corrupt: its checksum is {found}, and should be {expected}")]
    Checksum {
        /// As the first line says.
        expected: String,
        /// Of what is there.
        found: String,
    },
    /// Right by its checksum, and still not a state.
    #[error("is not a state: {0}")]
    Shape(#[from] serde_json::Error),
    /// A value that was to be base64 and is not.
    #[error("has a value that is not base64: {0}")]
    Base64(#[from] base64::DecodeError),
}

#[derive(Serialize, Deserialize)]
struct Body {
    label: Label,
    revision: i64,
    entries: Vec<Entry>,
    documents: Vec<Entry>,
    #[serde(default)]
    held_since_unix_ms: Option<u64>,
    #[serde(default)]
    held: Vec<Entry>,
}

#[derive(Serialize, Deserialize)]
struct Entry {
    key: String,
    #[serde(default)]
    created: i64,
    revision: i64,
    #[serde(flatten)]
    value: Value,
}

/// Values are JSON, so text; one that is not, which someone else put there, is kept as it is.
#[derive(Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
enum Value {
    Text(String),
    Base64(String),
}

/// The bytes of a file.
///
/// # Errors
/// None in practice: there is nothing in a state that JSON cannot hold.
pub fn encode(state: &Labelled) -> Result<Vec<u8>, serde_json::Error> {
    let Labelled { label, saved } = state;
    let entries = saved.entries.iter().filter_map(|(key, stored)| {
        // Keys that are no text are not ours.
        let key = std::str::from_utf8(key).ok()?;
        Some(entry(key, stored))
    });
    let documents = saved.documents.iter().map(|(id, document)| Entry {
        key: id.to_string(),
        created: 0,
        revision: document.revision,
        value: value(&document.json),
    });
    let body = Body {
        label: label.clone(),
        revision: saved.revision,
        entries: entries.collect(),
        documents: documents.collect(),
        held_since_unix_ms: saved.held_since.map(to_unix_ms),
        held: saved.held.iter().map(|held| entry(&held.id, &held.record)).collect(),
    };
    let body = serde_json::to_vec(&body)?;
    let mut bytes = format!("{MAGIC} {VERSION} {} {}\n", checksum(&body), body.len()).into_bytes();
    bytes.extend_from_slice(&body);
    Ok(bytes)
}

/// The state in a file's bytes.
///
/// # Errors
/// [`Unusable`] with what is wrong with it.
pub fn decode(bytes: &[u8]) -> Result<Labelled, Unusable> {
    let end = bytes
        .iter()
        .take(200)
        .position(|byte| *byte == b'\n')
        .ok_or(Unusable::Header)?;
    let (header, body) = bytes.split_at(end);
    let body = body.get(1..).unwrap_or_default();
    let words: Vec<&str> = std::str::from_utf8(header).unwrap_or_default().split(' ').collect();
    let [MAGIC, version, rest @ ..] = words.as_slice() else {
        return Err(Unusable::Header);
    };
    let found = version.parse().map_err(|_| Unusable::Header)?;
    if found != VERSION {
        return Err(Unusable::Version { found });
    }
    let [expected, length] = rest else {
        return Err(Unusable::Header);
    };
    let length = length.parse().map_err(|_| Unusable::Header)?;
    if body.len() < length {
        return Err(Unusable::Truncated {
            expected: length,
            found: body.len(),
        });
    }
    let found = checksum(body);
    if found != *expected {
        return Err(Unusable::Checksum {
            expected: (*expected).to_owned(),
            found,
        });
    }
    read(serde_json::from_slice(body)?)
}

fn read(body: Body) -> Result<Labelled, Unusable> {
    let entries = body
        .entries
        .into_iter()
        .map(|entry| Ok((entry.key.clone().into_bytes(), entry.stored()?)));
    let documents = body.documents.into_iter().filter_map(|entry| {
        let (kind, name) = entry.key.split_once('/')?;
        let id = PolicyId::new(kind, name);
        Some(entry.stored().map(|stored| {
            let (revision, json) = (stored.modified, stored.value);
            (id, Candidate { revision, json })
        }))
    });
    let held = body.held.into_iter().map(|entry| {
        Ok(HeldRecord {
            id: entry.key.clone(),
            record: entry.stored()?,
        })
    });
    Ok(Labelled {
        label: body.label,
        saved: Saved {
            revision: body.revision,
            entries: entries.collect::<Result<_, Unusable>>()?,
            documents: documents.collect::<Result<_, Unusable>>()?,
            held_since: body.held_since_unix_ms.map(from_unix_ms),
            held: held.collect::<Result<_, Unusable>>()?,
        },
    })
}

impl Entry {
    fn stored(self) -> Result<Stored, Unusable> {
        let value = match self.value {
            Value::Text(text) => text.into_bytes(),
            Value::Base64(text) => STANDARD.decode(text)?,
        };
        Ok(Stored {
            created: self.created,
            modified: self.revision,
            value: value.into(),
        })
    }
}

fn entry(key: &str, stored: &Stored) -> Entry {
    Entry {
        key: key.to_owned(),
        created: stored.created,
        revision: stored.modified,
        value: value(&stored.value),
    }
}

fn value(bytes: &[u8]) -> Value {
    match std::str::from_utf8(bytes) {
        Ok(text) => Value::Text(text.to_owned()),
        Err(_) => Value::Base64(STANDARD.encode(bytes)),
    }
}

fn checksum(body: &[u8]) -> String {
    format!("{:032x}", xxhash_rust::xxh3::xxh3_128(body))
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::saved::tests::labelled;
    use proptest::prelude::*;

    #[test]
    fn a_state_reads_back_as_it_was() {
        let state = labelled(12);
        assert_eq!(decode(&encode(&state).unwrap()).unwrap(), state);
    }

    #[test]
    fn what_is_wrong_with_a_file_is_told() {
        let good = encode(&labelled(12)).unwrap();
        let mut newer = good.clone();
        newer[MAGIC.len() + 1] = b'2';
        let mut corrupt = good.clone();
        let last = corrupt.len() - 3;
        corrupt[last] ^= 1;
        for (bytes, told) in [
            (&b""[..], "not a state file"),
            (b"{\"revision\": 1}\n", "not a state file"),
            (&newer, "has format version 2; this release reads version 1"),
            (&good[..good.len() - 1], "is cut off"),
            (&good[..20], "its beginning is lost"),
            (&corrupt, "is corrupt"),
        ] {
            let error = decode(bytes).unwrap_err().to_string();
            assert!(error.contains(told), "{error}");
        }
    }

    proptest! {
        /// Whatever one byte does to a file, it is never taken for another state.
        #[test]
        fn a_changed_byte_is_never_taken_for_another_state(at in any::<prop::sample::Index>(), to in any::<u8>()) {
            let state = labelled(12);
            let mut bytes = encode(&state).unwrap();
            let at = at.index(bytes.len());
            bytes[at] = to;
            if let Ok(read) = decode(&bytes) {
                prop_assert_eq!(read, state);
            }
        }
    }
}
