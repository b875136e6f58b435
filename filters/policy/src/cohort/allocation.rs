//! Which version has which buckets, in the order in which it got them.
//!
//! Every version keeps its buckets as a stack. A version whose weight falls gives up those it got last; a version whose
//! weight rises gets them on top. So a higher weight only ever moves people into a version, a lower one moves out only
//! those who came last, and taking a change back restores what was there, whatever the number of versions. No function of
//! the weights alone can promise that for three versions or more (see ADR 0003), so the allocation is remembered in the
//! document.

#[cfg(test)]
mod tests;

use std::collections::BTreeMap;

use crate::config::{BucketRange, Cohorts, RoutingPolicy, RoutingRule, Weight};

use super::BUCKETS;

/// Which version has which buckets. Every bucket belongs to one version, once.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Allocation {
    versions: Vec<(String, Stack)>,
}

/// A run of buckets that one version has.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Interval {
    /// The lowest bucket.
    pub first: u16,
    /// The highest bucket.
    pub last: u16,
    /// Which version, counted from 0 in the order of the allocation.
    pub version: usize,
}

impl Allocation {
    /// The allocation of versions that have no history, from weights that sum to 100 percent: those after the first take
    /// buckets from 0 upwards, in order. The first takes the rest from the top downwards, so that what it gives up first
    /// lies next to the others.
    pub fn initial(versions: &[(&str, Weight)]) -> Self {
        let mut next = 0;
        let mut allocated = Vec::with_capacity(versions.len());
        for (index, (version, weight)) in versions.iter().enumerate() {
            let mut stack = Stack::default();
            let weight = weight.basis_points().min(BUCKETS - next);
            if index > 0 && weight > 0 {
                stack.push(BucketRange {
                    from: next,
                    to: next + weight - 1,
                });
                next += weight;
            }
            allocated.push(((*version).to_owned(), stack));
        }
        if let Some((_, stack)) = allocated.first_mut()
            && next < BUCKETS
        {
            stack.push(BucketRange {
                from: BUCKETS - 1,
                to: next,
            });
        }
        Self { versions: allocated }
    }

    /// The allocation that a document remembers.
    pub fn remembered(cohorts: &Cohorts) -> Self {
        let versions = cohorts.iter().map(|(version, ranges)| {
            let mut stack = Stack::default();
            for range in ranges.as_slice() {
                stack.push(*range);
            }
            (version.to_owned(), stack)
        });
        Self {
            versions: versions.collect(),
        }
    }

    /// The allocation in force under a RoutingPolicy: what it remembers, or the initial one, brought to its weights.
    pub fn of_policy(policy: &RoutingPolicy) -> Self {
        let versions = policy.versions.iter();
        let versions: Vec<_> = versions.map(|it| (it.version.as_str(), it.weight)).collect();
        Self::in_force(policy.cohorts.as_ref(), &versions)
    }

    /// The same for a rule; `None` if it has no split of its own.
    pub fn of_rule(rule: &RoutingRule) -> Option<Self> {
        let versions = rule.versions.iter();
        let versions: Vec<_> = versions.map(|it| (it.version.as_str(), it.weight)).collect();
        (!versions.is_empty()).then(|| Self::in_force(rule.cohorts.as_ref(), &versions))
    }

    fn in_force(remembered: Option<&Cohorts>, versions: &[(&str, Weight)]) -> Self {
        match remembered {
            Some(cohorts) => Self::remembered(cohorts).reallocate(versions),
            None => Self::initial(versions),
        }
    }

    /// The same people as far as the weights allow, which sum to 100 percent: versions whose weight falls give up the
    /// buckets they got last, versions that are gone give up all, and versions whose weight rises get them.
    ///
    /// Versions give in reverse order (those that are gone first) and get in order. The two mirror each other, so going
    /// back to the weights of before is going back to the allocation of before.
    #[must_use]
    pub fn reallocate(&self, versions: &[(&str, Weight)]) -> Self {
        let mut gone: BTreeMap<&str, Stack> = self
            .versions
            .iter()
            .map(|(version, stack)| (version.as_str(), stack.clone()))
            .collect();
        let mut kept: Vec<_> = versions
            .iter()
            .map(|(version, weight)| (*version, *weight, gone.remove(version).unwrap_or_default()))
            .collect();
        let mut freed = Stack::default();
        for stack in gone.values_mut().rev() {
            stack.give(stack.len(), &mut freed);
        }
        for (_, weight, stack) in kept.iter_mut().rev() {
            stack.give(stack.len().saturating_sub(weight.basis_points()), &mut freed);
        }
        // Given out from the bottom: in the order in which it was freed.
        freed.reverse();
        for (_, weight, stack) in &mut kept {
            let missing = weight.basis_points().saturating_sub(stack.len());
            freed.give(missing, stack);
        }
        if let Some((_, _, stable)) = kept.first_mut() {
            freed.give(freed.len(), stable);
        }
        let versions = kept.into_iter().map(|(version, _, stack)| (version.to_owned(), stack));
        Self {
            versions: versions.collect(),
        }
    }

    /// Versions and the ranges of their buckets in the order in which they were added, versions in order.
    pub fn versions(&self) -> impl ExactSizeIterator<Item = (&str, &[BucketRange])> {
        self.versions
            .iter()
            .map(|(version, stack)| (version.as_str(), stack.0.as_slice()))
    }

    /// For a document to remember.
    pub fn to_cohorts(&self) -> Cohorts {
        let ranges = |(version, ranges): (&str, &[BucketRange])| (version.to_owned(), ranges.iter().copied().collect());
        self.versions().map(ranges).collect()
    }

    /// All buckets from 0 upwards, as few intervals as possible.
    pub fn intervals(&self) -> Vec<Interval> {
        let mut intervals: Vec<_> = self
            .versions
            .iter()
            .enumerate()
            .flat_map(|(version, (_, stack))| stack.0.iter().map(move |range| (version, range.ascending())))
            .map(|(version, buckets)| Interval {
                first: *buckets.start(),
                last: *buckets.end(),
                version,
            })
            .collect();
        intervals.sort_unstable_by_key(|interval| interval.first);
        intervals.dedup_by(|next, interval| {
            let joins = next.version == interval.version && next.first == interval.last + 1;
            if joins {
                interval.last = next.last;
            }
            joins
        });
        intervals
    }
}

/// Buckets in the order in which they were added, as few ranges as possible.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
struct Stack(Vec<BucketRange>);

impl Stack {
    fn len(&self) -> u16 {
        self.0.iter().map(|range| length(*range)).sum()
    }

    fn push(&mut self, range: BucketRange) {
        match self.0.last_mut() {
            Some(last) if follows(*last, range) => last.to = range.to,
            _ => self.0.push(range),
        }
    }

    /// The buckets added last, as one range, at most `count`.
    fn pop(&mut self, count: u16) -> Option<BucketRange> {
        let last = self.0.last_mut().filter(|_| count > 0)?;
        if length(*last) <= count {
            return self.0.pop().map(reverse);
        }
        let popped = if last.from <= last.to {
            BucketRange {
                from: last.to,
                to: last.to - (count - 1),
            }
        } else {
            BucketRange {
                from: last.to,
                to: last.to + (count - 1),
            }
        };
        last.to = if last.from <= last.to {
            popped.to - 1
        } else {
            popped.to + 1
        };
        Some(popped)
    }

    /// Moves the buckets added last, last one first.
    fn give(&mut self, count: u16, to: &mut Self) {
        let mut left = count;
        while let Some(range) = self.pop(left) {
            left -= length(range);
            to.push(range);
        }
    }

    /// Turns the order around.
    fn reverse(&mut self) {
        self.0.reverse();
        for range in &mut self.0 {
            *range = reverse(*range);
        }
    }
}

fn length(range: BucketRange) -> u16 {
    range.from.abs_diff(range.to) + 1
}

fn reverse(range: BucketRange) -> BucketRange {
    BucketRange {
        from: range.to,
        to: range.from,
    }
}

/// Whether two ranges are one: both go the same way, and the second begins where the first ends. A single bucket goes
/// either way.
fn follows(first: BucketRange, second: BucketRange) -> bool {
    let up = first.from <= first.to && second.from <= second.to && first.to + 1 == second.from;
    let down = first.from >= first.to && second.from >= second.to && second.from + 1 == first.to;
    up || down
}
