//! Regular expressions for gRPC clients, which read RE2's syntax (C++, Go and Java alike).
//!
//! A client refuses a whole route configuration for one expression that it cannot read, and one that it reads otherwise would
//! match otherwise. So of the expressions that policies may use only those pass that mean the same in both: RE2's manual of its
//! syntax against that of the crate `regex_lite`.

use std::fmt::Write;

/// Whether an expression, which `regex_lite` has accepted, means the same to RE2.
pub(super) fn is_portable(pattern: &str) -> bool {
    let mut rest = pattern.chars().peekable();
    // What stood before: an operator that repeats may not follow another, but for one `?` that makes it lazy.
    let mut repeated = 0u8;
    while let Some(character) = rest.next() {
        let repeats = matches!(character, '*' | '+' | '?' | '{');
        match character {
            '\\' if !rest.next().is_some_and(is_portable_escape) => return false,
            // Groups with flags or names.
            '(' if rest.peek() == Some(&'?') && !(rest.next().is_some() && rest.next() == Some(':')) => return false,
            '[' if !skip_class(&mut rest) => return false,
            '{' if !skip_count(&mut rest) => return false,
            '*' | '+' | '{' if repeated > 0 => return false,
            '?' if repeated > 1 => return false,
            _ => {}
        }
        repeated = if repeats { repeated + 1 } else { 0 };
    }
    true
}

/// Classes of characters, and characters that are meant literally. Not `\b{start}` and its like, nor `\<`: an assertion to
/// one, a character to the other.
fn is_portable_escape(escaped: char) -> bool {
    matches!(escaped, 'd' | 'D' | 's' | 'S' | 'w' | 'W')
        || (escaped.is_ascii_punctuation() && !matches!(escaped, '<' | '>'))
}

/// To the end of a class without classes within and without operators on sets.
fn skip_class(rest: &mut std::iter::Peekable<std::str::Chars<'_>>) -> bool {
    let (mut last, mut first) = ('[', true);
    while let Some(character) = rest.next() {
        match character {
            ']' if !first => return true,
            '^' if first && last == '[' => {
                last = '^';
                continue;
            }
            '[' => return false,
            '\\' if !rest.next().is_some_and(is_portable_escape) => return false,
            '&' | '-' | '~' if last == character => return false,
            _ => {}
        }
        (last, first) = (character, false);
    }
    false
}

/// To the end of `{n}`, `{n,}` or `{n,m}`.
fn skip_count(rest: &mut std::iter::Peekable<std::str::Chars<'_>>) -> bool {
    /// RE2 repeats at most so often.
    const MOST: u32 = 1000;
    let text: String = rest.by_ref().take_while(|character| *character != '}').collect();
    let (least, most) = text.split_once(',').unwrap_or((&text, ""));
    let is_count = |text: &str| text.parse::<u32>().is_ok_and(|count| count <= MOST) && !text.starts_with('+');
    is_count(least) && (most.is_empty() || is_count(most))
}

/// One that matches exactly these texts of printable ASCII.
pub(super) fn one_of<'t>(texts: impl Iterator<Item = &'t str>) -> String {
    texts.map(quote).collect::<Vec<_>>().join("|")
}

/// RE2's `QuoteMeta`.
pub(super) fn quote(text: &str) -> String {
    text.chars().fold(String::new(), |mut quoted, character| {
        let plain = character.is_ascii_alphanumeric() || character == '_';
        let _ = write!(quoted, "{}{character}", if plain { "" } else { "\\" });
        quoted
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_both_read_alike_passes() {
        for pattern in [
            "[a-z0-9-]{1,128}",
            "v[0-9]+(?:\\.[0-9]+)*",
            "a|b|",
            "beta-.*?",
            "[^,]+",
            "[]a]",
            "\\d{2,}\\-x?",
            "(a+)+",
        ] {
            assert!(is_portable(pattern), "{pattern}");
        }
    }

    #[test]
    fn what_one_of_them_refuses_or_reads_otherwise_does_not() {
        for pattern in [
            "(?i)beta",
            "(?P<name>a)",
            "(?<name>a)",
            "\\b{start}a",
            "\\bword\\b",
            "\\<a",
            "\\x41",
            "\\x{41}",
            "[[:alpha:]]",
            "[a-z&&b]",
            "a**",
            "a{2}{3}",
            "a{,3}",
            "a???",
            "a{1001}",
            "a{ 1 }",
        ] {
            assert!(!is_portable(pattern), "{pattern}");
        }
    }

    #[test]
    fn texts_are_meant_literally() {
        assert_eq!(one_of(["a.b", "c|d_1"].into_iter()), r"a\.b|c\|d_1");
    }
}
