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
    /// The least.
    #[serde(skip_serializing_if = "Option::is_none", serialize_with = "write")]
    #[cfg_attr(test, schemars(with = "f64", default))]
    pub min: Option<f64>,
    /// The greatest.
    #[serde(skip_serializing_if = "Option::is_none", serialize_with = "write")]
    #[cfg_attr(test, schemars(with = "f64", default))]
    pub max: Option<f64>,
}

/// The ends are finite, so a range equals itself.
impl Eq for NumberRange {}

impl NumberRange {
    /// Whether a number is within; NaN never is.
    pub fn contains(&self, number: f64) -> bool {
        !number.is_nan() && self.min.is_none_or(|min| min <= number) && self.max.is_none_or(|max| number <= max)
    }

    pub(super) fn read(node: Node<'_>, out: &mut Violations) -> Option<Self> {
        let range = node.object(&["min", "max"], out)?;
        let min = range.maybe("min", out, Node::number);
        let max = range.maybe("max", out, Node::number);
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

/// Whole numbers without a decimal point, as people write them.
#[allow(clippy::ref_option, reason = "what serde calls")]
fn write<S: Serializer>(number: &Option<f64>, serializer: S) -> Result<S::Ok, S::Error> {
    /// Up to here every whole number is an `f64`.
    const EXACT: f64 = 9_007_199_254_740_992.0;
    match *number {
        Some(number) if number.trunc() == number && number.abs() <= EXACT => serializer.serialize_i64(number as i64),
        Some(number) => serializer.serialize_f64(number),
        None => serializer.serialize_none(),
    }
}
