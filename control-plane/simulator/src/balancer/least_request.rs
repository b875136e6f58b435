//! Envoy's LEAST_REQUEST (`source/extensions/load_balancing_policies/least_request/`): with unequal weights the schedule of
//! [`Edf`] over `weight / (active + 1)^bias`; with equal ones the less busy of two at random.

use super::edf::Edf;
use super::two_choices::less_busy_of_two;
use super::{Balancer, View, active};
use fastrand::Rng;

/// LEAST_REQUEST of one thread.
#[derive(Debug)]
pub struct LeastRequest {
    bias: f64,
    start: u32,
    endpoints: Vec<usize>,
    weights: Vec<f64>,
    schedule: Option<Edf>,
}

impl LeastRequest {
    /// `bias` is Envoy's `active_request_bias` (1 by default; 0 makes a weighted round robin of it); `start` is the thread's
    /// random number, drawn once when it is set up and used each time the schedule is built.
    pub fn new(bias: f64, start: u32) -> Self {
        Self {
            bias,
            start,
            endpoints: Vec::new(),
            weights: Vec::new(),
            schedule: None,
        }
    }
}

fn effective(weights: &[f64], bias: f64, in_flight: &[u32], card: usize) -> f64 {
    let weight = weights.get(card).copied().unwrap_or(1.0);
    let active = f64::from(active(in_flight, card)) + 1.0;
    // As there: the power is spared where it is none.
    if bias == 1.0 {
        weight / active
    } else {
        weight / active.powf(bias)
    }
}

impl Balancer for LeastRequest {
    /// Every update builds the schedule anew, as in Envoy: what was due next is forgotten.
    fn update(&mut self, view: &View, in_flight: &[u32]) {
        self.endpoints = view.endpoints().map(|(card, _)| card).collect();
        self.weights = view.weights_or_one();
        self.schedule = view.is_unequal().then(|| {
            let weight = |card| effective(&self.weights, self.bias, in_flight, card);
            Edf::after_picks(&self.endpoints, weight, self.start)
        });
    }

    fn pick(&mut self, in_flight: &[u32], rng: &mut Rng) -> Option<usize> {
        let (weights, bias) = (&self.weights, self.bias);
        match &mut self.schedule {
            Some(schedule) => schedule.pick(|card| effective(weights, bias, in_flight, card)),
            None => less_busy_of_two(&self.endpoints, in_flight, rng),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn view(weights: &[u32]) -> View {
        View {
            weights: weights.iter().map(|weight| Some(*weight)).collect(),
            loads: Vec::new(),
        }
    }

    #[test]
    fn one_request_at_a_time_follows_the_weights_exactly_as_seen_on_envoy() {
        let mut balancer = LeastRequest::new(1.0, 0);
        let (idle, mut rng) = ([0; 3], Rng::with_seed(1));
        balancer.update(&view(&[70, 20, 10]), &idle);
        let mut counts = [0; 3];
        for _ in 0..100 {
            counts[balancer.pick(&idle, &mut rng).unwrap()] += 1;
        }
        assert_eq!(counts, [70, 20, 10]);
    }

    #[test]
    fn an_endpoint_that_keeps_its_requests_is_picked_less() {
        let mut balancer = LeastRequest::new(1.0, 0);
        let (busy, mut rng) = ([9, 0], Rng::with_seed(1));
        balancer.update(&view(&[20, 10]), &busy);
        let picks = (0..120).filter(|_| balancer.pick(&busy, &mut rng) == Some(0)).count();
        // 20/10 against 10/1.
        assert!((19..=21).contains(&picks), "{picks}");
    }

    #[test]
    fn equal_weights_make_it_the_less_busy_of_two() {
        let mut balancer = LeastRequest::new(1.0, 0);
        let (load, mut rng) = ([1, 0], Rng::with_seed(1));
        balancer.update(&view(&[5, 5]), &load);
        let picks = (0..4000).filter(|_| balancer.pick(&load, &mut rng) == Some(0)).count();
        // Only when both draws are the busy one.
        assert!((850..1150).contains(&picks), "{picks}");
    }

    #[test]
    fn without_endpoints_there_is_no_pick() {
        let mut balancer = LeastRequest::new(1.0, 7);
        balancer.update(
            &View {
                weights: vec![None, None],
                loads: vec![],
            },
            &[0, 0],
        );
        assert_eq!(balancer.pick(&[0, 0], &mut Rng::with_seed(1)), None);
    }
}
