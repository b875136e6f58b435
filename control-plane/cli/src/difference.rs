//! What differs between two JSON values, told by the paths of the fields.
//!
//! The elements of a list that have a `name` or a `version` are known by it, so that one that was inserted does not make all
//! that come after it differ; where the same elements stand in another order, that is told of the list.

use serde_json::{Map, Value, json};
use std::collections::BTreeSet;

/// The fields by which elements of lists are known.
const IDENTITIES: [&str; 2] = ["name", "version"];

/// One field that differs.
#[derive(Clone, Debug, PartialEq)]
pub struct Difference {
    /// Like `spec.versions[v2].weight`; empty for the whole value.
    pub path: String,
    /// What it was; `None` if it was not there.
    pub old: Option<Value>,
    /// What it is; `None` if it is gone.
    pub new: Option<Value>,
}

impl Difference {
    /// For `--output json`.
    pub fn to_json(&self) -> Value {
        json!({"path": self.path, "old": self.old, "new": self.new})
    }

    /// A line: `spec.versions[v2].weight: 10 → 20`.
    pub fn describe(&self) -> String {
        let separator = if self.path.is_empty() { "" } else { ": " };
        let change = match (&self.old, &self.new) {
            (Some(old), Some(new)) => format!("{old} → {new}"),
            (None, Some(new)) => format!("+ {new}"),
            (Some(old), None) => format!("- {old}"),
            (None, None) => String::new(),
        };
        format!("{}{separator}{change}", self.path)
    }
}

/// Everything that differs, in the order of the fields' names.
pub fn between(old: &Value, new: &Value) -> Vec<Difference> {
    let mut found = Vec::new();
    compare("", Some(old), Some(new), &mut found);
    found
}

fn compare(path: &str, old: Option<&Value>, new: Option<&Value>, found: &mut Vec<Difference>) {
    match (old, new) {
        (old, new) if old == new => {}
        (Some(Value::Object(old)), Some(Value::Object(new))) => compare_objects(path, old, new, found),
        (Some(Value::Array(old)), Some(Value::Array(new))) => {
            match IDENTITIES
                .iter()
                .find_map(|identity| Some((known_by(old, identity)?, known_by(new, identity)?)))
            {
                Some((old, new)) => compare_elements(path, &old, &new, found),
                None => found.push(difference(path, Some(json!(old)), Some(json!(new)))),
            }
        }
        (old, new) => found.push(difference(path, old.cloned(), new.cloned())),
    }
}

fn difference(path: &str, old: Option<Value>, new: Option<Value>) -> Difference {
    Difference {
        path: path.to_owned(),
        old,
        new,
    }
}

fn compare_objects(path: &str, old: &Map<String, Value>, new: &Map<String, Value>, found: &mut Vec<Difference>) {
    let names: BTreeSet<&String> = old.keys().chain(new.keys()).collect();
    for name in names {
        let field = if path.is_empty() {
            name.clone()
        } else {
            format!("{path}.{name}")
        };
        compare(&field, old.get(name), new.get(name), found);
    }
}

type Elements<'v> = Vec<(&'v str, &'v Value)>;

/// The elements by what they are known by; `None` unless each has it, each another. No elements are known by anything.
fn known_by<'v>(list: &'v [Value], identity: &str) -> Option<Elements<'v>> {
    let elements: Elements<'v> = list
        .iter()
        .map(|element| Some((element.get(identity)?.as_str()?, element)))
        .collect::<Option<_>>()?;
    let distinct: BTreeSet<&str> = elements.iter().map(|(name, _)| *name).collect();
    (distinct.len() == elements.len()).then_some(elements)
}

fn compare_elements(path: &str, old: &Elements<'_>, new: &Elements<'_>, found: &mut Vec<Difference>) {
    let find = |elements: &Elements<'_>, name: &str| elements.iter().position(|(known, _)| *known == name);
    let kept = |elements: &Elements<'_>, others: &Elements<'_>| -> Vec<String> {
        let kept = elements.iter().filter(|(name, _)| find(others, name).is_some());
        kept.map(|(name, _)| (*name).to_owned()).collect()
    };
    let (before, after) = (kept(old, new), kept(new, old));
    if before != after {
        found.push(difference(
            &format!("{path} (order)"),
            Some(json!(before)),
            Some(json!(after)),
        ));
    }
    for (name, element) in new {
        let counterpart = find(old, name).and_then(|at| old.get(at)).map(|(_, value)| *value);
        compare(&format!("{path}[{name}]"), counterpart, Some(element), found);
    }
    for (name, element) in old.iter().filter(|(name, _)| find(new, name).is_none()) {
        compare(&format!("{path}[{name}]"), Some(element), None, found);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn lines(old: &Value, new: &Value) -> Vec<String> {
        between(old, new).iter().map(Difference::describe).collect()
    }

    #[test]
    fn fields_are_told_by_their_path_and_equal_ones_not_at_all() {
        let old = json!({"spec": {"a": 1, "b": {"c": true}, "gone": [1, 2]}});
        let new = json!({"spec": {"a": 2, "b": {"c": true}, "new": "x"}});
        assert_eq!(
            lines(&old, &new),
            ["spec.a: 1 → 2", "spec.gone: - [1,2]", "spec.new: + \"x\""]
        );
        assert_eq!(between(&old, &old), []);
    }

    #[test]
    fn elements_are_known_by_their_name_or_version() {
        let old = json!({"versions": [{"version": "v1", "weight": 90}, {"version": "v2", "weight": 10}]});
        let new = json!({"versions": [
            {"version": "v0", "weight": 5}, {"version": "v1", "weight": 85}, {"version": "v2", "weight": 10}]});
        assert_eq!(
            lines(&old, &new),
            [
                r#"versions[v0]: + {"version":"v0","weight":5}"#,
                "versions[v1].weight: 90 → 85"
            ]
        );
    }

    #[test]
    fn another_order_is_a_difference_of_its_own() {
        let old = json!([{"name": "a"}, {"name": "b"}, {"name": "c"}]);
        let new = json!([{"name": "b"}, {"name": "a"}]);
        assert_eq!(
            lines(&old, &new),
            [r#" (order): ["a","b"] → ["b","a"]"#, r#"[c]: - {"name":"c"}"#]
        );
    }

    #[test]
    fn lists_of_plain_values_and_of_namesakes_are_told_whole() {
        assert_eq!(lines(&json!({"a": [1]}), &json!({"a": [1, 2]})), ["a: [1] → [1,2]"]);
        let twice = json!([{"name": "a", "x": 1}, {"name": "a", "x": 2}]);
        assert_eq!(between(&twice, &json!([])).len(), 1);
    }
}
