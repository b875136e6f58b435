//! A share of traffic.

use std::fmt;

use serde::{Serialize, Serializer};
use serde_json::Value;

use super::reader::Node;
use super::violation::Violations;

/// A share of traffic from 0 to 100 percent with at most two decimals, kept as basis points (1/10 000) so that sums are
/// exact.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Default)]
pub struct Weight(u16);

impl Weight {
    /// All traffic.
    pub const FULL: Self = Self(10_000);

    /// In 1/10 000.
    pub fn basis_points(self) -> u16 {
        self.0
    }

    /// In percent; at most two decimals.
    pub fn percent(self) -> f64 {
        f64::from(self.0) / 100.0
    }

    pub(super) fn read(node: &Node<'_>, out: &mut Violations) -> Option<Self> {
        let Value::Number(number) = node.value() else {
            node.wrong_type("a percentage from 0 to 100", out);
            return None;
        };
        let weight = number.as_f64().and_then(Self::from_percent);
        if weight.is_none() {
            out.add(
                node.path(),
                format!("must be a percentage from 0 to 100 with at most 2 decimals, found {number}"),
            );
        }
        weight
    }

    /// Exact: the quotient of an integer and 100 is rounded to the same `f64` as the decimal literal, so equality tells
    /// whether the literal had more than two decimals.
    fn from_percent(percent: f64) -> Option<Self> {
        if !(0.0..=100.0).contains(&percent) {
            return None;
        }
        // In range and whole by construction: 0.0..=10_000.0.
        let weight = Self((percent * 100.0).round() as u16);
        (weight.percent() == percent).then_some(weight)
    }
}

impl fmt::Display for Weight {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}%", self.percent())
    }
}

/// As percent: `10`, `12.5`.
impl Serialize for Weight {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        if self.0.is_multiple_of(100) {
            serializer.serialize_u16(self.0 / 100)
        } else {
            serializer.serialize_f64(self.percent())
        }
    }
}
