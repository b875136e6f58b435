use super::*;
use crate::{
    backend::device::{DeviceChoice, select},
    pack,
    repository::{Repository, VersionId, manifest::WeightType},
    tiny_bert,
};
use proptest::prelude::*;
use std::{fs, path::Path};

fn pack_and_load(folder: &Path, dtype: WeightType) -> Result<(BertEmbedder, Tokenizer), LoadError> {
    let id: VersionId = "tiny/v1".parse().unwrap();
    let repository = folder.join(format!("{dtype:?}"));
    pack::pack(&folder.join("source"), &repository, &id, dtype).unwrap();
    let version = Repository::new(repository).open(&id)?;
    load(&version, &select(DeviceChoice::Cpu).unwrap())
}

fn source() -> tempfile::TempDir {
    let folder = tempfile::tempdir().unwrap();
    tiny_bert::write(&folder.path().join("source"), 1).unwrap();
    folder
}

fn embed(backend: &mut BertEmbedder, tokenizer: &Tokenizer, texts: &[String]) -> Vec<Vec<f32>> {
    let sequences: Vec<_> = texts.iter().map(|text| tokenizer.encode(text).unwrap()).collect();
    backend
        .embed(&TokenBatch::pad(sequences.iter()))
        .unwrap()
        .rows()
        .map(<[f32]>::to_vec)
        .collect()
}

#[test]
fn a_text_in_a_batch_embeds_as_it_does_alone() {
    let folder = source();
    let (backend, tokenizer) = pack_and_load(folder.path(), WeightType::F32).unwrap();
    let backend = std::cell::RefCell::new(backend);
    let texts = prop::collection::vec("[a-z0-9 .]{0,40}", 1..8);
    proptest!(ProptestConfig::with_cases(64), |(texts in texts)| {
        let backend = &mut *backend.borrow_mut();
        let together = embed(backend, &tokenizer, &texts);
        prop_assert_eq!(together.len(), texts.len());
        for (text, batched) in texts.into_iter().zip(together) {
            let alone = embed(backend, &tokenizer, &[text]);
            prop_assert_eq!(batched.len(), tiny_bert::DIMENSION);
            let norm: f32 = batched.iter().map(|x| x * x).sum();
            prop_assert!((norm - 1.0).abs() < 1e-5);
            for (a, b) in batched.iter().zip(&alone[0]) {
                prop_assert!((a - b).abs() < 1e-5, "{} and {}", a, b);
            }
        }
    });
}

#[test]
fn different_texts_embed_differently() {
    let folder = source();
    let (mut backend, tokenizer) = pack_and_load(folder.path(), WeightType::F32).unwrap();
    let vectors = embed(&mut backend, &tokenizer, &["one".to_owned(), "two".to_owned()]);
    let cosine: f32 = vectors[0].iter().zip(&vectors[1]).map(|(a, b)| a * b).sum();
    assert!(cosine < 0.999, "{cosine}");
}

#[test]
fn half_precision_weights_embed_nearly_the_same() {
    let folder = source();
    let (mut single, tokenizer) = pack_and_load(folder.path(), WeightType::F32).unwrap();
    let (mut half, _) = pack_and_load(folder.path(), WeightType::F16).unwrap();
    let texts = ["a short text".to_owned()];
    let (single, half) = (
        embed(&mut single, &tokenizer, &texts),
        embed(&mut half, &tokenizer, &texts),
    );
    assert_ne!(single, half);
    for (a, b) in single[0].iter().zip(&half[0]) {
        assert!((a - b).abs() < 2e-3, "{a} and {b}");
    }
}

#[test]
fn a_long_text_is_cut_on_the_right() {
    let folder = source();
    let (_, tokenizer) = pack_and_load(folder.path(), WeightType::F32).unwrap();
    let (long, short) = (
        tokenizer.encode(&"a ".repeat(500)).unwrap(),
        tokenizer.encode("a a").unwrap(),
    );
    assert_eq!((long.ids.len(), long.truncated), (tiny_bert::MAX_TOKENS, true));
    assert_eq!((short.ids.len(), short.truncated), (4, false));
    assert_eq!(long.ids[..3], short.ids[..3]);
    assert_eq!(long.ids.last(), short.ids.last(), "the separator stays");
}

#[test]
fn weights_that_do_not_fit_the_configuration_are_refused() {
    let folder = source();
    let path = folder.path().join("source/config.json");
    let config = fs::read_to_string(&path)
        .unwrap()
        .replace(r#""num_hidden_layers":2"#, r#""num_hidden_layers":3"#);
    fs::write(&path, config).unwrap();
    let error = pack_and_load(folder.path(), WeightType::F32).unwrap_err().to_string();
    assert!(
        error.starts_with("tiny/v1: model.safetensors cannot be loaded") && error.contains("layer.2"),
        "{error}"
    );
}

#[test]
fn contradictions_between_the_files_are_refused() {
    for (from, to, message) in [
        (
            r#""vocab_size":76"#,
            r#""vocab_size":70"#,
            "tokenizer.json has the id 75, and the model knows 70 from 0",
        ),
        (
            r#""model_type":"bert""#,
            r#""model_type":"llama""#,
            "this release knows \"bert\"",
        ),
        (
            r#""num_attention_heads":4"#,
            r#""num_attention_heads":5"#,
            "not a multiple",
        ),
        (
            r#""hidden_act":"gelu""#,
            r#""hidden_act":"mish""#,
            "unknown variant `mish`",
        ),
    ] {
        let folder = source();
        let path = folder.path().join("source/config.json");
        let config = fs::read_to_string(&path).unwrap();
        assert!(config.contains(from), "{config}");
        fs::write(&path, config.replace(from, to)).unwrap();
        let error = pack_and_load(folder.path(), WeightType::F32).unwrap_err().to_string();
        assert!(error.contains(message), "{error}");
    }
}

#[test]
fn a_vocabulary_with_a_gap_is_judged_by_its_largest_id() {
    let folder = source();
    let path = folder.path().join("source/tokenizer.json");
    let mut tokenizer: serde_json::Value = serde_json::from_slice(&fs::read(&path).unwrap()).unwrap();
    let vocabulary = tokenizer["model"]["vocab"].as_object_mut().unwrap();
    vocabulary["##9"] = 76.into();
    fs::write(&path, tokenizer.to_string()).unwrap();
    let error = pack_and_load(folder.path(), WeightType::F32).unwrap_err().to_string();
    assert!(error.contains("the id 76, and the model knows 76 from 0"), "{error}");
}

#[test]
fn weights_that_are_no_safetensors_are_refused() {
    let folder = source();
    let id: VersionId = "tiny/v1".parse().unwrap();
    let repository = folder.path().join("repository");
    pack::pack(&folder.path().join("source"), &repository, &id, WeightType::F32).unwrap();
    // The manifest agrees with the file: only the content is not what it is said to be.
    let version = repository.join("tiny/v1");
    fs::write(version.join(WEIGHTS), b"not weights").unwrap();
    let manifest = version.join("manifest.json");
    let mut json: serde_json::Value = serde_json::from_slice(&fs::read(&manifest).unwrap()).unwrap();
    use sha2::Digest;
    let digest = crate::repository::hex(&sha2::Sha256::digest(b"not weights"));
    json["files"][WEIGHTS] = serde_json::json!({"sha256": digest, "bytes": 11});
    fs::write(manifest, json.to_string()).unwrap();

    let version = Repository::new(repository).open(&id).unwrap();
    let error = load(&version, &select(DeviceChoice::Cpu).unwrap()).unwrap_err();
    assert!(matches!(error, LoadError::Weights { .. }), "{error}");
}

#[cfg(not(feature = "cuda"))]
#[test]
fn a_gpu_that_is_not_there_is_an_error_only_when_demanded() {
    assert_eq!(select(DeviceChoice::Auto).unwrap().kind(), DeviceKind::Cpu);
    assert!(
        select(DeviceChoice::Cuda)
            .unwrap_err()
            .to_string()
            .contains("--device cpu")
    );
}
