//! The buckets that a split remembers for each version, as text in a document.

use std::collections::BTreeMap;
use std::fmt;
use std::str::FromStr;

use serde::Serialize;

use super::limits::MAX_VERSIONS;
use super::name::is_version;
use super::reader::Node;
use super::text::is_text;
use super::violation::{Violations, quote};
use crate::cohort::BUCKETS;

/// Buckets from one to another, both included, in the order in which they were added: from a higher to a lower one if they
/// were added downwards.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub struct BucketRange {
    /// The bucket added first.
    pub from: u16,
    /// The bucket added last.
    pub to: u16,
}

impl BucketRange {
    /// The buckets, lowest first.
    pub fn ascending(self) -> std::ops::RangeInclusive<u16> {
        self.from.min(self.to)..=self.from.max(self.to)
    }
}

/// The buckets of one version in the order in which they were added: `0-999,9999-9500`; nothing for none.
#[derive(Clone, Debug, Default, PartialEq, Eq, Hash)]
pub struct BucketRanges(Vec<BucketRange>);

is_text!(BucketRanges, r"^([0-9]{1,4}-[0-9]{1,4}(,[0-9]{1,4}-[0-9]{1,4})*)?$");

impl BucketRanges {
    /// The ranges, the one added first first.
    pub fn as_slice(&self) -> &[BucketRange] {
        &self.0
    }
}

impl FromIterator<BucketRange> for BucketRanges {
    fn from_iter<I: IntoIterator<Item = BucketRange>>(ranges: I) -> Self {
        Self(ranges.into_iter().collect())
    }
}

impl fmt::Display for BucketRanges {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        for (index, range) in self.0.iter().enumerate() {
            let comma = if index == 0 { "" } else { "," };
            write!(f, "{comma}{}-{}", range.from, range.to)?;
        }
        Ok(())
    }
}

/// The text is not a list of ranges of buckets; holds the part that is none.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct NotRanges(String);

impl fmt::Display for NotRanges {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let last = BUCKETS - 1;
        write!(
            f,
            "{} is not a range of buckets: use two numbers from 0 to {last} like 0-999, and commas between ranges",
            self.0
        )
    }
}

impl std::error::Error for NotRanges {}

impl FromStr for BucketRanges {
    type Err = NotRanges;

    fn from_str(text: &str) -> Result<Self, NotRanges> {
        if text.is_empty() {
            return Ok(Self::default());
        }
        let range = |part: &str| parse_range(part).ok_or_else(|| NotRanges(quote(part)));
        text.split(',').map(range).collect()
    }
}

fn parse_range(text: &str) -> Option<BucketRange> {
    let (from, to) = text.split_once('-')?;
    Some(BucketRange {
        from: parse_bucket(from)?,
        to: parse_bucket(to)?,
    })
}

/// Digits only: `parse` would take a `+` as well.
fn parse_bucket(text: &str) -> Option<u16> {
    let is_plain = !text.is_empty() && text.len() <= 4 && text.bytes().all(|byte| byte.is_ascii_digit());
    is_plain
        .then(|| text.parse().ok())
        .flatten()
        .filter(|bucket| *bucket < BUCKETS)
}

/// Which buckets each version has. In a document they cover every bucket exactly once. They may name versions that the
/// policy no longer has.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize)]
#[cfg_attr(test, derive(schemars::JsonSchema))]
#[serde(transparent)]
pub struct Cohorts(BTreeMap<String, BucketRanges>);

impl Cohorts {
    /// Versions and their buckets, by version.
    pub fn iter(&self) -> impl ExactSizeIterator<Item = (&str, &BucketRanges)> {
        self.0.iter().map(|(version, ranges)| (version.as_str(), ranges))
    }

    /// The buckets of a version.
    pub fn get(&self, version: &str) -> Option<&BucketRanges> {
        self.0.get(version)
    }

    pub(super) fn read(node: &Node<'_>, out: &mut Violations) -> Option<Self> {
        let path = node.path();
        let entries = node.entries(out)?;
        if entries.is_empty() || entries.len() > 2 * MAX_VERSIONS {
            let message = format!("has {} versions; 1 to {} are allowed", entries.len(), 2 * MAX_VERSIONS);
            out.add(path, message);
            return None;
        }
        let count = entries.len();
        let mut cohorts = Self::default();
        for (version, node) in entries {
            if !is_version(version) {
                out.add(node.path(), "the name of the field is not a version");
                continue;
            }
            match node.string(out).map(str::parse) {
                Some(Ok(ranges)) => {
                    cohorts.0.insert(version.to_owned(), ranges);
                }
                Some(Err(error)) => out.add(node.path(), NotRanges::to_string(&error)),
                None => {}
            }
        }
        if cohorts.0.len() < count {
            return None;
        }
        if let Err(message) = cohorts.check_cover() {
            out.add(path, message);
            return None;
        }
        Some(cohorts)
    }

    /// Looks at the ends of ranges, not at every bucket: a document may have a split for each of thousands of rules.
    fn check_cover(&self) -> Result<(), String> {
        let of_version = |(version, ranges): (_, &'_ BucketRanges)| {
            let ends = |range: &BucketRange| (range.ascending().into_inner(), version);
            ranges.as_slice().iter().map(ends).collect::<Vec<_>>()
        };
        let mut all: Vec<((u16, u16), &str)> = self.iter().flat_map(of_version).collect();
        all.sort_unstable();
        let (mut next, mut last) = (0, "");
        for ((low, high), version) in all {
            if low < next {
                return Err(format!(
                    "bucket {low} is given to {last} and to {version}; every bucket belongs to one version, once"
                ));
            }
            if low > next {
                break;
            }
            (next, last) = (high + 1, version);
        }
        if next < BUCKETS {
            return Err(format!(
                "bucket {next} is given to no version; every bucket belongs to one"
            ));
        }
        Ok(())
    }
}

impl FromIterator<(String, BucketRanges)> for Cohorts {
    fn from_iter<I: IntoIterator<Item = (String, BucketRanges)>>(versions: I) -> Self {
        Self(versions.into_iter().collect())
    }
}
