//! What is compared: ways to pick, each with the weights that it is given.

use crate::balancer::Balancer;
use crate::balancer::argmin::StaleArgmin;
use crate::balancer::least_request::LeastRequest;
use crate::balancer::round_robin::RoundRobin;
use crate::balancer::two_choices::WeightedTwoChoices;
use crate::control::{Control, Fixed, Loads};
use crate::engine::{Contender, run};
use crate::fleet::Weighing;
use crate::moment::Moment;
use crate::record::Record;
use crate::scenario::Scenario;
use kilocard_weights::Params;
use std::sync::Arc;

/// One of those that are compared.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub enum Arm {
    /// Kilocard: Envoy's LEAST_REQUEST over the weights that the control plane computes from telemetry.
    Kilocard,
    /// LEAST_REQUEST over the cards' priors.
    LeastRequestStatic,
    /// Weighted ROUND_ROBIN over the weights that the control plane computes.
    RoundRobinWeighed,
    /// Weighted ROUND_ROBIN over the cards' priors.
    StaticWeights,
    /// Two choices drawn by prior.
    WeightedTwoChoices,
    /// Two choices, all cards alike.
    TwoChoices,
    /// The least reported load for the prior, as of the last report.
    StaleArgmin,
    /// ROUND_ROBIN, all cards alike.
    RoundRobin,
}

/// Envoy's default `active_request_bias`.
const BIAS: f64 = 1.0;

impl Arm {
    /// All of them, in the order in which they are shown.
    pub const ALL: [Self; 8] = [
        Self::Kilocard,
        Self::LeastRequestStatic,
        Self::RoundRobinWeighed,
        Self::StaticWeights,
        Self::WeightedTwoChoices,
        Self::TwoChoices,
        Self::StaleArgmin,
        Self::RoundRobin,
    ];

    /// Its name, on the command line and in results.
    pub fn name(self) -> &'static str {
        match self {
            Self::Kilocard => "kilocard",
            Self::LeastRequestStatic => "least-request-static",
            Self::RoundRobinWeighed => "round-robin-weighed",
            Self::StaticWeights => "static-weights",
            Self::WeightedTwoChoices => "weighted-two-choices",
            Self::TwoChoices => "two-choices",
            Self::StaleArgmin => "stale-argmin",
            Self::RoundRobin => "round-robin",
        }
    }

    /// How it picks, and over what.
    pub fn explanation(self) -> &'static str {
        match self {
            Self::Kilocard => "Envoy's LEAST_REQUEST over the control plane's weights",
            Self::LeastRequestStatic => "LEAST_REQUEST over static weights by card",
            Self::RoundRobinWeighed => "weighted ROUND_ROBIN over the control plane's weights",
            Self::StaticWeights => "weighted ROUND_ROBIN over static weights by card",
            Self::WeightedTwoChoices => "less busy of two drawn by static weight (not in Envoy)",
            Self::TwoChoices => "LEAST_REQUEST with equal weights: the less busy of two",
            Self::StaleArgmin => "least reported load for its weight, a second old",
            Self::RoundRobin => "ROUND_ROBIN with equal weights",
        }
    }

    /// Runs a scenario with it. `params` are the constants of the control plane's weights.
    pub fn run(self, scenario: &Scenario, params: &Arc<Params>, seed: u64, progress: &mut dyn FnMut(Moment)) -> Record {
        let contender = Contender {
            balancer: self.balancer(),
            control: self.control(scenario, params),
        };
        run(scenario, contender, seed, progress)
    }

    fn balancer(self) -> &'static dyn Fn(u32) -> Box<dyn Balancer> {
        match self {
            Self::Kilocard | Self::LeastRequestStatic | Self::TwoChoices => {
                &|start| Box::new(LeastRequest::new(BIAS, start))
            }
            Self::RoundRobinWeighed | Self::StaticWeights | Self::RoundRobin => {
                &|start| Box::new(RoundRobin::new(start))
            }
            Self::WeightedTwoChoices => &|_| Box::new(WeightedTwoChoices::default()),
            Self::StaleArgmin => &|_| Box::new(StaleArgmin::default()),
        }
    }

    fn control(self, scenario: &Scenario, params: &Arc<Params>) -> Box<dyn Control> {
        let priors = || scenario.cards.iter().map(|card| card.prior).collect();
        match self {
            Self::Kilocard | Self::RoundRobinWeighed => Box::new(Weighing::new(scenario, Arc::clone(params))),
            Self::LeastRequestStatic | Self::StaticWeights | Self::WeightedTwoChoices => Box::new(Fixed::new(priors())),
            Self::TwoChoices | Self::RoundRobin => Box::new(Fixed::new(vec![1; scenario.cards.len()])),
            Self::StaleArgmin => Box::new(Loads::new(priors())),
        }
    }
}
