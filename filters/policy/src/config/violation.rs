//! What is wrong with a document, and where.

use std::fmt;

use serde::Serialize;

use super::limits::MAX_VIOLATIONS;

/// One thing wrong with a document.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
pub struct Violation {
    /// Where, like `spec.versions[1].weight`; empty for the whole document. A violation between documents begins with
    /// the document it is blamed on: `RoutingPolicy/minilm: spec.model`.
    pub path: String,
    /// What is wrong and what would be right. Holds no control characters, whatever was in the document.
    pub message: String,
}

impl fmt::Display for Violation {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        if self.path.is_empty() {
            f.write_str(&self.message)
        } else {
            write!(f, "{}: {}", self.path, self.message)
        }
    }
}

impl std::error::Error for Violation {}

/// Gathers violations; bounded, because a hostile document may hold one for every few bytes.
#[derive(Debug, Default)]
pub(crate) struct Violations {
    kept: Vec<Violation>,
    left_out: usize,
}

impl Violations {
    /// What is beyond the bound is counted, and its path never made text.
    pub(crate) fn add(&mut self, path: impl Into<String>, message: impl Into<String>) {
        if self.kept.len() < MAX_VIOLATIONS {
            self.kept.push(Violation {
                path: path.into(),
                message: message.into(),
            });
        } else {
            self.left_out += 1;
        }
    }

    pub(super) fn extend(&mut self, prefix: &str, violations: Vec<Violation>) {
        for violation in violations {
            let path = match violation.path.as_str() {
                "" => prefix.to_owned(),
                path => format!("{prefix}.{path}"),
            };
            self.add(path, violation.message);
        }
    }

    /// The value, if nothing was wrong with it; `None` as value without a violation cannot come out.
    pub(crate) fn finish<T>(mut self, value: Option<T>) -> Result<T, Vec<Violation>> {
        if self.left_out > 0 {
            let message = format!("{} further violations are left out", self.left_out);
            self.kept.push(Violation {
                path: String::new(),
                message,
            });
        }
        match value {
            Some(value) if self.kept.is_empty() => Ok(value),
            _ => Err(self.kept),
        }
    }
}

/// Text of unknown origin as it may appear in a message: escaped and cut to a readable length.
pub(super) fn quote(text: &str) -> String {
    const SHOWN: usize = 48;
    let shown: String = text.chars().take(SHOWN).flat_map(char::escape_debug).collect();
    let cut = if text.chars().nth(SHOWN).is_some() { "…" } else { "" };
    format!("`{shown}{cut}`")
}

#[cfg(test)]
mod tests {
    use super::*;

    struct Untold;

    impl From<Untold> for String {
        fn from(_: Untold) -> Self {
            panic!("a violation beyond the bound was made text")
        }
    }

    #[test]
    fn a_violation_that_is_left_out_costs_no_text() {
        let mut out = Violations::default();
        for _ in 0..MAX_VIOLATIONS {
            out.add("here", "is wrong");
        }
        out.add(Untold, "is wrong");
        let found = out.finish(Some(())).unwrap_err();
        assert_eq!(found[MAX_VIOLATIONS].message, "1 further violations are left out");
    }
}
