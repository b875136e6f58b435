//! From a Hugging Face folder to a version of the repository.
//!
//! The version appears whole or not at all: it is written beside its place under a hidden name and then renamed.

mod weights;

pub use weights::WeightsError;

use crate::repository::{
    CONFIG, FileEntry, MANIFEST, Manifest, RepositoryError, TOKENIZER, VersionId, WEIGHTS, hex,
    manifest::{FORMAT_VERSION, Pooling, Task, WeightType},
};
use serde::Deserialize;
use sha2::{Digest, Sha256};
use std::{
    collections::BTreeMap,
    fs::{self, File},
    io::{self, Write},
    path::{Path, PathBuf},
};

/// What sentence-transformers uses when a folder does not say, as far as the model has positions for it.
const DEFAULT_MAX_TOKENS: usize = 512;

/// Why a version could not be made.
#[derive(Debug, thiserror::Error)]
pub enum PackError {
    /// The file system refused.
    #[error("{path}: {source}")]
    Io {
        /// What was being read or written.
        path: PathBuf,
        /// What the system said.
        source: io::Error,
    },
    /// A file of the source is not what it should be.
    #[error("{path}: {reason}")]
    Source {
        /// The file.
        path: PathBuf,
        /// What is wrong.
        reason: String,
    },
    /// The weights cannot be re-encoded.
    #[error("{path}: {source}")]
    Weights {
        /// The file.
        path: PathBuf,
        /// What is wrong.
        source: WeightsError,
    },
    /// The version is there already. Versions never change: whoever pinned one relies on it.
    #[error("{0} exists already; versions never change, so choose another name or remove it first")]
    Exists(PathBuf),
    /// What was written does not read back.
    #[error(transparent)]
    Repository(#[from] RepositoryError),
}

fn io_error(path: &Path) -> impl FnOnce(io::Error) -> PackError {
    move |source| PackError::Io {
        path: path.to_owned(),
        source,
    }
}

#[derive(Deserialize)]
struct ModelConfig {
    max_position_embeddings: usize,
}

#[derive(Deserialize)]
struct SentenceConfig {
    max_seq_length: Option<usize>,
}

#[derive(Deserialize)]
struct PoolingConfig {
    #[serde(default)]
    pooling_mode_mean_tokens: bool,
    #[serde(default)]
    pooling_mode_cls_token: bool,
    #[serde(default)]
    pooling_mode_max_tokens: bool,
    #[serde(default)]
    pooling_mode_mean_sqrt_len_tokens: bool,
}

#[derive(Deserialize)]
struct Module {
    r#type: String,
}

/// Makes the version `id` in the repository from a Hugging Face folder (`config.json`, `tokenizer.json`,
/// `model.safetensors` and, where there are any, the files of sentence-transformers), its weights stored as `dtype`.
/// Without those files: mean pooling, normalised, at most 512 tokens.
///
/// # Errors
/// [`PackError`]; nothing is left behind.
pub fn pack(source: &Path, repository: &Path, id: &VersionId, dtype: WeightType) -> Result<Manifest, PackError> {
    let model = repository.join(id.model.as_str());
    let place = model.join(id.version.as_str());
    if place.exists() {
        return Err(PackError::Exists(place));
    }
    let (max_tokens, normalize) = read_settings(source)?;
    let weights_path = source.join(WEIGHTS);
    let weights = fs::read(&weights_path).map_err(io_error(&weights_path))?;
    let weights = weights::encode(weights, dtype).map_err(|source| PackError::Weights {
        path: weights_path.clone(),
        source,
    })?;

    fs::create_dir_all(&model).map_err(io_error(&model))?;
    let staging = Staging::create(model.join(format!(".{}.{}", id.version, std::process::id())))?;
    let mut files = BTreeMap::new();
    for name in [CONFIG, TOKENIZER] {
        let path = source.join(name);
        let content = fs::read(&path).map_err(io_error(&path))?;
        files.insert(name.to_owned(), staging.write(name, &content)?);
    }
    files.insert(WEIGHTS.to_owned(), staging.write(WEIGHTS, &weights)?);
    let manifest = Manifest {
        format_version: FORMAT_VERSION,
        task: Task::Embedding,
        pooling: Pooling::Mean,
        normalize,
        max_tokens,
        dtype,
        files,
    };
    let mut json = serde_json::to_vec_pretty(&manifest).map_err(|error| PackError::Source {
        path: staging.folder.join(MANIFEST),
        reason: error.to_string(),
    })?;
    json.push(b'\n');
    Manifest::parse(&json).map_err(|error| PackError::Source {
        path: source.to_owned(),
        reason: error.to_string(),
    })?;
    staging.write(MANIFEST, &json)?;
    staging.publish(&place)?;
    Ok(manifest)
}

/// Reads how the model is to be used: most tokens, and whether vectors are normalised.
fn read_settings(source: &Path) -> Result<(usize, bool), PackError> {
    let config_path = source.join(CONFIG);
    let config: ModelConfig = read_json(&config_path)?.ok_or_else(|| PackError::Source {
        path: config_path,
        reason: "there is none".to_owned(),
    })?;
    let sentence: Option<SentenceConfig> = read_json(&source.join("sentence_bert_config.json"))?;
    let max_tokens = sentence
        .and_then(|sentence| sentence.max_seq_length)
        .unwrap_or(DEFAULT_MAX_TOKENS)
        .min(config.max_position_embeddings);

    let pooling_path = source.join("1_Pooling").join(CONFIG);
    if let Some(pooling) = read_json::<PoolingConfig>(&pooling_path)? {
        let other = pooling.pooling_mode_cls_token
            || pooling.pooling_mode_max_tokens
            || pooling.pooling_mode_mean_sqrt_len_tokens;
        if other || !pooling.pooling_mode_mean_tokens {
            let reason = "only pooling_mode_mean_tokens is supported".to_owned();
            return Err(PackError::Source {
                path: pooling_path,
                reason,
            });
        }
    }
    let modules: Option<Vec<Module>> = read_json(&source.join("modules.json"))?;
    let normalize = modules.is_none_or(|modules| modules.iter().any(|module| module.r#type.ends_with(".Normalize")));
    Ok((max_tokens, normalize))
}

fn read_json<T: serde::de::DeserializeOwned>(path: &Path) -> Result<Option<T>, PackError> {
    let text = match fs::read(path) {
        Ok(text) => text,
        Err(error) if error.kind() == io::ErrorKind::NotFound => return Ok(None),
        Err(error) => return Err(io_error(path)(error)),
    };
    serde_json::from_slice(&text)
        .map(Some)
        .map_err(|error| PackError::Source {
            path: path.to_owned(),
            reason: error.to_string(),
        })
}

/// A version being written; removed on drop unless published.
struct Staging {
    folder: PathBuf,
}

impl Staging {
    fn create(folder: PathBuf) -> Result<Self, PackError> {
        fs::create_dir(&folder).map_err(io_error(&folder))?;
        Ok(Self { folder })
    }

    fn write(&self, name: &str, content: &[u8]) -> Result<FileEntry, PackError> {
        let path = self.folder.join(name);
        let written = File::create_new(&path).and_then(|mut file| {
            file.write_all(content)?;
            // The rename must not become durable before the content.
            file.sync_all()
        });
        written.map_err(io_error(&path))?;
        Ok(FileEntry {
            sha256: hex(&Sha256::digest(content)),
            bytes: content.len() as u64,
        })
    }

    fn publish(self, place: &Path) -> Result<(), PackError> {
        fs::rename(&self.folder, place).map_err(|error| match error.kind() {
            io::ErrorKind::DirectoryNotEmpty | io::ErrorKind::AlreadyExists => PackError::Exists(place.to_owned()),
            _ => io_error(place)(error),
        })
    }
}

impl Drop for Staging {
    fn drop(&mut self) {
        if self.folder.exists()
            && let Err(error) = fs::remove_dir_all(&self.folder)
        {
            tracing::warn!(folder = %self.folder.display(), %error, "a half-written version could not be removed");
        }
    }
}

#[cfg(test)]
mod tests;
