//! A typed walk over a JSON value that remembers where it is and never stops at the first thing wrong.

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
    pub(super) fn object(self, allowed: &'static [&'static str], out: &mut Violations) -> Option<Object<'v>> {
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
            path: self.path,
            fields,
        })
    }

    /// An array of a length within `length`; its elements with their paths.
    pub(super) fn array(self, length: RangeInclusive<usize>, out: &mut Violations) -> Option<Vec<Node<'v>>> {
        let Value::Array(elements) = self.value else {
            self.wrong_type("an array", out);
            return None;
        };
        if !length.contains(&elements.len()) {
            let (min, max) = length.into_inner();
            out.add(
                self.path,
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
        let (min, max) = (*range.start(), *range.end());
        let Value::Number(number) = self.value else {
            self.wrong_type(&format!("an integer from {min} to {max}"), out);
            return None;
        };
        let value = number
            .as_u64()
            .and_then(|value| u32::try_from(value).ok())
            .filter(|value| range.contains(value));
        if value.is_none() {
            out.add(
                self.path.as_str(),
                format!("must be an integer from {min} to {max}, found {number}"),
            );
        }
        value
    }

    pub(super) fn wrong_type(&self, expected: &str, out: &mut Violations) {
        out.add(
            self.path.as_str(),
            format!("must be {expected}, found {}", type_name(self.value)),
        );
    }
}

/// An object whose field names have been checked.
pub(super) struct Object<'v> {
    path: String,
    fields: &'v Map<String, Value>,
}

impl<'v> Object<'v> {
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
