use super::*;

const ROUTING: &str = "
api_version: kilocard/v1
kind: RoutingPolicy
metadata: {name: minilm}
spec:
  model: minilm
  versions:
    - {version: v1, weight: 90}
    - {version: v2, weight: 10}
";

fn parse(text: &str) -> (Vec<Loaded>, Vec<Problem>) {
    let (mut loaded, mut problems) = (Vec::new(), Vec::new());
    parse_text("a.yaml", text, &mut loaded, &mut problems);
    (loaded, problems)
}

#[test]
fn several_documents_and_empty_ones_are_told_apart() {
    let (loaded, problems) = parse(&format!(
        "# only a comment\n---{ROUTING}---\napi_version: kilocard/v1\nkind: ValidationPolicy\nmetadata: {{name: default}}\nspec: {{}}\n---\n"
    ));
    assert_eq!(problems, []);
    let ids: Vec<String> = loaded.iter().map(|l| l.document.id()).collect();
    assert_eq!(ids, ["RoutingPolicy/minilm", "ValidationPolicy/default"]);
}

#[test]
fn json_is_read_as_well() {
    let json = r#"{"api_version": "kilocard/v1", "kind": "ValidationPolicy",
	"metadata": {"name": "default"}, "spec": {"limits": {"max_headers": 50}}}"#;
    let (loaded, problems) = parse(json);
    assert_eq!(problems, []);
    assert_eq!(loaded.len(), 1);
}

#[test]
fn every_error_of_every_document_is_reported_with_its_place() {
    let text = format!(
        "{}---\n{}",
        ROUTING
            .replace("weight: 10", "weight: 101")
            .replace("model: minilm", "model: MiniLM"),
        ROUTING.replace("RoutingPolicy", "Routing")
    );
    let (loaded, problems) = parse(&text);
    assert!(loaded.is_empty());
    let places: Vec<(Option<usize>, &str)> = problems.iter().map(|p| (p.origin.document, p.path.as_str())).collect();
    assert_eq!(
        places,
        [
            (Some(1), "spec.model"),
            (Some(1), "spec.versions[1].weight"),
            (Some(2), "kind")
        ]
    );
    let shown = problems[1].to_string();
    assert!(
        shown.starts_with("a.yaml, document 1 (RoutingPolicy/minilm), spec.versions[1].weight: "),
        "{shown}"
    );
}

#[test]
fn broken_yaml_is_reported_with_line_and_column() {
    let (loaded, problems) = parse("api_version: kilocard/v1\nkind: [RoutingPolicy\nmetadata: {name: a}\n");
    assert!(loaded.is_empty());
    assert_eq!(problems.len(), 1, "{problems:?}");
    let shown = problems[0].to_string();
    assert!(shown.contains("line") && shown.contains("column"), "{shown}");
}

#[test]
fn a_key_given_twice_is_an_error_and_not_the_last_one() {
    let (loaded, problems) = parse(&ROUTING.replace("  model: minilm", "  model: minilm\n  model: other"));
    assert!(loaded.is_empty());
    assert!(problems[0].message.contains("model"), "{problems:?}");
}

#[test]
fn a_document_is_not_called_by_what_would_harm_a_terminal() {
    for name in ["a\\e[2J", "a\\u202eb", &"a".repeat(100_000)] {
        let (_, problems) = parse(&ROUTING.replace("name: minilm", &format!("name: \"{name}\"")));
        let shown = problems[0].to_string();
        assert!(shown.starts_with("a.yaml, document 1, metadata.name: "), "{shown:?}");
        assert!(
            !shown.contains(['\u{1b}', '\u{202e}']) && shown.len() < 300,
            "{shown:?}"
        );
    }
}

#[test]
fn a_file_without_documents_is_an_error() {
    for text in ["", "# nothing\n", "---\n---\n"] {
        let (loaded, problems) = parse(text);
        assert!(loaded.is_empty());
        assert_eq!(problems[0].message, "holds no document", "{text:?}");
    }
}

#[test]
fn a_folder_is_read_in_order_and_only_its_documents() {
    let folder = tempfile::tempdir().unwrap();
    let write = |name: &str, text: &str| std::fs::write(folder.path().join(name), text).unwrap();
    write("b.yml", ROUTING);
    write("a.yaml", &ROUTING.replace("minilm", "bert"));
    write("README.md", "not a policy");
    let loaded = load(&[folder.path().display().to_string()]).unwrap();
    let ids: Vec<String> = loaded.iter().map(|l| l.document.id()).collect();
    assert_eq!(ids, ["RoutingPolicy/bert", "RoutingPolicy/minilm"]);
}

#[test]
fn unreadable_files_and_empty_folders_are_named_and_the_rest_is_still_checked() {
    let folder = tempfile::tempdir().unwrap();
    let path = |name: &str| folder.path().join(name).display().to_string();
    std::fs::create_dir(folder.path().join("empty")).unwrap();
    std::fs::write(folder.path().join("latin"), b"a: \xff").unwrap();
    std::fs::write(folder.path().join("bad.yaml"), "kind: 5").unwrap();
    let problems = load(&[path("missing"), path("empty"), path("latin"), path("bad.yaml")]).unwrap_err();
    for name in ["missing", "empty", "latin", "bad.yaml"] {
        assert!(
            problems.iter().any(|p| p.origin.file == path(name)),
            "{name}: {problems:?}"
        );
    }
}

#[test]
fn the_same_policy_twice_is_refused_with_both_places() {
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("a.yaml").display().to_string();
    std::fs::write(&path, format!("{ROUTING}---{ROUTING}")).unwrap();
    let problems = load(std::slice::from_ref(&path)).unwrap_err();
    assert_eq!(problems.len(), 1);
    assert_eq!(problems[0].origin.document, Some(2));
    assert!(problems[0].message.contains("document 1"), "{problems:?}");
}
