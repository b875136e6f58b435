//! all-MiniLM-L6-v2, held against what PyTorch computes: `testbed/reference/minilm.json`, made by the script beside it.
//! The model is installed by `cargo xtask setup`.

use kilocard_engine::{
    backend::{
        EmbeddingBackend, TokenBatch,
        bert::{self, BertEmbedder},
        device::{DeviceChoice, select},
    },
    repository::{Repository, WEIGHTS},
    tokenizer::Tokenizer,
};
use serde::Deserialize;
use std::path::Path;

#[derive(Deserialize)]
struct Reference {
    model_sha256: String,
    pairs: Vec<Pair>,
    vectors: Vec<Vector>,
}

#[derive(Deserialize)]
struct Pair {
    kind: String,
    texts: [String; 2],
    cosine: f32,
}

#[derive(Deserialize)]
struct Vector {
    text: String,
    tokens: usize,
    embedding: Vec<f32>,
}

fn reference() -> Reference {
    serde_json::from_str(include_str!("../../../testbed/reference/minilm.json")).unwrap()
}

struct Model {
    backend: BertEmbedder,
    tokenizer: Tokenizer,
    weights_sha256: String,
}

fn load(version: &str) -> Model {
    let repository = Path::new(env!("CARGO_MANIFEST_DIR")).join("../../.tools/models");
    let version = Repository::new(&repository)
        .open(&format!("minilm/{version}").parse().unwrap())
        .unwrap_or_else(|error| panic!("{error}\nThis test needs the model: run `cargo xtask setup`"));
    let (backend, tokenizer) = bert::load(&version, &select(DeviceChoice::Cpu).unwrap()).unwrap();
    Model {
        backend,
        tokenizer,
        weights_sha256: version.manifest().files[WEIGHTS].sha256.clone(),
    }
}

impl Model {
    fn embed(&mut self, texts: &[&str]) -> Vec<Vec<f32>> {
        let sequences: Vec<_> = texts.iter().map(|text| self.tokenizer.encode(text).unwrap()).collect();
        self.backend
            .embed(&TokenBatch::pad(sequences.iter()))
            .unwrap()
            .rows()
            .map(<[f32]>::to_vec)
            .collect()
    }
}

fn largest_difference(a: &[f32], b: &[f32]) -> f32 {
    assert_eq!(a.len(), b.len());
    a.iter().zip(b).map(|(a, b)| (a - b).abs()).fold(0.0, f32::max)
}

#[test]
fn embeddings_are_those_of_pytorch() {
    let (reference, mut model) = (reference(), load("v1"));
    assert_eq!(
        model.weights_sha256, reference.model_sha256,
        "the reference was made with other weights"
    );
    for vector in &reference.vectors {
        assert_eq!(model.tokenizer.encode(&vector.text).unwrap().ids.len(), vector.tokens);
        let difference = largest_difference(&model.embed(&[&vector.text])[0], &vector.embedding);
        assert!(difference < 1e-5, "{:.40}…: {difference}", vector.text);
    }
}

#[test]
fn similarities_are_those_of_pytorch_in_one_batch() {
    // v2 has its weights in half precision: three digits of a weight are lost, not of the meaning.
    for (version, tolerance) in [("v1", 1e-5), ("v2", 1e-3)] {
        let (reference, mut model) = (reference(), load(version));
        let texts: Vec<&str> = reference
            .pairs
            .iter()
            .flat_map(|pair| pair.texts.iter().map(String::as_str))
            .collect();
        let vectors = model.embed(&texts);
        for (pair, vectors) in reference.pairs.iter().zip(vectors.chunks(2)) {
            let cosine: f32 = vectors[0].iter().zip(&vectors[1]).map(|(a, b)| a * b).sum();
            let difference = (cosine - pair.cosine).abs();
            assert!(
                difference < tolerance,
                "{version}, {}: {cosine}, and PyTorch says {}",
                pair.kind,
                pair.cosine
            );
        }
    }
}
