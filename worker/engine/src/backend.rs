//! What computes: the wall between the engine's bookkeeping and the tensors.
//!
//! A backend holds one version's weights on one device and turns a padded batch of token ids into vectors. It knows
//! nothing of queues, callers or time, so another one (ONNX Runtime, TensorRT, a remote one) can stand beside
//! [`bert`] without the rest noticing.

pub mod bert;
pub mod device;

use crate::tokenizer::TokenSequence;
use std::fmt;

/// A model that makes one vector of each sequence.
///
/// Called by one thread at a time, which it may block for as long as the computation takes.
pub trait EmbeddingBackend: Send + 'static {
    /// What it computes on.
    fn device(&self) -> DeviceKind;

    /// Length of each vector.
    fn dimension(&self) -> usize;

    /// Computes a batch. A sequence's vector does not depend on what else is in the batch, beyond rounding.
    ///
    /// # Errors
    /// [`BackendError`]; the backend can be used again.
    fn embed(&mut self, batch: &TokenBatch) -> Result<Embeddings, BackendError>;
}

/// What a backend computes on.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum DeviceKind {
    /// The processor.
    Cpu,
    /// An NVIDIA GPU.
    Cuda,
}

impl fmt::Display for DeviceKind {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Self::Cpu => "cpu",
            Self::Cuda => "cuda",
        })
    }
}

/// A batch failed as a whole.
#[derive(Clone, Debug, thiserror::Error)]
#[error("the computation failed: {0}")]
pub struct BackendError(pub String);

/// Sequences padded to a rectangle.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct TokenBatch {
    ids: Vec<u32>,
    mask: Vec<u32>,
    rows: usize,
    width: usize,
}

impl TokenBatch {
    /// Pads sequences on the right to the longest.
    pub fn pad<'a>(sequences: impl ExactSizeIterator<Item = &'a TokenSequence> + Clone) -> Self {
        let rows = sequences.len();
        let width = sequences.clone().map(|sequence| sequence.ids.len()).max().unwrap_or(0);
        let (mut ids, mut mask) = (Vec::with_capacity(rows * width), Vec::with_capacity(rows * width));
        for (row, sequence) in sequences.enumerate() {
            ids.extend_from_slice(&sequence.ids);
            mask.resize(ids.len(), 1);
            // Which id pads is of no account: the mask takes it out of every sum.
            ids.resize((row + 1) * width, 0);
            mask.resize(ids.len(), 0);
        }
        Self { ids, mask, rows, width }
    }

    /// Sequences.
    pub fn rows(&self) -> usize {
        self.rows
    }

    /// Length of each row, padding included.
    pub fn width(&self) -> usize {
        self.width
    }

    /// Token ids, row by row: `rows × width`.
    pub fn ids(&self) -> &[u32] {
        &self.ids
    }

    /// 1 for a token, 0 for padding; laid out as [`Self::ids`].
    pub fn mask(&self) -> &[u32] {
        &self.mask
    }
}

/// Vectors, one a sequence, in the order of the sequences.
#[derive(Clone, Debug, PartialEq)]
pub struct Embeddings {
    /// `rows × dimension` values, row by row.
    pub values: Vec<f32>,
    /// Length of one vector; above 0.
    pub dimension: usize,
}

impl Embeddings {
    /// The vectors.
    pub fn rows(&self) -> impl ExactSizeIterator<Item = &[f32]> {
        self.values.chunks_exact(self.dimension)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_batch_is_padded_on_the_right_and_masked() {
        let sequences = [vec![7, 8], vec![9], vec![1, 2, 3]].map(|ids| TokenSequence { ids, truncated: false });
        let batch = TokenBatch::pad(sequences.iter());
        assert_eq!((batch.rows(), batch.width()), (3, 3));
        assert_eq!(batch.ids(), [7, 8, 0, 9, 0, 0, 1, 2, 3]);
        assert_eq!(batch.mask(), [1, 1, 0, 1, 0, 0, 1, 1, 1]);
    }
}
