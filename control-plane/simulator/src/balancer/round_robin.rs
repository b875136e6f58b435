//! Envoy's ROUND_ROBIN (`source/extensions/load_balancing_policies/round_robin/`): each endpoint in turn while their weights
//! are equal, the schedule of [`Edf`] over the weights when they are not.

use super::edf::Edf;
use super::{Balancer, View};
use fastrand::Rng;

/// ROUND_ROBIN of one thread.
#[derive(Debug)]
pub struct RoundRobin {
    start: u32,
    next: usize,
    endpoints: Vec<usize>,
    weights: Vec<f64>,
    schedule: Option<Edf>,
}

impl RoundRobin {
    /// `start` is the thread's random number, drawn once when it is set up.
    pub fn new(start: u32) -> Self {
        Self {
            start,
            next: start as usize,
            endpoints: Vec::new(),
            weights: Vec::new(),
            schedule: None,
        }
    }
}

fn weight(weights: &[f64], card: usize) -> f64 {
    weights.get(card).copied().unwrap_or(1.0)
}

impl Balancer for RoundRobin {
    fn update(&mut self, view: &View, _in_flight: &[u32]) {
        self.endpoints = view.endpoints().map(|(card, _)| card).collect();
        self.weights = view.weights_or_one();
        self.schedule = view
            .is_unequal()
            .then(|| Edf::after_picks(&self.endpoints, |card| weight(&self.weights, card), self.start));
    }

    fn pick(&mut self, _in_flight: &[u32], _rng: &mut Rng) -> Option<usize> {
        let weights = &self.weights;
        if let Some(schedule) = &mut self.schedule {
            return schedule.pick(|card| weight(weights, card));
        }
        let place = self.next.checked_rem(self.endpoints.len())?;
        self.next = self.next.wrapping_add(1);
        self.endpoints.get(place).copied()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn counts(balancer: &mut RoundRobin, picks: usize) -> [usize; 3] {
        let mut counts = [0; 3];
        for _ in 0..picks {
            counts[balancer.pick(&[], &mut Rng::with_seed(1)).unwrap()] += 1;
        }
        counts
    }

    fn view(weights: [Option<u32>; 3]) -> View {
        View {
            weights: weights.to_vec(),
            loads: Vec::new(),
        }
    }

    #[test]
    fn equal_weights_give_all_the_same_and_what_is_no_endpoint_nothing() {
        let mut balancer = RoundRobin::new(u32::MAX);
        balancer.update(&view([Some(3); 3]), &[]);
        assert_eq!(counts(&mut balancer, 30), [10, 10, 10]);
        balancer.update(&view([Some(3), None, Some(3)]), &[]);
        assert_eq!(counts(&mut balancer, 30), [15, 0, 15]);
        balancer.update(&View::default(), &[]);
        assert_eq!(balancer.pick(&[], &mut Rng::with_seed(1)), None);
    }

    #[test]
    fn unequal_weights_are_followed() {
        let mut balancer = RoundRobin::new(12345);
        balancer.update(&view([Some(4), Some(2), Some(1)]), &[]);
        for (count, expected) in counts(&mut balancer, 700).into_iter().zip([400usize, 200, 100]) {
            assert!(count.abs_diff(expected) <= 1);
        }
    }
}
