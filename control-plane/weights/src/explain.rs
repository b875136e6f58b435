//! An endpoint's weight for operators.

use crate::endpoint::{Endpoint, Illness, Standing};
use crate::factor::NAMES;
use crate::params::Constants;
use kilocard_registry::report::{DrainReport, FactorReport, WeightFactors};
use std::time::Duration;

impl Endpoint {
    pub(crate) fn explain(&self, now: Duration, constants: &Constants) -> WeightFactors {
        let (drained, held) = match self.standing {
            Standing::Serving => (None, None),
            Standing::Drained(_) => (self.fault_report(now), None),
            Standing::Held(_) => (None, self.fault_report(now)),
        };
        let ramp = self.ramp_value(now, constants);
        WeightFactors {
            card: self.card.clone(),
            card_prior: self.prior,
            capacity: self.capacity,
            factors: NAMES.iter().map(|name| self.factor_report(name, constants)).collect(),
            target: self.target(now, constants),
            smoothed: self.smoothed,
            telemetry_age_ms: self.report.map(|report| millis(now.saturating_sub(report.received))),
            telemetry_stale: self.staleness(now, constants) > 0.0,
            slow_start: (ramp < 1.0).then_some(ramp),
            drained,
            held,
            simulated: self.simulated,
        }
    }

    fn factor_report(&self, name: &'static str, constants: &Constants) -> FactorReport {
        let (value, reason) = match (name, self.standing) {
            ("suspect", Standing::Held(code)) if !code.is_fact() => {
                (constants.faults.suspect, "ought to be drained".to_owned())
            }
            _ => {
                let found = self.factors.iter().find(|factor| factor.name == name);
                found.map_or((1.0, String::new()), |factor| (factor.value, factor.reason.clone()))
            }
        };
        FactorReport {
            name: name.to_owned(),
            value,
            reason,
        }
    }

    fn fault_report(&self, now: Duration) -> Option<DrainReport> {
        let Illness { fault, since, .. } = self.illness.as_ref()?;
        Some(DrainReport {
            code: fault.code.as_str().to_owned(),
            text: fault.text.clone(),
            since_ms: millis(now.saturating_sub(*since)),
            returns: fault.code.returns().to_owned(),
        })
    }
}

fn millis(duration: Duration) -> u64 {
    u64::try_from(duration.as_millis()).unwrap_or(u64::MAX)
}
