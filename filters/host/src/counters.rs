//! Counts decisions by outcome: Envoy counters `wasmcustom.kilocard_decisions.<LABEL>`.
//!
//! The labels are the closed sets of reasons, all defined when the filter is configured, so that no request can make a
//! new time series and a dashboard sees zeros before the first event.

use kilocard_policy::{Decision, RefusalReason, RouteReason, Verdict};

use crate::abi::{self, Level};

/// Passed by a filter that does not route.
const VALIDATED: &str = "VALIDATED";
/// Answered here because a host call failed.
const HOST_ERROR: &str = "HOST_ERROR";

/// The ids of the counters, by label.
pub(crate) struct Counters {
    ids: Vec<(&'static str, u32)>,
}

impl Counters {
    /// A counter that Envoy does not define is left out, and logged: requests matter more than their count.
    pub(crate) fn define() -> Self {
        let routes = RouteReason::ALL.iter().map(|reason| reason.label());
        let refusals = RefusalReason::ALL.iter().map(|reason| reason.label());
        let mut ids = Vec::new();
        for label in routes.chain(refusals).chain([VALIDATED, HOST_ERROR]) {
            match abi::define_counter(&format!("kilocard_decisions.{label}")) {
                Ok(id) => ids.push((label, id)),
                Err(error) => abi::log(Level::Warn, &format!("decisions {label} will not be counted: {error}")),
            }
        }
        Self { ids }
    }

    pub(crate) fn count(&self, decision: &Decision<'_>) {
        self.increment(match &decision.verdict {
            Verdict::Route(route) => route.reason.label(),
            Verdict::Pass => VALIDATED,
            Verdict::Refuse(refusal) => refusal.reason.label(),
        });
    }

    pub(crate) fn count_host_error(&self) {
        self.increment(HOST_ERROR);
    }

    fn increment(&self, label: &str) {
        if let Some((_, id)) = self.ids.iter().find(|(candidate, _)| *candidate == label) {
            // Nothing is lost but a count, and a log line a request would cost more than it tells.
            let _ = abi::increment_counter(*id);
        }
    }
}
