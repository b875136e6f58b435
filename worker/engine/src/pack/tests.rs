use super::*;
use crate::{repository::Repository, tiny_bert};
use safetensors::{Dtype, SafeTensors};

fn id(text: &str) -> VersionId {
    text.parse().unwrap()
}

fn source() -> tempfile::TempDir {
    let folder = tempfile::tempdir().unwrap();
    tiny_bert::write(folder.path(), 1).unwrap();
    folder
}

#[test]
fn a_packed_version_verifies_and_keeps_the_publishers_weights() {
    let (source, repository) = (source(), tempfile::tempdir().unwrap());
    let manifest = pack(source.path(), repository.path(), &id("tiny/v1"), WeightType::F32).unwrap();

    assert_eq!((manifest.max_tokens, manifest.normalize), (tiny_bert::MAX_TOKENS, true));
    let version = Repository::new(repository.path()).open(&id("tiny/v1")).unwrap();
    assert_eq!(version.manifest(), &manifest);
    version.verify().unwrap();
    assert_eq!(
        version.read(WEIGHTS).unwrap(),
        fs::read(source.path().join(WEIGHTS)).unwrap()
    );
}

#[test]
fn half_precision_rounds_every_weight_to_its_nearest() {
    let (source, repository) = (source(), tempfile::tempdir().unwrap());
    pack(source.path(), repository.path(), &id("tiny/v2"), WeightType::F16).unwrap();

    let original = fs::read(source.path().join(WEIGHTS)).unwrap();
    let packed = Repository::new(repository.path())
        .open(&id("tiny/v2"))
        .unwrap()
        .read(WEIGHTS)
        .unwrap();
    let (original, packed) = (
        SafeTensors::deserialize(&original).unwrap(),
        SafeTensors::deserialize(&packed).unwrap(),
    );
    assert_eq!(original.len(), packed.len());
    for (name, view) in original.iter() {
        let halves = packed.tensor(name).unwrap();
        assert_eq!((halves.dtype(), halves.shape()), (Dtype::F16, view.shape()));
        for (single, half) in view.data().chunks_exact(4).zip(halves.data().chunks_exact(2)) {
            let single = f32::from_le_bytes(single.try_into().unwrap());
            let half = half::f16::from_le_bytes(half.try_into().unwrap()).to_f32();
            assert!(
                (single - half).abs() <= single.abs() / 2048.0 + 1e-7,
                "{name}: {single} became {half}"
            );
        }
    }
}

#[test]
fn a_weight_beyond_half_precision_is_refused_by_name() {
    let data = 70_000_f32.to_le_bytes();
    let view = safetensors::tensor::TensorView::new(Dtype::F32, vec![1], &data).unwrap();
    let file = safetensors::serialize([("encoder.big", view)], None).unwrap();
    let error = weights::encode(file, WeightType::F16).unwrap_err();
    assert_eq!(
        error.to_string(),
        "tensor encoder.big holds 70000, which is outside the range of F16"
    );
}

#[test]
fn a_version_is_never_overwritten() {
    let (source, repository) = (source(), tempfile::tempdir().unwrap());
    pack(source.path(), repository.path(), &id("tiny/v1"), WeightType::F32).unwrap();
    let error = pack(source.path(), repository.path(), &id("tiny/v1"), WeightType::F16).unwrap_err();
    assert!(matches!(error, PackError::Exists(_)), "{error}");
}

#[test]
fn a_failed_pack_leaves_nothing_behind() {
    let (source, repository) = (source(), tempfile::tempdir().unwrap());
    fs::remove_file(source.path().join(TOKENIZER)).unwrap();
    let error = pack(source.path(), repository.path(), &id("tiny/v1"), WeightType::F32).unwrap_err();
    assert!(error.to_string().contains("tokenizer.json"), "{error}");
    assert_eq!(fs::read_dir(repository.path().join("tiny")).unwrap().count(), 0);
}

#[test]
fn other_pooling_is_refused() {
    let (source, repository) = (source(), tempfile::tempdir().unwrap());
    fs::create_dir(source.path().join("1_Pooling")).unwrap();
    fs::write(
        source.path().join("1_Pooling/config.json"),
        r#"{"pooling_mode_cls_token": true}"#,
    )
    .unwrap();
    let error = pack(source.path(), repository.path(), &id("tiny/v1"), WeightType::F32).unwrap_err();
    assert!(
        error
            .to_string()
            .ends_with("only pooling_mode_mean_tokens is supported"),
        "{error}"
    );
}
