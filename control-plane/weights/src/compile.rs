//! From `kind: WeightPolicy` to constants: percent to fractions, milliseconds to durations, and what a policy leaves out from
//! the policy of all models or from the defaults.

use crate::card::CardPrior;
use crate::locality::Level;
use crate::params::{
    Constants, FaultRules, MeasuredCapacity, MemoryRamp, Params, Publication, SlowStart, Smoothing, Spillover,
    Staleness, ThermalRamp,
};
use kilocard_policy::config::{CardCapacity, FaultConstants, LocalityLevel, WeightPolicy};
use std::time::Duration;

impl Params {
    /// The constants that these policies say. At most one of them may be without a model, and one for each model; of
    /// several, the last counts.
    pub fn compile<'a>(policies: impl IntoIterator<Item = &'a WeightPolicy> + Clone) -> Self {
        let of_all = policies
            .clone()
            .into_iter()
            .filter(|policy| policy.model.is_none())
            .last();
        let mut default = Constants::default();
        if let Some(policy) = of_all {
            default.take(policy);
        }
        let models = policies.into_iter().filter_map(|policy| {
            let mut constants = default.clone();
            constants.take(policy);
            Some((policy.model.clone()?, constants))
        });
        let models: Vec<_> = models.collect();
        Self::new(default, models)
    }
}

impl Constants {
    /// Takes the sections that the policy has.
    fn take(&mut self, policy: &WeightPolicy) {
        self.take_formula(policy);
        self.take_motion(policy);
        self.take_localities(policy);
        if let Some(faults) = &policy.faults {
            self.faults = FaultRules {
                fatal_xids: std::mem::take(&mut self.faults.fatal_xids),
                ..fault_rules(faults)
            };
        }
        if let Some(xids) = &policy.fatal_xids {
            self.faults.fatal_xids.clone_from(xids);
        }
        if let Some(cards) = &policy.cards {
            self.cards = cards.iter().map(prior).collect();
        }
    }

    fn take_formula(&mut self, policy: &WeightPolicy) {
        if let Some(memory) = &policy.memory {
            self.memory = MemoryRamp {
                floor: fraction(memory.floor_percent),
                ample: fraction(memory.ample_percent),
            };
        }
        if let Some(load) = &policy.load {
            self.queue_half = load.queue_half.into();
            self.error_penalty = load.error_penalty.into();
        }
        if let Some(thermal) = &policy.thermal {
            self.thermal = ThermalRamp {
                below_c: thermal.below_c.into(),
                floor: fraction(thermal.floor_percent),
            };
        }
        if let Some(links) = &policy.links {
            self.nvlink_lost = fraction(links.nvlink_lost_percent);
            self.rdma_fallback = fraction(links.rdma_fallback_percent);
        }
        if let Some(capacity) = &policy.capacity {
            self.capacity = MeasuredCapacity {
                average: millis(capacity.average_ms),
                least: millis(capacity.least_ms),
                busy: fraction(capacity.busy_percent),
                claim: fraction(capacity.claim_percent),
            };
        }
    }

    fn take_localities(&mut self, policy: &WeightPolicy) {
        if let Some(level) = policy.locality {
            self.locality = match level {
                LocalityLevel::None => Level::None,
                LocalityLevel::Zone => Level::Zone,
                LocalityLevel::Rack => Level::Rack,
            };
        }
        if let Some(spillover) = &policy.spillover {
            self.spillover = Spillover {
                engage: fraction(spillover.engage_percent),
                release: fraction(spillover.release_percent),
                step: fraction(spillover.step_percent),
                most: fraction(spillover.most_percent),
                hold: millis(spillover.hold_ms),
            };
        }
    }

    fn take_motion(&mut self, policy: &WeightPolicy) {
        if let Some(smoothing) = &policy.smoothing {
            self.smoothing = Smoothing {
                up: fraction(smoothing.up_percent),
                down: fraction(smoothing.down_percent),
                max_up: fraction(smoothing.max_up_percent),
                max_down: fraction(smoothing.max_down_percent),
            };
        }
        if let Some(staleness) = &policy.staleness {
            self.staleness = Staleness {
                after: millis(staleness.after_ms),
                promises: staleness.promises,
                decay: millis(staleness.decay_ms),
            };
        }
        if let Some(publication) = &policy.publication {
            self.publication = Publication {
                grid: fraction(publication.grid_percent),
                interval: millis(publication.interval_ms),
                settle: millis(publication.settle_ms),
            };
        }
        if let Some(slow) = &policy.slow_start {
            self.slow_start = SlowStart {
                over: millis(slow.over_ms),
                from: fraction(slow.from_percent),
            };
        }
    }
}

fn fault_rules(faults: &FaultConstants) -> FaultRules {
    FaultRules {
        fatal_xids: Vec::new(),
        clear: millis(faults.clear_ms),
        max_ejected: fraction(faults.max_ejected_percent),
        suspect: fraction(faults.suspect_percent),
    }
}

fn prior(card: &CardCapacity) -> CardPrior {
    CardPrior {
        product: card.product.clone(),
        mig: card.mig.clone(),
        capacity: card.capacity.into(),
    }
}

fn fraction(percent: u32) -> f64 {
    f64::from(percent) / 100.0
}

fn millis(millis: u32) -> Duration {
    Duration::from_millis(millis.into())
}

#[cfg(test)]
mod tests {
    use super::*;
    use kilocard_policy::config::{Document, Spec, parse};
    use serde_json::{Value, json};

    fn document(spec: &Value) -> Document {
        parse(&json!({"api_version": "kilocard/v1", "kind": "WeightPolicy", "metadata": {"name": "w"}, "spec": spec}))
            .unwrap()
    }

    fn compile(specs: &[Value]) -> Params {
        let documents: Vec<Document> = specs.iter().map(document).collect();
        let policies = documents.iter().filter_map(|document| match document.spec() {
            Spec::Weights(policy) => Some(policy),
            _ => None,
        });
        Params::compile(policies)
    }

    /// The document's defaults are those of the code.
    #[test]
    fn a_policy_of_empty_sections_changes_nothing() {
        let empty = json!({
            "memory": {}, "load": {}, "thermal": {}, "links": {}, "smoothing": {}, "staleness": {}, "publication": {},
            "slow_start": {}, "capacity": {}, "faults": {}, "spillover": {}, "locality": "zone",
        });
        assert_eq!(compile(&[empty]), Params::default());
        assert_eq!(compile(&[]), Params::default());
    }

    #[test]
    fn a_models_policy_goes_before_that_of_all_models_section_by_section() {
        let all = json!({"memory": {"ample_percent": 40}, "fatal_xids": [79], "cards": [{"product": "H100", "capacity": 300}]});
        let own = json!({"model": "m", "memory": {}, "slow_start": {"over_ms": 0}});
        let params = compile(&[own, all]);
        let (own, other) = (params.of("m"), params.of("other"));
        assert_eq!((own.memory.ample, other.memory.ample), (0.25, 0.4));
        assert_eq!(
            (own.slow_start.over, other.slow_start.over),
            (Duration::ZERO, Duration::from_secs(45))
        );
        assert_eq!(own.faults.fatal_xids, [79]);
        assert_eq!(own.cards[0].capacity, 300.0);
    }
}
