//! The endpoint with the least load for its weight, by the loads that were last reported: what one is tempted to build from
//! telemetry. All gateways send everything to the same endpoint until the next report tells them of it.

use super::{Balancer, View};
use fastrand::Rng;

/// Least reported load for the weight.
#[derive(Debug, Default)]
pub struct StaleArgmin {
    /// The endpoints that share the least.
    best: Vec<usize>,
}

impl Balancer for StaleArgmin {
    fn update(&mut self, view: &View, _in_flight: &[u32]) {
        let load = |card: usize| f64::from(view.loads.get(card).copied().unwrap_or_default());
        let score = |(card, weight): (usize, u32)| (load(card) + 1.0) / f64::from(weight);
        let least = view.endpoints().map(score).fold(f64::INFINITY, f64::min);
        let best = view.endpoints().filter(|endpoint| score(*endpoint) <= least);
        self.best = best.map(|(card, _)| card).collect();
    }

    fn pick(&mut self, _in_flight: &[u32], rng: &mut Rng) -> Option<usize> {
        rng.choice(&self.best).copied()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn all_goes_to_the_least_loaded_until_the_next_report() {
        let mut balancer = StaleArgmin::default();
        let mut view = View {
            weights: vec![Some(400), Some(100), None],
            loads: vec![7, 0, 0],
        };
        let mut rng = Rng::with_seed(3);
        balancer.update(&view, &[]);
        assert!((0..50).all(|_| balancer.pick(&[], &mut rng) == Some(1)));
        view.loads[1] = 3;
        balancer.update(&view, &[]);
        assert!((0..50).all(|_| balancer.pick(&[], &mut rng) == Some(0)));
    }
}
