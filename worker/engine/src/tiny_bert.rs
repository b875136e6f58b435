//! A BERT encoder with random weights, in the layout of a Hugging Face folder: small enough for a test to write and to
//! compute in a millisecond, real in every other respect.

use safetensors::{Dtype, tensor::TensorView};
use serde_json::{Value, json};
use std::{collections::BTreeMap, fs, io, path::Path};

/// Length of its vectors.
pub const DIMENSION: usize = 32;
/// The most tokens it takes, special ones included.
pub const MAX_TOKENS: usize = 24;

const LAYERS: usize = 2;
const INTERMEDIATE: usize = 64;
const SPECIAL: [&str; 4] = ["[PAD]", "[UNK]", "[CLS]", "[SEP]"];

/// Writes the folder's files. The same seed gives the same weights.
///
/// # Errors
/// The files cannot be written.
pub fn write(folder: &Path, seed: u64) -> io::Result<()> {
    fs::create_dir_all(folder)?;
    let vocabulary = vocabulary();
    let config = json!({
        "model_type": "bert", "vocab_size": vocabulary.len(), "hidden_size": DIMENSION,
        "num_hidden_layers": LAYERS, "num_attention_heads": 4, "intermediate_size": INTERMEDIATE,
        "hidden_act": "gelu", "hidden_dropout_prob": 0.1, "max_position_embeddings": 48, "type_vocab_size": 2,
        "initializer_range": 0.02, "layer_norm_eps": 1e-12, "pad_token_id": 0,
    });
    let write_json = |name: &str, value: &Value| fs::write(folder.join(name), value.to_string());
    write_json("config.json", &config)?;
    write_json("sentence_bert_config.json", &json!({"max_seq_length": MAX_TOKENS}))?;
    write_json("tokenizer.json", &tokenizer(&vocabulary))?;
    write_weights(&folder.join("model.safetensors"), vocabulary.len(), seed)
}

/// Every letter and digit, alone and as the continuation of a word: any lower-case ASCII text is known.
fn vocabulary() -> BTreeMap<String, usize> {
    let letters = ('a'..='z').chain('0'..='9');
    let words = letters.flat_map(|letter| [letter.to_string(), format!("##{letter}")]);
    SPECIAL
        .iter()
        .map(ToString::to_string)
        .chain(words)
        .enumerate()
        .map(|(id, word)| (word, id))
        .collect()
}

fn tokenizer(vocabulary: &BTreeMap<String, usize>) -> Value {
    let special = |id: usize, content: &str| {
        json!({"id": id, "content": content, "single_word": false, "lstrip": false, "rstrip": false,
               "normalized": false, "special": true})
    };
    let added: Vec<Value> = SPECIAL
        .iter()
        .enumerate()
        .map(|(id, content)| special(id, content))
        .collect();
    let token = |id: &str| json!({"SpecialToken": {"id": id, "type_id": 0}});
    json!({
        "version": "1.0", "truncation": null, "padding": null, "added_tokens": added,
        "normalizer": {"type": "BertNormalizer", "clean_text": true, "handle_chinese_chars": true,
                       "strip_accents": null, "lowercase": true},
        "pre_tokenizer": {"type": "BertPreTokenizer"},
        "post_processor": {
            "type": "TemplateProcessing",
            "single": [token("[CLS]"), {"Sequence": {"id": "A", "type_id": 0}}, token("[SEP]")],
            "pair": [token("[CLS]"), {"Sequence": {"id": "A", "type_id": 0}}, token("[SEP]"),
                     {"Sequence": {"id": "B", "type_id": 1}}],
            "special_tokens": {
                "[CLS]": {"id": "[CLS]", "ids": [2], "tokens": ["[CLS]"]},
                "[SEP]": {"id": "[SEP]", "ids": [3], "tokens": ["[SEP]"]},
            },
        },
        "decoder": null,
        "model": {"type": "WordPiece", "unk_token": "[UNK]", "continuing_subword_prefix": "##",
                  "max_input_chars_per_word": 100, "vocab": vocabulary},
    })
}

fn write_weights(path: &Path, vocabulary: usize, seed: u64) -> io::Result<()> {
    let mut shapes = vec![
        (
            "embeddings.word_embeddings.weight".to_owned(),
            vec![vocabulary, DIMENSION],
        ),
        ("embeddings.position_embeddings.weight".to_owned(), vec![48, DIMENSION]),
        ("embeddings.token_type_embeddings.weight".to_owned(), vec![2, DIMENSION]),
    ];
    let mut norms = vec!["embeddings.LayerNorm".to_owned()];
    for layer in 0..LAYERS {
        let layer = format!("encoder.layer.{layer}");
        let dense = [
            ("attention.self.query", DIMENSION, DIMENSION),
            ("attention.self.key", DIMENSION, DIMENSION),
            ("attention.self.value", DIMENSION, DIMENSION),
            ("attention.output.dense", DIMENSION, DIMENSION),
            ("intermediate.dense", INTERMEDIATE, DIMENSION),
            ("output.dense", DIMENSION, INTERMEDIATE),
        ];
        for (name, out, input) in dense {
            shapes.push((format!("{layer}.{name}.weight"), vec![out, input]));
            shapes.push((format!("{layer}.{name}.bias"), vec![out]));
        }
        norms.extend([
            format!("{layer}.attention.output.LayerNorm"),
            format!("{layer}.output.LayerNorm"),
        ]);
    }
    let mut random = SplitMix64(seed);
    let mut tensors: Vec<(String, Vec<usize>, Vec<u8>)> = shapes
        .into_iter()
        .map(|(name, shape)| {
            let values = (0..shape.iter().product())
                .flat_map(|_| random.weight().to_le_bytes())
                .collect();
            (name, shape, values)
        })
        .collect();
    for norm in norms {
        let constant = |value: f32| (0..DIMENSION).flat_map(|_| value.to_le_bytes()).collect();
        tensors.push((format!("{norm}.weight"), vec![DIMENSION], constant(1.0)));
        tensors.push((format!("{norm}.bias"), vec![DIMENSION], constant(0.0)));
    }
    let views: Result<Vec<_>, _> = tensors
        .iter()
        .map(|(name, shape, values)| TensorView::new(Dtype::F32, shape.clone(), values).map(|view| (name, view)))
        .collect();
    safetensors::serialize_to_file(views.map_err(io::Error::other)?, None, path).map_err(io::Error::other)
}

/// <https://prng.di.unimi.it/splitmix64.c>
struct SplitMix64(u64);

impl SplitMix64 {
    /// Uniform in ±0.25: large enough that texts differ clearly.
    fn weight(&mut self) -> f32 {
        self.0 = self.0.wrapping_add(0x9e37_79b9_7f4a_7c15);
        let mut z = self.0;
        z = (z ^ (z >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
        z = (z ^ (z >> 27)).wrapping_mul(0x94d0_49bb_1331_11eb);
        z ^= z >> 31;
        (z >> 40) as f32 / (1_u64 << 25) as f32 - 0.25
    }
}
