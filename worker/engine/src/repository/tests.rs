use super::*;
use crate::{pack, tiny_bert};
use manifest::WeightType;

/// A repository with `tiny/v1`, and the version's folder.
fn packed() -> (tempfile::TempDir, PathBuf) {
    let folder = tempfile::tempdir().unwrap();
    let source = folder.path().join("source");
    tiny_bert::write(&source, 1).unwrap();
    let repository = folder.path().join("repository");
    pack::pack(&source, &repository, &id("tiny/v1"), WeightType::F32).unwrap();
    let version = repository.join("tiny/v1");
    (folder, version)
}

fn id(text: &str) -> VersionId {
    text.parse().unwrap()
}

fn verify(version: &Path) -> Result<u64, RepositoryError> {
    Repository::new(version.parent().unwrap().parent().unwrap())
        .open(&id("tiny/v1"))?
        .verify()
}

#[test]
fn a_whole_version_verifies() {
    let (_folder, version) = packed();
    let expected: u64 = [CONFIG, WEIGHTS, TOKENIZER]
        .iter()
        .map(|name| fs::metadata(version.join(name)).unwrap().len())
        .sum();
    assert_eq!(verify(&version).unwrap(), expected);
}

#[test]
fn one_flipped_bit_is_found_and_named() {
    let (_folder, version) = packed();
    let path = version.join(WEIGHTS);
    let mut weights = fs::read(&path).unwrap();
    let middle = weights.len() / 2;
    weights[middle] ^= 1;
    fs::write(&path, weights).unwrap();
    let error = verify(&version).unwrap_err();
    let RepositoryError::Digest {
        path: found_path,
        expected,
        found,
    } = &error
    else {
        panic!("{error}")
    };
    assert_eq!(found_path, &path);
    assert_ne!(expected, found);
    assert!(error.to_string().contains(expected) && error.to_string().contains(found));
}

#[test]
fn a_file_cut_short_is_found_by_its_length() {
    let (_folder, version) = packed();
    let path = version.join(WEIGHTS);
    let len = fs::metadata(&path).unwrap().len();
    File::options()
        .write(true)
        .open(&path)
        .unwrap()
        .set_len(len - 1)
        .unwrap();
    assert!(
        matches!(verify(&version).unwrap_err(), RepositoryError::Size { expected, found, .. } if expected == len && found == len - 1)
    );
}

#[test]
fn missing_and_unlisted_files_are_named() {
    let (_folder, version) = packed();
    fs::write(version.join("notes.txt"), "hello").unwrap();
    let error = verify(&version).unwrap_err();
    assert!(
        matches!(&error, RepositoryError::Unlisted { path } if path.ends_with("notes.txt")),
        "{error}"
    );

    fs::remove_file(version.join("notes.txt")).unwrap();
    fs::remove_file(version.join(TOKENIZER)).unwrap();
    let error = verify(&version).unwrap_err();
    assert!(
        matches!(&error, RepositoryError::Missing { path, .. } if path.ends_with(TOKENIZER)),
        "{error}"
    );
}

#[test]
fn a_link_is_not_followed() {
    let (folder, version) = packed();
    let outside = folder.path().join("outside");
    fs::rename(version.join(CONFIG), &outside).unwrap();
    std::os::unix::fs::symlink(&outside, version.join(CONFIG)).unwrap();
    let error = verify(&version).unwrap_err();
    assert!(
        matches!(&error, RepositoryError::NotAFile { path } if path.ends_with(CONFIG)),
        "{error}"
    );
}

fn edit_manifest(version: &Path, edit: impl FnOnce(&mut serde_json::Value)) {
    let path = version.join(MANIFEST);
    let mut manifest = serde_json::from_slice(&fs::read(&path).unwrap()).unwrap();
    edit(&mut manifest);
    fs::write(path, manifest.to_string()).unwrap();
}

#[test]
fn a_manifest_cannot_name_files_outside_its_folder() {
    for name in ["../secret", "/etc/passwd", "a/b", "..", ".hidden", "", "manifest.json"] {
        let (_folder, version) = packed();
        edit_manifest(&version, |manifest| {
            manifest["files"][name] = manifest["files"][CONFIG].clone();
        });
        let error = verify(&version).unwrap_err().to_string();
        assert!(error.contains(&format!("{name:?} is no plain file name")), "{error}");
    }
}

#[test]
fn a_manifest_that_says_too_much_or_too_little_is_refused() {
    type Edit = fn(&mut serde_json::Value);
    let cases: [(Edit, &str); 6] = [
        (
            |manifest| manifest["format_version"] = 2.into(),
            "format_version is 2, and this release reads 1",
        ),
        (|manifest| manifest["surprise"] = 1.into(), "unknown field `surprise`"),
        (|manifest| manifest["pooling"] = "cls".into(), "unknown variant `cls`"),
        (
            |manifest| manifest["max_tokens"] = 2.into(),
            "max_tokens is 2, and the least is 3",
        ),
        (
            |manifest| manifest["files"][CONFIG]["sha256"] = "abc".into(),
            "is not 64 lower-case hexadecimal digits",
        ),
        (
            |manifest| {
                manifest["files"].as_object_mut().unwrap().remove(WEIGHTS);
            },
            "files: \"model.safetensors\" is missing",
        ),
    ];
    for (edit, message) in cases {
        let (_folder, version) = packed();
        edit_manifest(&version, edit);
        let error = verify(&version).unwrap_err().to_string();
        assert!(error.contains(message), "{error}");
    }
}

#[test]
fn an_unknown_version_is_answered_with_what_there_is() {
    let (_folder, version) = packed();
    let repository = Repository::new(version.parent().unwrap().parent().unwrap());
    assert_eq!(repository.versions().unwrap(), [id("tiny/v1")]);
    let error = repository.open(&id("tiny/v9")).unwrap_err().to_string();
    assert!(error.ends_with("holds no tiny/v9; it holds: tiny/v1"), "{error}");
}

#[test]
fn a_folder_without_a_manifest_says_how_to_make_one() {
    let (_folder, version) = packed();
    fs::remove_file(version.join(MANIFEST)).unwrap();
    assert!(
        verify(&version)
            .unwrap_err()
            .to_string()
            .contains("kilocard-worker pack")
    );
}
