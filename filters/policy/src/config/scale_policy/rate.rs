//! A rate of requests.

use std::fmt;

use serde::{Serialize, Serializer};
use serde_json::Value;

use crate::config::reader::Node;
use crate::config::violation::Violations;

/// Requests per second, 0.01 to 1,000,000 with at most two decimals: a large model may bear less than one. Kept in
/// hundredths, so that what is written is what was read.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub struct RequestRate(u32);

/// The highest, in hundredths.
const HIGHEST: u32 = 100_000_000;

impl RequestRate {
    /// In requests per second; above 0.
    pub fn per_second(self) -> f64 {
        f64::from(self.0) / 100.0
    }

    pub(super) fn read(node: &Node<'_>, out: &mut Violations) -> Option<Self> {
        let Value::Number(number) = node.value() else {
            node.wrong_type("a number from 0.01 to 1000000", out);
            return None;
        };
        let rate = number.as_f64().and_then(Self::from_per_second);
        if rate.is_none() {
            let message = format!("must be a number from 0.01 to 1000000 with at most 2 decimals, found {number}");
            out.add(node.path(), message);
        }
        rate
    }

    /// Exact, as for [`Weight`](crate::config::Weight): equality tells whether the literal had more than two decimals.
    fn from_per_second(per_second: f64) -> Option<Self> {
        let hundredths = (per_second * 100.0).round();
        if !(1.0..=f64::from(HIGHEST)).contains(&hundredths) {
            return None;
        }
        // In range and whole by construction.
        let rate = Self(hundredths as u32);
        (rate.per_second() == per_second).then_some(rate)
    }
}

impl fmt::Display for RequestRate {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}", self.per_second())
    }
}

/// As requests per second: `50`, `0.5`.
impl Serialize for RequestRate {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        if self.0.is_multiple_of(100) {
            serializer.serialize_u32(self.0 / 100)
        } else {
            serializer.serialize_f64(self.per_second())
        }
    }
}
