//! What is counted, as Envoy counters that begin with `wasmcustom.`:
//! - `kilocard_decisions.<LABEL>`: every request by its outcome;
//! - `kilocard_reported.<LABEL>`: what would have been refused, were the check not report-only;
//! - `kilocard_rules.<policy>.<rule>.{refused,reported}`: the same of declared rules;
//! - `kilocard_limits.<policy>.{refused,overflow}`: requests that a limit refused, and those that shared the overflow key;
//!   of a policy that only counts, `shadow` in place of `refused`;
//! - `kilocard_memory.{stale,too_large,full,unfair,never}`: requests refused for want of GPU memory;
//! - `kilocard_timeouts.{total,first_message,gap,client_deadline,shadow}`: requests that took longer than they may; `shadow`
//!   counts those of a policy that cuts nothing;
//! - `kilocard_shadow.{sent,capped}`: copies.
//!
//! The labels are closed sets, all defined when the filter is configured, so that no request can make a new time series and
//! a dashboard sees zeros before the first event.

use std::collections::HashMap;

use kilocard_latency::watchdog::Cause;
use kilocard_policy::limit::Table;
use kilocard_policy::limit::memory::Shortage;
use kilocard_policy::{Decision, Finding, Policy, RefusalReason, RouteReason, Stages, Verdict};

use crate::abi::{self, Level};

/// Passed by a filter that does not route, or undecided by the policy's will.
const VALIDATED: &str = "VALIDATED";
/// Not decided, because a host call failed.
const HOST_ERROR: &str = "HOST_ERROR";

/// Why memory cannot be had.
const SHORTAGES: [Shortage; 5] = [
    Shortage::Stale,
    Shortage::TooLarge,
    Shortage::Full,
    Shortage::Unfair,
    Shortage::Never,
];

/// By which deadline requests are too late.
const CAUSES: [Cause; 4] = [Cause::Total, Cause::FirstMessage, Cause::Gap, Cause::Client];

/// A counter, if Envoy has defined it: requests matter more than their count.
type Id = Option<u32>;

/// The ids of the counters.
pub(crate) struct Counters {
    routes: Vec<Id>,
    refusals: Vec<Id>,
    reported: Vec<Id>,
    /// By the label of the rule: refused, reported.
    rules: Vec<[Id; 2]>,
    /// By the name of the RateLimitPolicy: met, overflow.
    limits: HashMap<String, [Id; 2]>,
    shortages: Vec<Id>,
    timeouts: Vec<Id>,
    timeout_shadow: Id,
    validated: Id,
    host_error: Id,
    shadow_sent: Id,
    shadow_capped: Id,
}

impl Counters {
    /// Defines all that these stages of the policy can count.
    pub(crate) fn define(policy: &Policy, stages: Stages) -> Self {
        let each = |prefix: &str, labels: &[&str]| {
            labels
                .iter()
                .map(|label| define(&format!("{prefix}.{label}")))
                .collect()
        };
        let routes: Vec<_> = RouteReason::ALL.iter().map(|reason| reason.label()).collect();
        let refusals: Vec<_> = RefusalReason::ALL.iter().map(|reason| reason.label()).collect();
        let rule =
            |label: &String| ["refused", "reported"].map(|what| define(&format!("kilocard_rules.{label}.{what}")));
        let validates = stages.contains(Stages::VALIDATION);
        let labels = if validates { policy.rule_labels() } else { &[] };
        let limits = stages.contains(Stages::LIMITS);
        let tables = if limits { policy.rate_limits() } else { &[] };
        let times = stages.contains(Stages::TIMEOUTS);
        let limit = |table: &Table| {
            let met = if table.is_shadow() { "shadow" } else { "refused" };
            let ids = [met, "overflow"].map(|what| define(&format!("kilocard_limits.{}.{what}", table.name())));
            (table.name().to_owned(), ids)
        };
        Self {
            routes: each("kilocard_decisions", &routes),
            refusals: each("kilocard_decisions", &refusals),
            reported: each("kilocard_reported", if validates { &refusals } else { &[] }),
            rules: labels.iter().map(rule).collect(),
            limits: tables.iter().map(limit).collect(),
            shortages: if limits {
                each("kilocard_memory", &SHORTAGES.map(Shortage::label))
            } else {
                Vec::new()
            },
            timeouts: if times {
                let labels = CAUSES.map(|cause| cause.label().replace('-', "_"));
                each("kilocard_timeouts", &labels.each_ref().map(String::as_str))
            } else {
                Vec::new()
            },
            timeout_shadow: times.then(|| define("kilocard_timeouts.shadow")).flatten(),
            validated: define(&format!("kilocard_decisions.{VALIDATED}")),
            host_error: define(&format!("kilocard_decisions.{HOST_ERROR}")),
            shadow_sent: define("kilocard_shadow.sent"),
            shadow_capped: define("kilocard_shadow.capped"),
        }
    }

    pub(crate) fn count(&self, decision: &Decision<'_>) {
        match &decision.verdict {
            Verdict::Pass => increment(self.validated),
            Verdict::Route(route) => increment(at(&self.routes, RouteReason::ALL, &route.reason)),
            Verdict::Refuse(refusal) => {
                increment(at(&self.refusals, RefusalReason::ALL, &refusal.reason));
                for violation in &refusal.violations {
                    increment(self.rule(violation, 0));
                }
            }
        }
        for finding in &decision.findings {
            match finding.rule {
                Some(_) => increment(self.rule(finding, 1)),
                None => increment(at(&self.reported, RefusalReason::ALL, &finding.reason)),
            }
        }
    }

    fn rule(&self, finding: &Finding<'_>, what: usize) -> Id {
        *self.rules.get(finding.rule?.label)?.get(what)?
    }

    pub(crate) fn count_host_error(&self) {
        increment(self.host_error);
    }

    /// A request met a limit of this policy.
    pub(crate) fn count_limit(&self, table: &Table) {
        increment(self.limits.get(table.name()).and_then(|ids| ids[0]));
    }

    /// A request found no memory.
    pub(crate) fn count_shortage(&self, shortage: Shortage) {
        increment(at(&self.shortages, &SHORTAGES, &shortage));
    }

    /// A request took longer than it may.
    pub(crate) fn count_timeout(&self, cause: Cause, is_shadow: bool) {
        increment(if is_shadow {
            self.timeout_shadow
        } else {
            at(&self.timeouts, &CAUSES, &cause)
        });
    }

    /// A request shared the overflow key of this policy.
    pub(crate) fn count_overflow(&self, table: &Table) {
        increment(self.limits.get(table.name()).and_then(|ids| ids[1]));
    }

    pub(crate) fn count_shadow(&self, sent: bool) {
        increment(if sent { self.shadow_sent } else { self.shadow_capped });
    }
}

fn at<T: PartialEq>(ids: &[Id], all: &[T], wanted: &T) -> Id {
    let index = all.iter().position(|one| one == wanted)?;
    *ids.get(index)?
}

fn define(name: &str) -> Id {
    abi::define_counter(name)
        .inspect_err(|error| abi::log(Level::Warn, &format!("{name} will not be counted: {error}")))
        .ok()
}

fn increment(id: Id) {
    if let Some(id) = id {
        // Nothing is lost but a count, and a log line a request would cost more than it tells.
        let _ = abi::increment_counter(id);
    }
}
