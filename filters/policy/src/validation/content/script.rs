//! What a browser or a shell would run.

/// Whether there is a tag that runs or loads code, an attribute that handles an event, a URL whose scheme is code, or a
/// command substitution.
pub(super) fn is_in(view: &[u8]) -> bool {
    let mut in_tag = false;
    let mut before = None;
    let mut rest = view;
    // Most bytes begin nothing, and are passed over in one go.
    while let Some(at) = rest.iter().position(|byte| begins(*byte)) {
        let (passed, from) = rest.split_at_checked(at).unwrap_or_default();
        let Some((byte, after)) = from.split_first() else {
            return false;
        };
        before = passed.last().copied().or(before);
        rest = from;
        let begins_word = before.is_none_or(|byte| !is_of_word(byte));
        let found = match byte {
            b'<' => {
                in_tag = after.first().is_some_and(u8::is_ascii_alphabetic);
                is_active_tag(after)
            }
            b'>' => {
                in_tag = false;
                false
            }
            b'&' => in_tag && is_letter_entity(after),
            b'$' => is_substitution(after),
            b'o' | b'O' => in_tag && begins_word && is_handler(rest),
            b'j' | b'J' => begins_word && is_code_url(rest, b"javascript:", before),
            b'v' | b'V' => begins_word && is_code_url(rest, b"vbscript:", before),
            b'd' | b'D' => {
                begins_word && strip(rest, b"data:text/html").is_some_and(|it| matches!(it, [b',' | b';', ..]))
            }
            _ => false,
        };
        if found {
            return true;
        }
        before = Some(*byte);
        rest = after;
    }
    false
}

/// Whether anything that is looked for begins with this byte, or ends a tag.
fn begins(byte: u8) -> bool {
    matches!(
        byte,
        b'<' | b'>' | b'&' | b'$' | b'o' | b'O' | b'j' | b'J' | b'v' | b'V' | b'd' | b'D'
    )
}

/// Tags that need nothing else to do harm, and tags that do it by an attribute; `List<Object>` has none.
fn is_active_tag(after: &[u8]) -> bool {
    let begins =
        |name: &&[u8]| strip(after, name).is_some_and(|rest| rest.first().is_none_or(|byte| !is_of_word(*byte)));
    let with_attribute = |name: &&[u8]| {
        strip(after, name).is_some_and(|rest| rest.first().is_some_and(|byte| is_blank(*byte) || *byte == b'/'))
    };
    const ALONE: [&[u8]; 3] = [b"script", b"/script", b"iframe"];
    const WITH_ATTRIBUTE: [&[u8]; 7] = [b"object", b"embed", b"applet", b"base", b"meta", b"frame", b"link"];
    ALONE.iter().any(begins) || WITH_ATTRIBUTE.iter().any(with_attribute)
}

/// `onload =` and its like, within a tag.
fn is_handler(word: &[u8]) -> bool {
    let Some(rest) = strip(word, b"on") else {
        return false;
    };
    let letters = rest.iter().take_while(|byte| byte.is_ascii_alphabetic()).count();
    let after = rest.get(letters..).unwrap_or_default();
    let first = after.iter().find(|byte| !is_blank(**byte));
    (3..=24).contains(&letters) && first == Some(&b'=')
}

/// `javascript:` at the beginning of a word. "In JavaScript: how …" is prose: what goes on with a blank counts only right
/// after a quote, `=` or `(`.
fn is_code_url(word: &[u8], scheme: &[u8], before: Option<u8>) -> bool {
    let is_value = matches!(before, Some(b'"' | b'\'' | b'=' | b'('));
    strip(word, scheme).is_some_and(|rest| is_value || rest.first().is_some_and(|byte| !is_blank(*byte)))
}

/// `#106;` or `#x6a;`, a letter as an entity: honest writers spare themselves that.
fn is_letter_entity(after: &[u8]) -> bool {
    let (digits, radix) = match after {
        [b'#', b'x' | b'X', digits @ ..] => (digits, 16),
        [b'#', digits @ ..] => (digits, 10),
        _ => return false,
    };
    const LONGEST: usize = 8;
    let digits = digits
        .iter()
        .take(LONGEST)
        .map_while(|byte| char::from(*byte).to_digit(radix));
    let number = digits.fold(0_u32, |sum, digit| sum.saturating_mul(radix).saturating_add(digit));
    u8::try_from(number).is_ok_and(|byte| byte.is_ascii_alphabetic())
}

/// `(command …)` after a dollar: a name in lower case, then its end or an argument. Neither jQuery's `$('…')` and
/// `$(document)` nor a formula's `$(x+1)$`.
fn is_substitution(after: &[u8]) -> bool {
    let Some(command) = after.strip_prefix(b"(") else {
        return false;
    };
    const LONGEST: usize = 32;
    let of_command =
        |byte: &&u8| byte.is_ascii_lowercase() || byte.is_ascii_digit() || matches!(byte, b'/' | b'_' | b'-');
    let length = command.iter().take(LONGEST).take_while(of_command).count();
    let (name, rest) = command.split_at_checked(length).unwrap_or_default();
    length >= 2 && matches!(rest, [b' ' | b')', ..]) && !matches!(name, b"document" | b"window" | b"this")
}

/// What follows `word`, whatever its case. Browsers skip control characters within, so this does.
fn strip<'t>(text: &'t [u8], word: &[u8]) -> Option<&'t [u8]> {
    let mut rest = text;
    for expected in word {
        loop {
            let (byte, after) = rest.split_first()?;
            rest = after;
            if byte.eq_ignore_ascii_case(expected) {
                break;
            }
            if *byte >= 0x20 {
                return None;
            }
        }
    }
    Some(rest)
}

fn is_of_word(byte: u8) -> bool {
    byte.is_ascii_alphanumeric() || matches!(byte, b'_' | b'-')
}

fn is_blank(byte: u8) -> bool {
    byte <= b' '
}
