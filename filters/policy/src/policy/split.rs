//! Which version a bucket belongs to.

use crate::cohort::Allocation;

/// The buckets divided between versions, ready to be looked up.
#[derive(Clone, Debug, Default)]
pub(crate) struct Split {
    /// The highest bucket of each interval, ascending.
    ends: Vec<u16>,
    /// The version of each interval, as a position among the model's.
    owners: Vec<u16>,
}

impl Split {
    /// `position`: of a version among the model's.
    pub(super) fn compile(allocation: &Allocation, position: impl Fn(&str) -> Option<usize>) -> Self {
        let positions: Vec<_> = allocation.versions().map(|(version, _)| position(version)).collect();
        let mut split = Self::default();
        for interval in allocation.intervals() {
            let owner = positions.get(interval.version).copied().flatten();
            split.ends.push(interval.last);
            split
                .owners
                .push(owner.and_then(|owner| owner.try_into().ok()).unwrap_or_default());
        }
        split
    }

    /// The position of the version that a bucket belongs to.
    pub(crate) fn at(&self, bucket: u16) -> usize {
        let interval = self.ends.partition_point(|end| *end < bucket);
        self.owners.get(interval).copied().unwrap_or_default().into()
    }
}
