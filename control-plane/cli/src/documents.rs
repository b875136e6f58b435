//! Policy documents from files: YAML or JSON, several a file, folders, stdin.
//!
//! Every error of every document is collected, with file, document and path, before anything is done with any of them.

use kilocard_policy::config::{self, Document, Kind};
use serde::Deserialize;
use serde_json::{Value, json};
use std::collections::BTreeMap;
use std::fmt;
use std::io::Read;
use std::path::{Path, PathBuf};

/// The suffixes that are read in a folder.
const SUFFIXES: [&str; 3] = ["yaml", "yml", "json"];

/// Where a document was found.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Origin {
    /// Path as given, or `stdin`.
    pub file: String,
    /// Which document of the file, from 1; `None` if the file as a whole is meant.
    pub document: Option<usize>,
}

impl fmt::Display for Origin {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self.document {
            Some(number) => write!(f, "{}, document {number}", self.file),
            None => f.write_str(&self.file),
        }
    }
}

/// One thing wrong with what was given.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Problem {
    /// Where.
    pub origin: Origin,
    /// `Kind/name`, as far as the document tells.
    pub policy: Option<String>,
    /// Path within the document, empty for all of it.
    pub path: String,
    /// What is wrong.
    pub message: String,
}

impl Problem {
    fn of_file(file: &str, message: String) -> Self {
        Self {
            origin: Origin {
                file: file.to_owned(),
                document: None,
            },
            policy: None,
            path: String::new(),
            message,
        }
    }

    /// For `--output json`.
    pub fn to_json(&self) -> Value {
        json!({
            "file": self.origin.file, "document": self.origin.document, "policy": self.policy,
            "path": self.path, "message": self.message,
        })
    }
}

impl fmt::Display for Problem {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}", self.origin)?;
        if let Some(policy) = &self.policy {
            write!(f, " ({policy})")?;
        }
        if !self.path.is_empty() {
            write!(f, ", {}", self.path)?;
        }
        write!(f, ": {}", self.message)
    }
}

/// A valid document and where it was found.
#[derive(Clone, Debug)]
pub struct Loaded {
    /// Where.
    pub origin: Origin,
    /// What.
    pub document: Document,
}

/// Reads all documents of all files, folders and stdin (`-`).
///
/// # Errors
/// Every [`Problem`] there is: unreadable files, syntax, violations, a policy given twice.
pub fn load(files: &[String]) -> Result<Vec<Loaded>, Vec<Problem>> {
    let mut loaded = Vec::new();
    let mut problems = Vec::new();
    for file in files {
        match read(file) {
            Ok(texts) => {
                for (name, text) in texts {
                    parse_text(&name, &text, &mut loaded, &mut problems);
                }
            }
            Err(problem) => problems.push(problem),
        }
    }
    refuse_repetitions(&loaded, &mut problems);
    if problems.is_empty() { Ok(loaded) } else { Err(problems) }
}

/// The texts behind one `-f`: a folder holds several.
fn read(file: &str) -> Result<Vec<(String, String)>, Problem> {
    let cannot = |name: &str, error: &std::io::Error| Problem::of_file(name, format!("cannot be read: {error}"));
    if file == "-" {
        let mut text = String::new();
        std::io::stdin()
            .read_to_string(&mut text)
            .map_err(|error| cannot("stdin", &error))?;
        return Ok(vec![("stdin".to_owned(), text)]);
    }
    let paths = if Path::new(file).is_dir() {
        list(Path::new(file)).map_err(|error| cannot(file, &error))?
    } else {
        vec![PathBuf::from(file)]
    };
    if paths.is_empty() {
        return Err(Problem::of_file(
            file,
            format!("holds no file that ends in .{}", SUFFIXES.join(", .")),
        ));
    }
    let read_one = |path: PathBuf| {
        let name = path.display().to_string();
        let text = std::fs::read_to_string(&path).map_err(|error| cannot(&name, &error))?;
        Ok((name, text))
    };
    paths.into_iter().map(read_one).collect()
}

fn list(folder: &Path) -> std::io::Result<Vec<PathBuf>> {
    let mut paths = Vec::new();
    for entry in std::fs::read_dir(folder)? {
        let path = entry?.path();
        let wanted = path
            .extension()
            .and_then(|suffix| suffix.to_str())
            .is_some_and(|s| SUFFIXES.contains(&s));
        if wanted && path.is_file() {
            paths.push(path);
        }
    }
    paths.sort();
    Ok(paths)
}

fn parse_text(file: &str, text: &str, loaded: &mut Vec<Loaded>, problems: &mut Vec<Problem>) {
    let mut seen = 0;
    for (index, part) in serde_norway::Deserializer::from_str(text).enumerate() {
        let origin = Origin {
            file: file.to_owned(),
            document: Some(index + 1),
        };
        // By way of a YAML value, because a JSON value would silently keep the last of two equal keys.
        let value = match serde_norway::Value::deserialize(part) {
            // What stands after a last `---`, or is only comments.
            Ok(serde_norway::Value::Null) => continue,
            Ok(value) => value,
            Err(error) => {
                seen += 1;
                let syntax = error.location().is_some();
                problems.push(Problem {
                    origin,
                    policy: None,
                    path: String::new(),
                    message: yaml_error(&error),
                });
                if syntax {
                    // The rest of the text cannot be told apart any more.
                    break;
                }
                continue;
            }
        };
        seen += 1;
        match to_document(&value) {
            Ok(document) => loaded.push(Loaded { origin, document }),
            Err((policy, violations)) => problems.extend(violations.into_iter().map(|violation| Problem {
                origin: origin.clone(),
                policy: policy.clone(),
                path: violation.path,
                message: violation.message,
            })),
        }
    }
    if seen == 0 {
        problems.push(Problem::of_file(file, "holds no document".to_owned()));
    }
}

fn yaml_error(error: &serde_norway::Error) -> String {
    let message = error.to_string();
    match error.location() {
        Some(at) if !message.contains("line") => {
            format!("is not YAML: {message} at line {} column {}", at.line(), at.column())
        }
        _ => format!("is not YAML: {message}"),
    }
}

type Violations = (Option<String>, Vec<config::Violation>);

fn to_document(value: &serde_norway::Value) -> Result<Document, Violations> {
    let whole = |message: String| {
        vec![config::Violation {
            path: String::new(),
            message,
        }]
    };
    let bytes = serde_json::to_vec(value)
        .map_err(|error| (None, whole(format!("has a part that JSON cannot hold: {error}"))))?;
    config::parse_bytes(&bytes).map_err(|violations| (policy_named_in(value), violations))
}

/// `Kind/name` of a document that may be anything; `None` unless it is a kind and a name, since it is shown as it stands.
fn policy_named_in(value: &serde_norway::Value) -> Option<String> {
    let kind: Kind = value.get("kind")?.as_str()?.parse().ok()?;
    let name = value.get("metadata")?.get("name")?.as_str()?;
    config::is_name(name).then(|| format!("{kind}/{name}"))
}

fn refuse_repetitions(loaded: &[Loaded], problems: &mut Vec<Problem>) {
    let mut first: BTreeMap<String, &Origin> = BTreeMap::new();
    for Loaded { origin, document } in loaded {
        let id = document.id();
        match first.get(&id) {
            Some(earlier) => problems.push(Problem {
                origin: origin.clone(),
                policy: Some(id),
                path: String::new(),
                message: format!("is given twice; it is already in {earlier}"),
            }),
            None => {
                first.insert(id, origin);
            }
        }
    }
}

#[cfg(test)]
mod tests;
