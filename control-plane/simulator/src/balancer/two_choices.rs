//! The power of two choices: draw two endpoints, take the less busy one (Mitzenmacher, 2001).

use super::{Balancer, View, active};
use fastrand::Rng;

/// The less busy of two endpoints drawn at random, with replacement as in Envoy.
pub(super) fn less_busy_of_two(endpoints: &[usize], in_flight: &[u32], rng: &mut Rng) -> Option<usize> {
    if endpoints.is_empty() {
        return None;
    }
    let first = endpoints.get(rng.usize(..endpoints.len())).copied()?;
    let second = endpoints.get(rng.usize(..endpoints.len())).copied()?;
    Some(if active(in_flight, second) < active(in_flight, first) {
        second
    } else {
        first
    })
}

/// Two choices drawn by weight; the one with less in flight for its weight is taken. Envoy has no such policy.
#[derive(Debug, Default)]
pub struct WeightedTwoChoices {
    /// Endpoints with the sum of the weights up to and with their own.
    cumulated: Vec<(usize, u64)>,
    weights: Vec<f64>,
}

impl WeightedTwoChoices {
    fn draw(&self, rng: &mut Rng) -> Option<usize> {
        let (_, total) = self.cumulated.last()?;
        let point = rng.u64(..*total);
        let place = self.cumulated.partition_point(|(_, up_to)| *up_to <= point);
        self.cumulated.get(place).map(|(card, _)| *card)
    }

    fn pressure(&self, card: usize, in_flight: &[u32]) -> f64 {
        (f64::from(active(in_flight, card)) + 1.0) / self.weights.get(card).copied().unwrap_or(1.0)
    }
}

impl Balancer for WeightedTwoChoices {
    fn update(&mut self, view: &View, _in_flight: &[u32]) {
        let mut total = 0;
        self.cumulated = view
            .endpoints()
            .map(|(card, weight)| {
                total += u64::from(weight);
                (card, total)
            })
            .collect();
        self.weights = view.weights_or_one();
    }

    fn pick(&mut self, in_flight: &[u32], rng: &mut Rng) -> Option<usize> {
        let (first, second) = (self.draw(rng)?, self.draw(rng)?);
        let second_is_better = self.pressure(second, in_flight) < self.pressure(first, in_flight);
        Some(if second_is_better { second } else { first })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn weighted_choices_draw_by_weight_and_shun_the_busy() {
        let mut balancer = WeightedTwoChoices::default();
        let view = View {
            weights: vec![Some(300), None, Some(100)],
            loads: Vec::new(),
        };
        let mut rng = Rng::with_seed(7);
        balancer.update(&view, &[]);
        let mut share = |in_flight: [u32; 3]| {
            let picks = (0..8000).map(|_| balancer.pick(&in_flight, &mut rng).unwrap());
            let mut counts = [0; 3];
            picks.for_each(|card| counts[card] += 1);
            counts
        };
        let idle = share([0; 3]);
        // Idle, the heavier wins whenever it is drawn: 1 - 1/16.
        assert!(idle[1] == 0 && (7350..7650).contains(&idle[0]), "{idle:?}");
        // Ten times as busy, only when it is drawn twice: 9/16.
        let busy = share([29, 0, 0]);
        assert!((4300..4700).contains(&busy[0]), "{busy:?}");
    }
}
