//! A typed walk over a JSON value that remembers where it is and never stops at the first thing wrong.

use std::collections::HashMap;
use std::fmt::Display;
use std::ops::RangeInclusive;

use serde_json::{Map, Value};

use super::violation::{Violations, quote};

/// A value and its path.
pub(super) struct Node<'v> {
    path: String,
    value: &'v Value,
}

impl<'v> Node<'v> {
    pub(super) fn root(value: &'v Value) -> Self {
        Self {
            path: String::new(),
            value,
        }
    }

    pub(super) fn path(&self) -> &str {
        &self.path
    }

    pub(super) fn value(&self) -> &'v Value {
        self.value
    }

    /// An object that has no other fields than `allowed`.
    pub(super) fn object(&self, allowed: &'static [&'static str], out: &mut Violations) -> Option<Object<'v>> {
        let Value::Object(fields) = self.value else {
            self.wrong_type("an object", out);
            return None;
        };
        for name in fields.keys().filter(|name| !allowed.contains(&name.as_str())) {
            out.add(
                join(&self.path, name),
                format!("unknown field; the fields here are {}", allowed.join(", ")),
            );
        }
        Some(Object {
            path: self.path.clone(),
            fields,
        })
    }

    /// An array of a length within `length`; its elements with their paths.
    pub(super) fn array(&self, length: RangeInclusive<usize>, out: &mut Violations) -> Option<Vec<Node<'v>>> {
        let Value::Array(elements) = self.value else {
            self.wrong_type("an array", out);
            return None;
        };
        if !length.contains(&elements.len()) {
            let (min, max) = length.into_inner();
            out.add(
                self.path.as_str(),
                format!("has {} elements; {min} to {max} are allowed", elements.len()),
            );
            return None;
        }
        let node = |(index, value)| Node {
            path: format!("{}[{index}]", self.path),
            value,
        };
        Some(elements.iter().enumerate().map(node).collect())
    }

    /// A list of a length within `length`; `None` if any of its elements is wrong. `read` is asked about every one.
    pub(super) fn list<T>(
        &self,
        length: RangeInclusive<usize>,
        out: &mut Violations,
        mut read: impl FnMut(&Node<'v>, &mut Violations) -> Option<T>,
    ) -> Option<Vec<T>> {
        let elements = self.array(length, out)?;
        let count = elements.len();
        let list: Vec<T> = elements.into_iter().filter_map(|element| read(&element, out)).collect();
        (list.len() == count).then_some(list)
    }

    /// The same; no two elements have one key.
    pub(super) fn distinct<T>(
        &self,
        length: RangeInclusive<usize>,
        key: &Key<T>,
        out: &mut Violations,
        mut read: impl FnMut(&Node<'v>, &mut Violations) -> Option<T>,
    ) -> Option<Vec<T>> {
        let path = &self.path;
        let mut first_at = HashMap::new();
        let mut index = 0;
        self.list(length, out, |element, out| {
            let here = index;
            index += 1;
            let value = read(element, out)?;
            let text = (key.of)(&value);
            if let Some(first) = first_at.get(&text) {
                let message = format!("{} is already in {path}[{first}]", quote(&text));
                out.add(format!("{path}[{here}]{}", key.field), message);
                return None;
            }
            first_at.insert(text, here);
            Some(value)
        })
    }

    /// A list of values that differ.
    pub(super) fn set<T: Display>(
        &self,
        length: RangeInclusive<usize>,
        out: &mut Violations,
        read: impl FnMut(&Node<'v>, &mut Violations) -> Option<T>,
    ) -> Option<Vec<T>> {
        let key = Key {
            field: "",
            of: T::to_string,
        };
        self.distinct(length, &key, out, read)
    }

    /// The fields of an object that may have any: their names and values.
    pub(super) fn entries(&self, out: &mut Violations) -> Option<Vec<(&'v str, Node<'v>)>> {
        let Value::Object(fields) = self.value else {
            self.wrong_type("an object", out);
            return None;
        };
        let node = |(name, value): (&'v String, &'v Value)| {
            let node = Node {
                path: join(&self.path, name),
                value,
            };
            (name.as_str(), node)
        };
        Some(fields.iter().map(node).collect())
    }

    /// One of some words.
    pub(super) fn choice<T: Copy>(
        &self,
        choices: &[T],
        word: impl Fn(T) -> &'static str,
        out: &mut Violations,
    ) -> Option<T> {
        let text = self.string(out)?;
        let found = choices.iter().copied().find(|choice| word(*choice) == text);
        if found.is_none() {
            let words: Vec<_> = choices.iter().map(|choice| word(*choice)).collect();
            out.add(
                self.path(),
                format!("{} is not one of {}", quote(text), words.join(", ")),
            );
        }
        found
    }

    pub(super) fn string(&self, out: &mut Violations) -> Option<&'v str> {
        let Value::String(text) = self.value else {
            self.wrong_type("a string", out);
            return None;
        };
        Some(text)
    }

    pub(super) fn boolean(&self, out: &mut Violations) -> Option<bool> {
        let Value::Bool(value) = self.value else {
            self.wrong_type("true or false", out);
            return None;
        };
        Some(*value)
    }

    pub(super) fn integer(&self, range: RangeInclusive<u32>, out: &mut Violations) -> Option<u32> {
        let (min, max) = range.into_inner();
        let value = self.whole(min.into()..=max.into(), out)?;
        u32::try_from(value).ok()
    }

    /// As [`integer`](Self::integer), of larger numbers.
    pub(super) fn whole(&self, range: RangeInclusive<u64>, out: &mut Violations) -> Option<u64> {
        let (min, max) = (*range.start(), *range.end());
        let Value::Number(number) = self.value else {
            self.wrong_type(&format!("an integer from {min} to {max}"), out);
            return None;
        };
        let value = number.as_u64().filter(|value| range.contains(value));
        if value.is_none() {
            out.add(
                self.path.as_str(),
                format!("must be an integer from {min} to {max}, found {number}"),
            );
        }
        value
    }

    /// A number; JSON has no NaN and no infinities. `-0` becomes `0`.
    pub(super) fn number(&self, out: &mut Violations) -> Option<f64> {
        let Value::Number(number) = self.value else {
            self.wrong_type("a number", out);
            return None;
        };
        number
            .as_f64()
            .filter(|value| value.is_finite())
            .map(|value| value + 0.0)
    }

    pub(super) fn wrong_type(&self, expected: &str, out: &mut Violations) {
        out.add(
            self.path.as_str(),
            format!("must be {expected}, found {}", type_name(self.value)),
        );
    }
}

/// By what the elements of a list differ.
pub(super) struct Key<T> {
    /// Where in an element it stands: `.name`, or nothing for the element itself.
    pub(super) field: &'static str,
    pub(super) of: fn(&T) -> String,
}

/// An object whose field names have been checked.
pub(super) struct Object<'v> {
    path: String,
    fields: &'v Map<String, Value>,
}

impl<'v> Object<'v> {
    pub(super) fn path(&self) -> &str {
        &self.path
    }

    /// Whether a field is given.
    pub(super) fn has(&self, name: &'static str) -> bool {
        self.fields.contains_key(name)
    }

    /// A field that may be absent: `Some(None)` if it is, `None` if it is wrong.
    pub(super) fn maybe<T>(
        &self,
        name: &'static str,
        out: &mut Violations,
        read: impl FnOnce(&Node<'v>, &mut Violations) -> Option<T>,
    ) -> Option<Option<T>> {
        match self.optional(name) {
            Some(node) => read(&node, out).map(Some),
            None => Some(None),
        }
    }

    /// A field whose absence means the default of its type.
    pub(super) fn or_default<T: Default>(
        &self,
        name: &'static str,
        out: &mut Violations,
        read: impl FnOnce(&Node<'v>, &mut Violations) -> Option<T>,
    ) -> Option<T> {
        self.maybe(name, out, read).map(Option::unwrap_or_default)
    }

    /// A field that must be there.
    pub(super) fn must<T>(
        &self,
        name: &'static str,
        out: &mut Violations,
        read: impl FnOnce(&Node<'v>, &mut Violations) -> Option<T>,
    ) -> Option<T> {
        let node = self.required(name, out)?;
        read(&node, out)
    }

    pub(super) fn optional(&self, name: &'static str) -> Option<Node<'v>> {
        let value = self.fields.get(name)?;
        Some(Node {
            path: join(&self.path, name),
            value,
        })
    }

    pub(super) fn required(&self, name: &'static str, out: &mut Violations) -> Option<Node<'v>> {
        let node = self.optional(name);
        if node.is_none() {
            out.add(join(&self.path, name), "is required");
        }
        node
    }
}

/// The path of a field. A name that is not a plain identifier is quoted and cut: it may be anything.
pub(super) fn join(path: &str, name: &str) -> String {
    let plain = !name.is_empty() && name.len() <= 64 && name.bytes().all(|b| b.is_ascii_alphanumeric() || b == b'_');
    match (path.is_empty(), plain) {
        (true, true) => name.to_owned(),
        (false, true) => format!("{path}.{name}"),
        (_, false) => format!("{path}[{}]", quote(name)),
    }
}

fn type_name(value: &Value) -> &'static str {
    match value {
        Value::Null => "null",
        Value::Bool(_) => "a boolean",
        Value::Number(_) => "a number",
        Value::String(_) => "a string",
        Value::Array(_) => "an array",
        Value::Object(_) => "an object",
    }
}
