//! Classes of content that a rule can forbid in a header.
//!
//! Each class is a matcher of its own over bytes rather than a list of words: what makes text dangerous is its shape (a
//! quote, then `or`, then a comparison), and words alone would refuse too many honest prompts. Every matcher runs in time
//! linear in the value. A value is judged as it is, percent-decoded, and percent-decoded twice, for servers behind may do
//! so; letters count in either case.
//!
//! A net, not a proof: it catches what scanners and copied payloads send. What reads a header must still treat it as data.

use crate::config::ContentClass;

mod decoding;
mod script;
mod sql;
mod template;
mod traversal;

#[cfg(test)]
mod tests;

/// The first of these classes that the value has content of.
pub(super) fn find(classes: &[ContentClass], value: &[u8]) -> Option<ContentClass> {
    if let Some(class) = find_in_view(classes, value) {
        return Some(class);
    }
    let once = decoding::percent_decode(value)?;
    if let Some(class) = find_in_view(classes, &once) {
        return Some(class);
    }
    let twice = decoding::percent_decode(&once)?;
    find_in_view(classes, &twice)
}

fn find_in_view(classes: &[ContentClass], view: &[u8]) -> Option<ContentClass> {
    let has = |class: &ContentClass| match class {
        ContentClass::SqlInjection => sql::is_in(view),
        ContentClass::ControlCharacters => view.iter().any(u8::is_ascii_control),
        ContentClass::PathTraversal => traversal::is_in(view),
        ContentClass::TemplateInjection => template::is_in(view),
        ContentClass::ScriptInjection => script::is_in(view),
    };
    classes.iter().copied().find(has)
}
