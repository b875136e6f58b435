//! A range of numbers, for headers that hold one.

use serde::{Serialize, Serializer};

use super::reader::Node;
use super::violation::Violations;

/// The numbers from `min` to `max`, both included; an end that is absent is open. The ends are finite.
#[derive(Clone, Copy, Debug, PartialEq, Serialize)]
#[cfg_attr(test, derive(schemars::JsonSchema))]
#[cfg_attr(test, schemars(deny_unknown_fields, extend("minProperties" = 1)))]
#[non_exhaustive]
pub struct NumberRange {
    /// The least; 0, or 0.000001 to 10^15 by amount, with at most 15 digits.
    #[serde(skip_serializing_if = "Option::is_none", serialize_with = "write")]
    #[cfg_attr(test, schemars(with = "f64", default, range(min = -1e15, max = 1e15)))]
    pub min: Option<f64>,
    /// The greatest; likewise.
    #[serde(skip_serializing_if = "Option::is_none", serialize_with = "write")]
    #[cfg_attr(test, schemars(with = "f64", default, range(min = -1e15, max = 1e15)))]
    pub max: Option<f64>,
}

/// The ends are finite, so a range equals itself.
impl Eq for NumberRange {}

impl NumberRange {
    /// Whether a number is within; NaN never is.
    pub fn contains(&self, number: f64) -> bool {
        !number.is_nan() && self.min.is_none_or(|min| min <= number) && self.max.is_none_or(|max| number <= max)
    }

    pub(super) fn read(node: &Node<'_>, out: &mut Violations) -> Option<Self> {
        let range = node.object(&["min", "max"], out)?;
        let min = range.maybe("min", out, read_end);
        let max = range.maybe("max", out, read_end);
        let (min, max) = (min?, max?);
        match (min, max) {
            (None, None) => {
                out.add(range.path(), "needs min, max or both");
                return None;
            }
            (Some(min), Some(max)) if min > max => {
                out.add(
                    range.path(),
                    format!("has min {min} above max {max}: no number is in it"),
                );
                return None;
            }
            _ => {}
        }
        Some(Self { min, max })
    }
}

/// Largest end of a range, by amount.
const LARGEST: f64 = 1e15;
/// Smallest end of a range but 0, by amount.
const SMALLEST: f64 = 1e-6;
/// Most digits of an end: so many are read from decimal and written back unchanged, whichever reader it is, so that a
/// document that is read and written again and again stays the same.
const DIGITS: usize = f64::DIGITS as usize;

fn read_end(node: &Node<'_>, out: &mut Violations) -> Option<f64> {
    let path = node.path();
    let number = node.number(out)?;
    let amount = number.abs();
    let digits = format!("{amount:e}")
        .bytes()
        .take_while(|byte| *byte != b'e')
        .filter(u8::is_ascii_digit)
        .count();
    if digits > DIGITS || amount > LARGEST || (amount != 0.0 && amount < SMALLEST) {
        let message = format!(
            "must be 0 or a number of at most {DIGITS} digits, from {SMALLEST} to {LARGEST:e} or from -{LARGEST:e} to -{SMALLEST}"
        );
        out.add(path, message);
        return None;
    }
    Some(number)
}

/// Whole numbers without a decimal point, as people write them.
#[allow(clippy::ref_option, reason = "what serde calls")]
fn write<S: Serializer>(number: &Option<f64>, serializer: S) -> Result<S::Ok, S::Error> {
    match *number {
        // At most 10^15 by amount.
        Some(number) if number.trunc() == number => serializer.serialize_i64(number as i64),
        Some(number) => serializer.serialize_f64(number),
        None => serializer.serialize_none(),
    }
}
