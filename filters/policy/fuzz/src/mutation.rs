//! Documents that are almost right: those of the pool, changed in a few places.

use arbitrary::{Result, Unstructured};
use serde_json::{Value, json};

use super::pool;

/// How deep into a document a change may be.
const DEEPEST: usize = 8;
/// How often an element of an array may be repeated: enough for more rules than anybody writes by hand.
const MOST_COPIES: usize = 300;

/// Words that mean something somewhere, beside those of the pool's documents.
const WORDS: &[&str] = &[
    "all",
    "anyone",
    "any",
    "unavailable",
    "user",
    "tenant",
    "session",
    "refuse",
    "report",
    "accept",
    "route",
    "pass",
    "strip",
    "UNAVAILABLE",
    "PERMISSION_DENIED",
    "UNIMPLEMENTED",
    "NOT_GRPC",
    "VERSION_NOT_READY",
    "RULE_VIOLATED",
    "x-kilocard-route",
    "x-user-id",
    "x-model",
    ":path",
    ":method",
    "v1",
    "v2",
    "v3",
    "0-9999",
    "9999-0",
    "0-4999,5000-9999",
    "(",
    "[a-z]{1,1000}",
    ".*",
    "(a*)*b",
    "/a.B/*",
    "/a.B/C",
    "*",
    "spiffe://*",
    "0.0.0.0/0",
    "::/0",
    "1.2.3.4/33",
    "",
];

const NUMBERS: &[f64] = &[
    0.0,
    1.0,
    2.0,
    10.0,
    33.33,
    50.0,
    66.67,
    90.0,
    99.99,
    100.0,
    100.01,
    0.001,
    -1.0,
    64.0,
    4096.0,
    65_536.0,
    4_294_967_296.0,
    1e300,
];

/// Once in so many times; not when the bytes have run out, which `Unstructured::ratio` would take for a yes.
pub(crate) fn rarely(u: &mut Unstructured<'_>, times: u8) -> Result<bool> {
    Ok(u.int_in_range(1..=times)? == times)
}

/// A document of the pool with up to three changes.
pub(crate) fn document(original: &Value, u: &mut Unstructured<'_>) -> Result<Value> {
    let mut value = original.clone();
    for _ in 0..u.int_in_range(0..=3)? {
        let place = descend(&mut value, u)?;
        change(place, u)?;
    }
    Ok(value)
}

/// Somewhere in a value, itself included.
fn descend<'v>(value: &'v mut Value, u: &mut Unstructured<'_>) -> Result<&'v mut Value> {
    let mut at = value;
    for _ in 0..DEEPEST {
        let children = match &*at {
            Value::Array(elements) => elements.len(),
            Value::Object(fields) => fields.len(),
            _ => 0,
        };
        if children == 0 || rarely(u, 8)? {
            return Ok(at);
        }
        let chosen = u.choose_index(children)?;
        at = match at {
            Value::Array(elements) => &mut elements[chosen],
            Value::Object(fields) => fields.values_mut().nth(chosen).expect("as many as counted"),
            _ => unreachable!("a scalar has no children"),
        };
    }
    Ok(at)
}

fn change(place: &mut Value, u: &mut Unstructured<'_>) -> Result<()> {
    match place {
        Value::Array(elements) if !elements.is_empty() && u.arbitrary()? => change_array(elements, u),
        Value::Object(fields) if !fields.is_empty() && u.arbitrary()? => {
            let name = fields
                .keys()
                .nth(u.choose_index(fields.len())?)
                .expect("as many as counted")
                .clone();
            if u.arbitrary()? {
                fields.remove(&name);
            } else {
                fields.insert(word(u)?, fresh(u)?);
            }
            Ok(())
        }
        _ => {
            *place = fresh(u)?;
            Ok(())
        }
    }
}

fn change_array(elements: &mut Vec<Value>, u: &mut Unstructured<'_>) -> Result<()> {
    let chosen = u.choose_index(elements.len())?;
    match u.int_in_range(0..=3)? {
        0 => {
            elements.remove(chosen);
        }
        1 => elements.swap(0, chosen),
        2 => elements.push(fresh(u)?),
        _ => {
            // Named anew, so that they are not refused as the same one twice.
            for copy in 0..u.int_in_range(1..=MOST_COPIES)? {
                let mut element = elements[chosen].clone();
                if let Some(name) = element.get_mut("name") {
                    *name = json!(format!("copy-{copy}"));
                }
                elements.push(element);
            }
        }
    }
    Ok(())
}

/// A value from nowhere, or from somewhere else in the pool.
fn fresh(u: &mut Unstructured<'_>) -> Result<Value> {
    Ok(match u.int_in_range(0..=6)? {
        0 | 1 => json!(word(u)?),
        2 => json!(*u.choose(NUMBERS)?),
        3 => json!(u.arbitrary::<bool>()?),
        4 => u.choose(&[Value::Null, json!([]), json!({}), json!([[]])])?.clone(),
        5 => {
            let mut other = u.choose(pool::documents())?.clone();
            descend(&mut other, u)?.take()
        }
        _ => json!(u.arbitrary::<u16>()?),
    })
}

/// A word of the pool, one of [`WORDS`], or any text.
fn word(u: &mut Unstructured<'_>) -> Result<String> {
    Ok(match u.int_in_range(0..=4)? {
        0 => u.arbitrary::<&str>()?.to_owned(),
        1 | 2 => (*u.choose(WORDS)?).to_owned(),
        _ => u.choose(pool::words())?.clone(),
    })
}
