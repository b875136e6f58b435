//! Encoders of the BERT family, computed by candle in single precision, whatever the weights are stored in.

use super::{BackendError, DeviceKind, EmbeddingBackend, Embeddings, TokenBatch, device::SelectedDevice};
use crate::repository::{
    CONFIG, RepositoryError, TOKENIZER, Version, WEIGHTS,
    manifest::{Pooling, Task},
};
use crate::tokenizer::{Tokenizer, TokenizerError};
use candle_core::{D, DType, Tensor};
use candle_nn::VarBuilder;
use candle_transformers::models::bert::{BertModel, Config};
use std::fmt;

/// Keeps the division defined for a vector of zeros, as PyTorch's `normalize` does.
const NORM_EPSILON: f64 = 1e-12;

/// Why a version cannot be loaded.
#[derive(Debug, thiserror::Error)]
pub enum LoadError {
    /// Its files are not what its manifest says.
    #[error(transparent)]
    Repository(#[from] RepositoryError),
    /// Its tokenizer cannot be read.
    #[error("{version}: {source}")]
    Tokenizer {
        /// Which version.
        version: String,
        /// What is wrong.
        source: TokenizerError,
    },
    /// Its configuration is not of this family, or contradicts its other files.
    #[error("{version}: {reason}")]
    Config {
        /// Which version.
        version: String,
        /// What is wrong.
        reason: String,
    },
    /// Its weights do not fit its configuration.
    #[error("{version}: model.safetensors cannot be loaded: {reason}")]
    Weights {
        /// Which version.
        version: String,
        /// What candle said.
        reason: String,
    },
}

/// A BERT encoder with pooling.
pub struct BertEmbedder {
    model: BertModel,
    kind: DeviceKind,
    dimension: usize,
    pooling: Pooling,
    normalize: bool,
}

impl fmt::Debug for BertEmbedder {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("BertEmbedder")
            .field("kind", &self.kind)
            .field("dimension", &self.dimension)
            .finish_non_exhaustive()
    }
}

/// Loads a version and its tokenizer: every file is checked against the manifest, and the model computes once, so that
/// what cannot serve is found now and not by the first caller.
///
/// # Errors
/// [`LoadError`].
pub fn load(version: &Version, device: &SelectedDevice) -> Result<(BertEmbedder, Tokenizer), LoadError> {
    let name = || version.id().to_string();
    let refuse = |reason: String| LoadError::Config {
        version: name(),
        reason,
    };
    version.check_unlisted()?;
    for file in version
        .manifest()
        .files
        .keys()
        .filter(|file| ![CONFIG, WEIGHTS, TOKENIZER].contains(&file.as_str()))
    {
        version.read(file)?;
    }
    let config: Config = serde_json::from_slice(&version.read(CONFIG)?)
        .map_err(|error| refuse(format!("config.json is not of a BERT encoder: {error}")))?;
    let manifest = version.manifest();
    let Task::Embedding = manifest.task;
    let tokenizer =
        Tokenizer::parse(&version.read(TOKENIZER)?, manifest.max_tokens).map_err(|source| LoadError::Tokenizer {
            version: name(),
            source,
        })?;
    check(&config, manifest.max_tokens, tokenizer.largest_id()).map_err(refuse)?;

    let weights = |error: candle_core::Error| LoadError::Weights {
        version: name(),
        reason: first_line(&error),
    };
    let tensors =
        VarBuilder::from_buffered_safetensors(version.read(WEIGHTS)?, DType::F32, &device.device).map_err(weights)?;
    let model = BertModel::load(tensors, &config).map_err(weights)?;
    let mut backend = BertEmbedder {
        model,
        kind: device.kind(),
        dimension: config.hidden_size,
        pooling: manifest.pooling,
        normalize: manifest.normalize,
    };
    let warm_up = tokenizer.encode("warm-up").map_err(|source| LoadError::Tokenizer {
        version: name(),
        source,
    })?;
    let embeddings = backend
        .embed(&TokenBatch::pad([warm_up].iter()))
        .map_err(|error| LoadError::Weights {
            version: name(),
            reason: error.to_string(),
        })?;
    if embeddings.values.iter().any(|value| !value.is_finite()) {
        return Err(LoadError::Weights {
            version: name(),
            reason: "it computes values that are not finite".to_owned(),
        });
    }
    Ok((backend, tokenizer))
}

/// Finds contradictions that would otherwise show as an index out of range in the middle of a computation.
fn check(config: &Config, max_tokens: usize, largest_id: Option<u32>) -> Result<(), String> {
    if config.model_type.as_deref().is_some_and(|kind| kind != "bert") {
        return Err(format!(
            "config.json: model_type is {:?}, and this release knows \"bert\"",
            config.model_type
        ));
    }
    if config.num_attention_heads == 0 || !config.hidden_size.is_multiple_of(config.num_attention_heads) {
        return Err("config.json: hidden_size is not a multiple of num_attention_heads".to_owned());
    }
    if config.hidden_size == 0 || config.type_vocab_size == 0 {
        return Err("config.json: hidden_size and type_vocab_size must be above 0".to_owned());
    }
    if max_tokens > config.max_position_embeddings {
        return Err(format!(
            "the manifest's max_tokens is {max_tokens}, and the model has {} positions",
            config.max_position_embeddings
        ));
    }
    if let Some(id) = largest_id.filter(|id| *id as usize >= config.vocab_size) {
        return Err(format!(
            "tokenizer.json has the id {id}, and the model knows {} from 0",
            config.vocab_size
        ));
    }
    Ok(())
}

/// candle appends a backtrace to its messages.
fn first_line(error: &candle_core::Error) -> String {
    error.to_string().lines().next().unwrap_or_default().to_owned()
}

impl BertEmbedder {
    fn compute(&self, batch: &TokenBatch) -> candle_core::Result<Vec<f32>> {
        let shape = (batch.rows(), batch.width());
        let ids = Tensor::from_slice(batch.ids(), shape, &self.model.device)?;
        let mask = Tensor::from_slice(batch.mask(), shape, &self.model.device)?;
        let hidden = self.model.forward(&ids, &ids.zeros_like()?, Some(&mask))?;

        let Pooling::Mean = self.pooling;
        let mask = mask.to_dtype(DType::F32)?.unsqueeze(D::Minus1)?;
        let sum = hidden.broadcast_mul(&mask)?.sum(1)?;
        let mut pooled = sum.broadcast_div(&mask.sum(1)?)?;
        if self.normalize {
            let norm = pooled.sqr()?.sum_keepdim(D::Minus1)?.sqrt()?.maximum(NORM_EPSILON)?;
            pooled = pooled.broadcast_div(&norm)?;
        }
        pooled.flatten_all()?.to_vec1()
    }
}

impl EmbeddingBackend for BertEmbedder {
    fn device(&self) -> DeviceKind {
        self.kind
    }

    fn dimension(&self) -> usize {
        self.dimension
    }

    fn embed(&mut self, batch: &TokenBatch) -> Result<Embeddings, BackendError> {
        let values = self.compute(batch).map_err(|error| BackendError(first_line(&error)))?;
        Ok(Embeddings {
            values,
            dimension: self.dimension,
        })
    }
}

#[cfg(test)]
mod tests;
