//! How a gateway picks an endpoint for a request.
//!
//! A balancer belongs to one worker thread of one gateway, as in Envoy: it knows the weights that the gateway was sent and
//! what the gateway itself has in flight, and nothing of other gateways.

pub mod argmin;
pub mod edf;
pub mod least_request;
pub mod round_robin;
pub mod two_choices;

use fastrand::Rng;

/// What a gateway was last told of the cards.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct View {
    /// Weight by card; `None` for a card that is no endpoint now. A weight is at least 1.
    pub weights: Vec<Option<u32>>,
    /// Requests on each card, as last reported by the cards; empty where nobody asks for it.
    pub loads: Vec<u32>,
}

impl View {
    /// The endpoints: cards with their weights, in order.
    pub fn endpoints(&self) -> impl Iterator<Item = (usize, u32)> + '_ {
        let weights = self.weights.iter().enumerate();
        weights.filter_map(|(card, weight)| weight.map(|weight| (card, weight.max(1))))
    }

    /// Whether any two endpoints differ in weight: Envoy keeps a schedule only then.
    pub fn is_unequal(&self) -> bool {
        let mut weights = self.endpoints().map(|(_, weight)| weight);
        let first = weights.next();
        weights.any(|weight| Some(weight) != first)
    }

    /// Weights by card; 1 for what is no endpoint.
    fn weights_or_one(&self) -> Vec<f64> {
        let weights = self.weights.iter();
        weights.map(|weight| f64::from(weight.unwrap_or(1).max(1))).collect()
    }

    /// The sum of the weights.
    pub fn total(&self) -> f64 {
        self.endpoints().map(|(_, weight)| f64::from(weight)).sum()
    }
}

/// A way to pick.
pub trait Balancer: std::fmt::Debug {
    /// Takes in what the gateway was told. `in_flight` is by card.
    fn update(&mut self, view: &View, in_flight: &[u32]);

    /// The card for the next request; `None` when there is no endpoint.
    fn pick(&mut self, in_flight: &[u32], rng: &mut Rng) -> Option<usize>;
}

/// What is in flight to a card.
fn active(in_flight: &[u32], card: usize) -> u32 {
    in_flight.get(card).copied().unwrap_or_default()
}
