//! Names of models and versions.

use std::{cmp::Ordering, fmt, str::FromStr};

/// The longest name. It becomes part of a cluster name and of a header value.
const MAX_LEN: usize = 63;

/// A model's or a version's name: `[a-z0-9][a-z0-9._-]{0,62}`, the grammar of the policies that route to it. Ordered as
/// people number versions: `v2` before `v10`.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
pub struct Name(String);

/// A name that breaks the grammar.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum NameError {
    /// Not a name.
    #[error(
        "{0:?} is no name of a model or a version: 1 to 63 of a-z, 0-9, '.', '_' and '-', the first a letter or a digit"
    )]
    Grammar(String),
    /// Not of the form `model/version`.
    #[error("{0:?} is not of the form model/version")]
    NotAVersion(String),
}

impl Name {
    /// The name as text.
    pub fn as_str(&self) -> &str {
        &self.0
    }
}

impl fmt::Display for Name {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.0)
    }
}

impl FromStr for Name {
    type Err = NameError;

    fn from_str(text: &str) -> Result<Self, NameError> {
        let plain = |byte: u8| byte.is_ascii_lowercase() || byte.is_ascii_digit();
        let fits = text.len() <= MAX_LEN
            && text.bytes().next().is_some_and(plain)
            && text
                .bytes()
                .all(|byte| plain(byte) || matches!(byte, b'.' | b'_' | b'-'));
        if fits {
            Ok(Self(text.to_owned()))
        } else {
            Err(NameError::Grammar(text.to_owned()))
        }
    }
}

impl PartialOrd for Name {
    fn partial_cmp(&self, other: &Self) -> Option<Ordering> {
        Some(self.cmp(other))
    }
}

impl Ord for Name {
    fn cmp(&self, other: &Self) -> Ordering {
        runs(&self.0).cmp(runs(&other.0)).then_with(|| self.0.cmp(&other.0))
    }
}

/// A run of digits or of other characters; digits by their value (more digits without leading zeros: greater).
#[derive(PartialEq, Eq, PartialOrd, Ord)]
enum Run<'a> {
    Digits(usize, &'a str),
    Other(&'a str),
}

fn runs(text: &str) -> impl Iterator<Item = Run<'_>> {
    let mut rest = text;
    std::iter::from_fn(move || {
        let digits = rest.bytes().next()?.is_ascii_digit();
        let end = rest
            .bytes()
            .position(|byte| byte.is_ascii_digit() != digits)
            .unwrap_or(rest.len());
        let (run, after) = rest.split_at(end);
        rest = after;
        Some(if digits {
            let value = run.trim_start_matches('0');
            Run::Digits(value.len(), value)
        } else {
            Run::Other(run)
        })
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn names_are_what_policies_can_name() {
        for good in ["v1", "minilm", "all-minilm-l6_v2", "2026.11", &"a".repeat(63)] {
            assert_eq!(good.parse::<Name>().unwrap().as_str(), good);
        }
        for bad in [
            "",
            ".",
            "..",
            ".hidden",
            "a/b",
            "V1",
            "a b",
            "é",
            "-v1",
            &"a".repeat(64),
        ] {
            assert_eq!(bad.parse::<Name>(), Err(NameError::Grammar(bad.to_owned())));
        }
    }

    #[test]
    fn versions_are_ordered_by_their_numbers() {
        let mut names: Vec<Name> = ["v10", "v2", "v1.10", "v1.9", "v1", "canary", "007", "7"]
            .map(|name| name.parse().unwrap())
            .to_vec();
        names.sort();
        let sorted: Vec<_> = names.iter().map(Name::as_str).collect();
        assert_eq!(sorted, ["007", "7", "canary", "v1", "v1.9", "v1.10", "v2", "v10"]);
    }
}
