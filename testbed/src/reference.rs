//! What all-MiniLM-L6-v2 gives for known sentence pairs: `testbed/reference/minilm.json`.

use anyhow::{Context, Result, ensure};
use serde::Deserialize;
use std::path::Path;

/// The recorded values.
#[derive(Clone, Debug, Deserialize)]
pub struct Reference {
    /// With which programs they were made.
    pub made_with: MadeWith,
    /// The pairs.
    pub pairs: Vec<Pair>,
}

/// Where the values come from.
#[derive(Clone, Debug, Deserialize)]
pub struct MadeWith {
    /// PyTorch's version.
    pub torch: String,
    /// The version of Hugging Face's transformers.
    pub transformers: String,
}

/// Two sentences and how alike they are.
#[derive(Clone, Debug, Deserialize)]
pub struct Pair {
    /// The sentences.
    pub texts: [String; 2],
    /// Cosine similarity of their embeddings.
    pub cosine: f64,
}

impl Reference {
    /// # Errors
    /// If the file is missing or not of this shape.
    pub fn load(root: &Path) -> Result<Self> {
        let path = root.join("testbed/reference/minilm.json");
        let bytes = std::fs::read(&path).with_context(|| format!("read {}", path.display()))?;
        let reference: Self = serde_json::from_slice(&bytes).with_context(|| format!("parse {}", path.display()))?;
        ensure!(
            reference.pairs.len() >= 3,
            "{} holds fewer than three pairs",
            path.display()
        );
        Ok(reference)
    }

    /// All sentences, those of a pair side by side.
    pub fn texts(&self) -> Vec<&str> {
        self.pairs
            .iter()
            .flat_map(|pair| pair.texts.iter().map(String::as_str))
            .collect()
    }
}
