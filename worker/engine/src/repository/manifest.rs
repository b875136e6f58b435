//! `manifest.json`: what a version is, and the digest of each of its files.

use super::{CONFIG, TOKENIZER, WEIGHTS};
use serde::{Deserialize, Serialize};
use std::collections::BTreeMap;

/// The format this release writes and reads.
pub const FORMAT_VERSION: u32 = 1;

/// The fewest tokens that hold any text: the two special ones and one between them.
const MIN_TOKENS: usize = 3;

/// What a version is made of and how it is to be used.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Manifest {
    /// [`FORMAT_VERSION`].
    pub format_version: u32,
    /// What it is for.
    pub task: Task,
    /// How the tokens' vectors become one.
    pub pooling: Pooling,
    /// Whether embeddings are scaled to length 1.
    pub normalize: bool,
    /// Longer inputs are cut on the right to this many tokens, the special ones included.
    pub max_tokens: usize,
    /// How the weights are stored; they may be computed with in another type.
    pub dtype: WeightType,
    /// Every file of the folder but the manifest.
    pub files: BTreeMap<String, FileEntry>,
}

/// A file as it must be.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct FileEntry {
    /// SHA-256, lower-case hexadecimal.
    pub sha256: String,
    /// Length.
    pub bytes: u64,
}

/// What a model is for.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Task {
    /// A text becomes one vector.
    Embedding,
}

/// How the vectors of a text's tokens become the text's.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Pooling {
    /// The mean over the tokens, padding left out.
    Mean,
}

/// How weights are stored.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum WeightType {
    /// IEEE 754 single precision.
    F32,
    /// IEEE 754 half precision: half the size, about three decimal digits.
    F16,
}

/// Why a manifest cannot be used.
#[derive(Debug, thiserror::Error)]
pub enum ManifestError {
    /// Not the JSON it should be.
    #[error(transparent)]
    Json(#[from] serde_json::Error),
    /// Another release's.
    #[error("format_version is {0}, and this release reads {FORMAT_VERSION}")]
    Format(u64),
    /// A path, or something else that may lead out of the folder.
    #[error("files: {0:?} is no plain file name")]
    FileName(String),
    /// Not a digest.
    #[error("files: the sha256 of {0:?} is not 64 lower-case hexadecimal digits")]
    Digest(String),
    /// A needed file is not listed.
    #[error("files: {0:?} is missing")]
    Incomplete(&'static str),
    /// Too few tokens.
    #[error("max_tokens is {0}, and the least is {MIN_TOKENS}")]
    MaxTokens(usize),
}

#[derive(Deserialize)]
struct Format {
    format_version: u64,
}

impl Manifest {
    /// Reads and checks a manifest; the files it names are not touched.
    ///
    /// # Errors
    /// What is wrong with it.
    pub fn parse(json: &[u8]) -> Result<Self, ManifestError> {
        // The format first: the fields of another format would only confuse the message.
        let Format { format_version } = serde_json::from_slice(json)?;
        if format_version != u64::from(FORMAT_VERSION) {
            return Err(ManifestError::Format(format_version));
        }
        let manifest: Self = serde_json::from_slice(json)?;
        for (name, entry) in &manifest.files {
            let plain = |byte: u8| byte.is_ascii_alphanumeric() || matches!(byte, b'.' | b'_' | b'-');
            if name.is_empty() || name.starts_with('.') || !name.bytes().all(plain) || name == super::MANIFEST {
                return Err(ManifestError::FileName(name.clone()));
            }
            let digit = |byte: u8| byte.is_ascii_digit() || (b'a'..=b'f').contains(&byte);
            if entry.sha256.len() != 64 || !entry.sha256.bytes().all(digit) {
                return Err(ManifestError::Digest(name.clone()));
            }
        }
        for needed in [CONFIG, WEIGHTS, TOKENIZER] {
            if !manifest.files.contains_key(needed) {
                return Err(ManifestError::Incomplete(needed));
            }
        }
        if manifest.max_tokens < MIN_TOKENS {
            return Err(ManifestError::MaxTokens(manifest.max_tokens));
        }
        Ok(manifest)
    }
}
