//! Text to token ids.

use std::{fmt, str::FromStr};
use tokenizers::{Tokenizer as Tokens, TruncationDirection, TruncationParams, TruncationStrategy};

/// The longest text that is tokenised at all. Anything near it is cut to the model's `max_tokens` anyway; without a bound
/// one caller could keep a core busy for seconds.
pub const MAX_TEXT_BYTES: usize = 1 << 16;

/// One text as token ids, special tokens included.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct TokenSequence {
    /// Ids in the model's vocabulary.
    pub ids: Vec<u32>,
    /// Whether the text was longer than the model takes, and was cut.
    pub truncated: bool,
}

/// Why a tokenizer or a text cannot be used.
#[derive(Debug, thiserror::Error)]
pub enum TokenizerError {
    /// The file is not one.
    #[error("tokenizer.json: {0}")]
    File(String),
    /// Too long.
    #[error("a text of {0} bytes is over the limit of {MAX_TEXT_BYTES}")]
    TextTooLong(usize),
    /// The tokenizer refused.
    #[error("the text cannot be tokenised: {0}")]
    Text(String),
}

/// A model's tokenizer, set to cut as the model was trained and not to pad: padding is the batch's business.
pub struct Tokenizer {
    tokens: Tokens,
}

impl fmt::Debug for Tokenizer {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Tokenizer").finish_non_exhaustive()
    }
}

impl Tokenizer {
    /// Reads `tokenizer.json`. What it says about padding and truncation is the trainer's habit and is replaced.
    ///
    /// # Errors
    /// It is not a tokenizer.
    pub fn parse(json: &[u8], max_tokens: usize) -> Result<Self, TokenizerError> {
        let text = std::str::from_utf8(json).map_err(|error| TokenizerError::File(error.to_string()))?;
        let mut tokens = Tokens::from_str(text).map_err(|error| TokenizerError::File(error.to_string()))?;
        tokens.with_padding(None);
        tokens
            .with_truncation(Some(TruncationParams {
                direction: TruncationDirection::Right,
                max_length: max_tokens,
                strategy: TruncationStrategy::LongestFirst,
                stride: 0,
            }))
            .map_err(|error| TokenizerError::File(error.to_string()))?;
        Ok(Self { tokens })
    }

    /// The largest id, which is not their count: a vocabulary may have gaps.
    pub fn largest_id(&self) -> Option<u32> {
        self.tokens.get_vocab(true).into_values().max()
    }

    /// A text's ids.
    ///
    /// # Errors
    /// The text is too long, or the tokenizer refuses it.
    pub fn encode(&self, text: &str) -> Result<TokenSequence, TokenizerError> {
        if text.len() > MAX_TEXT_BYTES {
            return Err(TokenizerError::TextTooLong(text.len()));
        }
        let encoding = self
            .tokens
            .encode_fast(text, true)
            .map_err(|error| TokenizerError::Text(error.to_string()))?;
        Ok(TokenSequence {
            ids: encoding.get_ids().to_vec(),
            truncated: !encoding.get_overflowing().is_empty(),
        })
    }
}
