//! Which resources of a refused response a NACK is about. Pure.
//!
//! A NACK refuses a response and says why in words. Envoy applies its clusters and listeners one by one and names those that
//! failed: `Error adding/updating cluster(s) NAME: reason, NAME: reason`; of other types it says what is wrong, and
//! sometimes the name. A client that names nothing may mean any of them.

use std::collections::BTreeMap;

/// How much of a message is looked at: far more than Envoy writes of one resource.
const MAX_MESSAGE_BYTES: usize = 16 << 10;

/// How protobuf marks a message that is printed for people.
const DUMP: &str = "goo.gle/debug";

/// A name in a message, from `start` to `end`.
struct Mention<'a> {
    start: usize,
    end: usize,
    name: &'a str,
    /// Whether the reason follows.
    heading: bool,
}

/// What a client says, without what it repeats of the resources: Envoy prints all of one before what it has against a field of it,
/// of a cluster more than anyone reads, and of a secret its key. The name stays, if it comes first: there may be no other.
pub(super) fn without_dumps(message: &str) -> String {
    let (mut said, mut rest) = (String::new(), message);
    while let Some((before, dump)) = rest.split_once(DUMP) {
        said.push_str(before);
        let first = dump.lines().nth(1).unwrap_or_default();
        if let Some((_, name)) = first.split_once("name: ") {
            said.push_str(name);
            said.push_str(": ");
        }
        // Line breaks within values are escaped. A dump that was cut off takes the rest.
        rest = dump.split_once("\n: ").map_or("", |(_, after)| after);
    }
    said.push_str(rest);
    if said.trim().is_empty() && !message.is_empty() {
        return "refused, and nothing said but the resource itself".to_owned();
    }
    said
}

/// The resources at fault, of those that were in the response, each with the reason.
pub(super) fn blame<'a>(message: &str, names: impl Iterator<Item = &'a str> + Clone) -> BTreeMap<&'a str, String> {
    let whole = message;
    let message = head(message);
    let mut mentions: Vec<Mention<'a>> = names.clone().flat_map(|name| mentions(message, name)).collect();
    if mentions.iter().any(|mention| mention.heading) {
        mentions.retain(|mention| mention.heading);
        mentions.sort_by_key(|mention| mention.start);
        return by_heading(message, &mentions);
    }
    if mentions.is_empty() {
        return names.map(|name| (name, whole.to_owned())).collect();
    }
    let named = mentions.into_iter();
    named.map(|mention| (mention.name, whole.to_owned())).collect()
}

fn head(message: &str) -> &str {
    let end = (0..=MAX_MESSAGE_BYTES.min(message.len())).rfind(|end| message.is_char_boundary(*end));
    end.and_then(|end| message.get(..end)).unwrap_or_default()
}

/// What stands between the headings. A name that has several is told them all.
fn by_heading<'a>(message: &str, headings: &[Mention<'a>]) -> BTreeMap<&'a str, String> {
    let mut reasons: BTreeMap<&str, String> = BTreeMap::new();
    let ends = headings
        .iter()
        .skip(1)
        .map(|next| next.start)
        .chain(std::iter::once(message.len()));
    for (heading, end) in headings.iter().zip(ends) {
        let text = message.get(heading.end..end).unwrap_or_default();
        let text = text.trim_start_matches(':').trim().trim_end_matches(',').trim_end();
        let reason = reasons.entry(heading.name).or_default();
        if !reason.is_empty() {
            reason.push_str("; ");
        }
        reason.push_str(text);
    }
    reasons
}

/// Where the name stands as a word of its own.
fn mentions<'a>(message: &str, name: &'a str) -> Vec<Mention<'a>> {
    if name.is_empty() {
        return Vec::new();
    }
    let found = message.match_indices(name).filter_map(|(start, _)| {
        let end = start + name.len();
        let (before, after) = (message.get(..start)?, message.get(end..)?);
        let whole = !before.ends_with(is_name) && !continues(after);
        let first = before.is_empty() || before.ends_with([' ', '\n', '\'', '"', '(']);
        whole.then(|| Mention {
            start,
            end,
            name,
            heading: first && after.starts_with(": "),
        })
    });
    found.collect()
}

fn is_name(c: char) -> bool {
    c.is_ascii_alphanumeric() || matches!(c, '-' | '_' | '/' | '.')
}

/// Whether the name goes on; a full stop may as well end the sentence.
fn continues(after: &str) -> bool {
    let mut rest = after.chars();
    match rest.next() {
        Some('.') => rest.next().is_some_and(is_name),
        Some(c) => is_name(c),
        None => false,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn blamed<'a>(message: &str, names: &[&'a str]) -> Vec<(&'a str, String)> {
        blame(message, names.iter().copied()).into_iter().collect()
    }

    #[test]
    fn clusters_that_envoy_names_are_told_apart_from_those_that_it_took() {
        let message = "Error adding/updating cluster(s) bert/v1: Protobuf message (type x) has unknown fields, with a comma, \
                       bert/v10: no healthy idea";
        let names = ["bert/v1", "bert/v10", "minilm/v1"];
        let expected = [
            (
                "bert/v1",
                "Protobuf message (type x) has unknown fields, with a comma".to_owned(),
            ),
            ("bert/v10", "no healthy idea".to_owned()),
        ];
        assert_eq!(blamed(message, &names), expected);
    }

    #[test]
    fn what_envoy_repeats_of_a_resource_is_left_out() {
        let message = "goo.gle/debugproto   \nname: \"bert/v1\"\nlb_policy: 99\neds {\n}\n: Proto constraint validation failed \
                       (LbPolicy: unknown), goo.gle/debugonly \nnode {\n  id: \"a\\n: b\"\n}\n: no idea";
        let said = without_dumps(message);
        assert_eq!(
            said,
            "\"bert/v1\": Proto constraint validation failed (LbPolicy: unknown), no idea"
        );
        assert_eq!(blamed(&said, &["bert/v1", "bert/v2"]), [("bert/v1", said.clone())]);
        assert_eq!(without_dumps("cut off: goo.gle/debugproto \nkey: \"a"), "cut off: ");
        assert_eq!(without_dumps("plain\n: words"), "plain\n: words");
        assert_eq!(
            without_dumps("goo.gle/debugproto key: \"a\""),
            "refused, and nothing said but the resource itself"
        );
    }

    #[test]
    fn listeners_come_line_by_line() {
        let message =
            "Error adding/updating listener(s) gateway: error adding listener '0.0.0.0:80': bind\nother: bad\n";
        let expected = [
            ("gateway", "error adding listener '0.0.0.0:80': bind".to_owned()),
            ("other", "bad".to_owned()),
        ];
        assert_eq!(blamed(message, &["gateway", "other", "third"]), expected);
    }

    #[test]
    fn a_name_in_the_middle_of_a_sentence_is_enough() {
        let message = "Unable to create Wasm plugin kilocard-gateway.";
        assert_eq!(
            blamed(message, &["kilocard", "kilocard-gateway"]),
            [("kilocard-gateway", message.to_owned())]
        );
    }

    #[test]
    fn words_that_name_nothing_concern_everything_that_was_sent() {
        let message = "invalid: no field";
        let expected = [("a", message.to_owned()), ("b", message.to_owned())];
        assert_eq!(blamed(message, &["a", "b"]), expected);
        assert_eq!(blamed("", &["a"]), [("a", String::new())]);
        assert_eq!(blamed("x", &[]), []);
    }

    proptest::proptest! {
        #[test]
        fn somebody_is_always_to_blame(message in "[ab/:, \n.é]{0,40}", names in proptest::collection::btree_set("[ab/.]{1,4}", 1..5)) {
            let blamed = blame(&message, names.iter().map(String::as_str));
            proptest::prop_assert!(!blamed.is_empty());
            proptest::prop_assert!(blamed.keys().all(|name| names.contains(*name)));
        }
    }
}
