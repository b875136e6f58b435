//! As much of JSON Schema (2020-12) as the schemas here use: enough to hold them against the reader.

use regex_lite::Regex;
use serde_json::Value;

/// Whether a value satisfies a schema; if not, the keyword and the value that it refuses.
pub(in crate::config::tests) fn accepts(root: &Value, value: &Value) -> Result<(), String> {
    check(root, root, value)
}

fn check(root: &Value, schema: &Value, value: &Value) -> Result<(), String> {
    let Value::Object(keywords) = schema else {
        return Ok(());
    };
    for (keyword, wanted) in keywords {
        let holds = match keyword.as_str() {
            "$ref" => check(
                root,
                &root["$defs"][wanted.as_str().unwrap().trim_start_matches("#/$defs/")],
                value,
            )
            .is_ok(),
            "anyOf" => passing(root, wanted, value) >= 1,
            "oneOf" => passing(root, wanted, value) == 1,
            "not" => check(root, wanted, value).is_err(),
            "const" => value == wanted,
            "enum" => wanted.as_array().unwrap().contains(value),
            "type" => is_type(wanted.as_str().unwrap(), value),
            "properties" | "required" | "additionalProperties" | "minProperties" => {
                check_object(root, keyword, keywords, value)?;
                true
            }
            "items" | "minItems" | "maxItems" | "uniqueItems" => {
                check_array(root, keyword, wanted, value)?;
                true
            }
            "minimum" => value.as_f64().is_none_or(|number| number >= wanted.as_f64().unwrap()),
            "maximum" => value.as_f64().is_none_or(|number| number <= wanted.as_f64().unwrap()),
            "pattern" => value
                .as_str()
                .is_none_or(|text| Regex::new(wanted.as_str().unwrap()).unwrap().is_match(text)),
            "minLength" => value
                .as_str()
                .is_none_or(|text| text.chars().count() as u64 >= wanted.as_u64().unwrap()),
            "maxLength" => value
                .as_str()
                .is_none_or(|text| text.chars().count() as u64 <= wanted.as_u64().unwrap()),
            "$schema" | "$defs" | "title" | "description" | "default" | "format" => true,
            other => panic!("the validator does not know the keyword {other}"),
        };
        if !holds {
            return Err(format!("{keyword} {wanted} refuses {value}"));
        }
    }
    Ok(())
}

fn passing(root: &Value, schemas: &Value, value: &Value) -> usize {
    let schemas = schemas.as_array().unwrap();
    schemas
        .iter()
        .filter(|schema| check(root, schema, value).is_ok())
        .count()
}

fn is_type(wanted: &str, value: &Value) -> bool {
    match wanted {
        "object" => value.is_object(),
        "array" => value.is_array(),
        "string" => value.is_string(),
        "boolean" => value.is_boolean(),
        "number" => value.is_number(),
        "integer" => value.is_u64() || value.is_i64(),
        other => panic!("the validator does not know the type {other}"),
    }
}

fn check_object(
    root: &Value,
    keyword: &str,
    schema: &serde_json::Map<String, Value>,
    value: &Value,
) -> Result<(), String> {
    let Value::Object(fields) = value else {
        return Ok(());
    };
    let wanted = &schema[keyword];
    match keyword {
        "required" => {
            let missing = wanted
                .as_array()
                .unwrap()
                .iter()
                .find(|name| !fields.contains_key(name.as_str().unwrap()));
            missing.map_or(Ok(()), |name| Err(format!("{name} is required in {value}")))
        }
        "minProperties" if (fields.len() as u64) < wanted.as_u64().unwrap() => {
            Err(format!("too few fields in {value}"))
        }
        "minProperties" => Ok(()),
        "properties" => fields
            .iter()
            .filter_map(|(name, field)| Some((wanted.get(name)?, field)))
            .try_for_each(|(schema, field)| check(root, schema, field)),
        _ => {
            let none = serde_json::Map::new();
            let known = schema.get("properties").and_then(Value::as_object).unwrap_or(&none);
            let mut more = fields.iter().filter(|(name, _)| !known.contains_key(*name));
            match wanted {
                Value::Bool(false) => more
                    .next()
                    .map_or(Ok(()), |(name, _)| Err(format!("{name} is unknown in {value}"))),
                schema => more.try_for_each(|(_, field)| check(root, schema, field)),
            }
        }
    }
}

fn check_array(root: &Value, keyword: &str, wanted: &Value, value: &Value) -> Result<(), String> {
    let Value::Array(elements) = value else {
        return Ok(());
    };
    let holds = match keyword {
        "items" => return elements.iter().try_for_each(|element| check(root, wanted, element)),
        "minItems" => elements.len() as u64 >= wanted.as_u64().unwrap(),
        "maxItems" => elements.len() as u64 <= wanted.as_u64().unwrap(),
        _ => elements
            .iter()
            .enumerate()
            .all(|(at, element)| !elements[..at].contains(element)),
    };
    if holds {
        Ok(())
    } else {
        Err(format!("{keyword} {wanted} refuses {value}"))
    }
}
