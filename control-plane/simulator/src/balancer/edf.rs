//! Envoy's earliest-deadline-first scheduler (`source/common/upstream/edf_scheduler.h`): an entry picked at time `t` is due
//! again at `t + 1/weight`, the weight being looked up at the pick.

use std::cmp::Ordering;
use std::collections::BinaryHeap;

/// Picks are counted in 32 bits there, and a random number of them is brought down to less than this.
const PICKS_MODULUS: u32 = 429_496_729;

#[derive(Clone, Copy, Debug)]
struct Entry {
    deadline: f64,
    order: u64,
    item: usize,
}

impl Ord for Entry {
    /// The largest is the one that is due first.
    fn cmp(&self, other: &Self) -> Ordering {
        other
            .deadline
            .total_cmp(&self.deadline)
            .then_with(|| other.order.cmp(&self.order))
    }
}

impl PartialOrd for Entry {
    fn partial_cmp(&self, other: &Self) -> Option<Ordering> {
        Some(self.cmp(other))
    }
}

impl PartialEq for Entry {
    fn eq(&self, other: &Self) -> bool {
        self.cmp(other) == Ordering::Equal
    }
}

impl Eq for Entry {}

/// The schedule.
#[derive(Debug, Default)]
pub struct Edf {
    now: f64,
    order: u64,
    queue: BinaryHeap<Entry>,
}

impl Edf {
    /// A schedule of these items with their weights, which must be above 0, as it is after `picks` picks: Envoy starts each
    /// thread's schedule at a random place, so that threads and proxies do not all begin with the heaviest endpoint.
    /// Whole rounds are not walked but computed, as there (`createWithPicks`).
    pub fn after_picks(items: &[usize], weight: impl Fn(usize) -> f64, picks: u32) -> Self {
        let picks = picks % PICKS_MODULUS;
        let weights: Vec<f64> = items.iter().map(|item| weight(*item)).collect();
        let total: f64 = weights.iter().sum();
        let mut schedule = Self::default();
        let mut picked = 0;
        for (item, weight) in items.iter().zip(&weights) {
            let own = (f64::from(picks) * weight / total).floor();
            schedule.push((own + 1.0) / weight, *item);
            schedule.now = schedule.now.max(own / weight);
            // Each is at most `picks`, and so is their sum.
            picked += own as u32;
        }
        for _ in picked..picks {
            schedule.pick(&weight);
        }
        schedule
    }

    /// The item that is due first; it is due again after `1/weight(item)`.
    pub fn pick(&mut self, weight: impl Fn(usize) -> f64) -> Option<usize> {
        let Entry { deadline, item, .. } = self.queue.pop()?;
        self.now = deadline;
        self.push(deadline + 1.0 / weight(item), item);
        Some(item)
    }

    fn push(&mut self, deadline: f64, item: usize) {
        self.queue.push(Entry {
            deadline,
            order: self.order,
            item,
        });
        self.order += 1;
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    const WEIGHTS: [f64; 3] = [70.0, 20.0, 10.0];

    fn count(schedule: &mut Edf, picks: usize) -> [usize; 3] {
        let mut counts = [0; 3];
        for _ in 0..picks {
            counts[schedule.pick(|item| WEIGHTS[item]).unwrap()] += 1;
        }
        counts
    }

    #[test]
    fn ten_picks_follow_weights_of_seventy_twenty_and_ten_exactly() {
        let mut schedule = Edf::after_picks(&[0, 1, 2], |item| WEIGHTS[item], 0);
        for round in 0..20 {
            assert_eq!(count(&mut schedule, 10), [7, 2, 1], "round {round}");
        }
    }

    proptest! {
        #[test]
        fn a_random_start_shifts_the_schedule_but_not_the_shares(picks in any::<u32>()) {
            let mut schedule = Edf::after_picks(&[0, 1, 2], |item| WEIGHTS[item], picks);
            let counts = count(&mut schedule, 1000);
            for (count, expected) in counts.into_iter().zip([700usize, 200, 100]) {
                prop_assert!(count.abs_diff(expected) <= 1, "{counts:?}");
            }
        }

        #[test]
        fn computing_whole_rounds_gives_the_schedule_that_walking_them_gives(picks in 0u32..500) {
            let mut computed = Edf::after_picks(&[0, 1, 2], |item| WEIGHTS[item], picks);
            let mut walked = Edf::after_picks(&[0, 1, 2], |item| WEIGHTS[item], 0);
            count(&mut walked, picks as usize);
            // Entries that are due at once may come in another order, so counts are compared after every round.
            for _ in 0..5 {
                let (a, b) = (count(&mut computed, 10), count(&mut walked, 10));
                for (a, b) in a.into_iter().zip(b) {
                    prop_assert!(a.abs_diff(b) <= 1);
                }
            }
        }
    }
}
