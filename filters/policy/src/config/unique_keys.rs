//! JSON text → value, refusing a key that is given twice.
//!
//! RFC 8259, section 4: "When the names within an object are not unique, the behavior of software that receives such an
//! object is unpredictable." A reader that silently takes the last weight of two is how a wrong one gets live.

use std::cell::RefCell;
use std::fmt;

use serde::de::{DeserializeSeed, Deserializer, Error, MapAccess, SeqAccess, Visitor};
use serde_json::{Map, Number, Value};

use super::reader::join;
use super::violation::Violations;

/// The value, or `None` with a violation if the text is not JSON.
pub(super) fn read(json: &[u8], out: &mut Violations) -> Option<Value> {
    let duplicates = RefCell::new(std::mem::take(out));
    let mut deserializer = serde_json::Deserializer::from_slice(json);
    let value = Unique {
        duplicates: &duplicates,
        at: Place::Root,
    }
    .deserialize(&mut deserializer)
    .and_then(|value| deserializer.end().map(|()| value));
    *out = duplicates.into_inner();
    match value {
        Ok(value) => Some(value),
        Err(error) => {
            out.add("", format!("is not JSON: {error}"));
            None
        }
    }
}

/// Where a value is: a list on the stack from the value to the root, made text only if it is told: a small text can hold
/// tens of thousands of long paths.
#[derive(Clone, Copy)]
enum Place<'p> {
    Root,
    Field(&'p Self, &'p str),
    Element(&'p Self, usize),
}

impl Place<'_> {
    fn path(&self) -> String {
        match self {
            Self::Root => String::new(),
            Self::Field(object, name) => join(&object.path(), name),
            Self::Element(array, index) => format!("{}[{index}]", array.path()),
        }
    }
}

impl From<Place<'_>> for String {
    fn from(place: Place<'_>) -> Self {
        place.path()
    }
}

#[derive(Clone, Copy)]
struct Unique<'p> {
    duplicates: &'p RefCell<Violations>,
    at: Place<'p>,
}

impl<'de> DeserializeSeed<'de> for Unique<'_> {
    type Value = Value;

    fn deserialize<D: Deserializer<'de>>(self, deserializer: D) -> Result<Value, D::Error> {
        deserializer.deserialize_any(self)
    }
}

impl<'de> Visitor<'de> for Unique<'_> {
    type Value = Value;

    fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("a JSON value")
    }

    fn visit_unit<E: Error>(self) -> Result<Value, E> {
        Ok(Value::Null)
    }

    fn visit_bool<E: Error>(self, value: bool) -> Result<Value, E> {
        Ok(Value::Bool(value))
    }

    fn visit_u64<E: Error>(self, value: u64) -> Result<Value, E> {
        Ok(Value::from(value))
    }

    fn visit_i64<E: Error>(self, value: i64) -> Result<Value, E> {
        Ok(Value::from(value))
    }

    fn visit_f64<E: Error>(self, value: f64) -> Result<Value, E> {
        Ok(Number::from_f64(value).map_or(Value::Null, Value::Number))
    }

    fn visit_str<E: Error>(self, value: &str) -> Result<Value, E> {
        Ok(Value::String(value.to_owned()))
    }

    fn visit_string<E: Error>(self, value: String) -> Result<Value, E> {
        Ok(Value::String(value))
    }

    fn visit_seq<A: SeqAccess<'de>>(self, mut elements: A) -> Result<Value, A::Error> {
        let mut array = Vec::new();
        while let Some(element) = elements.next_element_seed(Unique {
            duplicates: self.duplicates,
            at: Place::Element(&self.at, array.len()),
        })? {
            array.push(element);
        }
        Ok(Value::Array(array))
    }

    fn visit_map<A: MapAccess<'de>>(self, mut entries: A) -> Result<Value, A::Error> {
        let mut object = Map::new();
        while let Some(key) = entries.next_key::<String>()? {
            let at = Place::Field(&self.at, &key);
            let value = entries.next_value_seed(Unique {
                duplicates: self.duplicates,
                at,
            })?;
            if object.contains_key(&key) {
                self.duplicates.borrow_mut().add(at, "is given twice");
            }
            object.insert(key, value);
        }
        Ok(Value::Object(object))
    }
}
