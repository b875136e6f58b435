//! The validation stage: is this a well-formed request with well-formed headers, within the limits, and does it keep the
//! declared rules?
//!
//! One pass over the headers, and no allocation unless something is wrong. Values are bytes: whatever they hold, the answer
//! is a finding that names the header, never a panic, and never an echo. All that is wrong is told at once, up to a bound.

mod content;
mod findings;
mod grammar;
mod inference;
mod protocol;
mod rules;
mod scan;
#[cfg(test)]
mod tests;

use crate::caller::{Caller, CallerGroups};
use crate::config::{HeaderLimits, InternalHeaders, MethodLists, MethodPattern, Protocols, RefusalOptions, ReportOnly};
use crate::decision::{Finding, Refusal};
use crate::headers;
use crate::known::Known;
use crate::policy::Together;
use crate::request::RequestView;
use crate::rule_index::{RuleIndex, Scope};
pub(crate) use grammar::{decimal, is_binary_value};

use findings::Findings;
use protocol::Protocol;
use rules::Rules;

/// The canary's share that a checked request asks for, in percent.
pub(crate) fn canary_percent(known: &Known<'_>) -> Option<u16> {
    known.canary_weight.and_then(grammar::percent)
}

/// All ValidationPolicies, compiled together.
#[derive(Clone, Debug)]
pub(crate) struct Validation {
    limits: HeaderLimits,
    protocols: Protocols,
    /// `None`: all methods are allowed.
    allowed: Option<RuleIndex>,
    denied: RuleIndex,
    internal_headers: InternalHeaders,
    refusal: RefusalOptions,
    report_only: Option<ReportOnly>,
    rules: Rules,
}

/// What validation has made of a request.
pub(crate) struct Checked<'a, 'p> {
    pub(crate) outcome: Outcome<'a, 'p>,
    /// What would have been refused, were it not for report-only.
    pub(crate) reported: Vec<Finding<'p>>,
}

#[allow(
    clippy::large_enum_variant,
    reason = "one a request, on the stack: a box would cost an allocation"
)]
pub(crate) enum Outcome<'a, 'p> {
    /// It goes on undecided: plain HTTP, where the policy says so.
    Pass,
    /// It goes on, with these headers to route by.
    Proceed(Known<'a>),
    /// It is answered here.
    Refuse(Refusal<'p>),
}

impl Validation {
    pub(crate) fn compile(together: &Together<'_>, callers: &CallerGroups) -> Self {
        let methods = together.methods.get();
        Self {
            limits: together.limits.get().cloned().unwrap_or_default(),
            protocols: together.protocols.get().cloned().unwrap_or_default(),
            allowed: methods.and_then(|lists| lists.allow.as_deref()).map(index),
            denied: methods.map_or_else(RuleIndex::default, |MethodLists { deny, .. }| index(deny)),
            internal_headers: together.internal_headers.get().copied().unwrap_or_default(),
            refusal: together.refusal.get().cloned().unwrap_or_default(),
            report_only: together.report_only.get().cloned(),
            rules: Rules::compile(&together.header_rules, callers),
        }
    }

    /// The bounds on the headers of a request.
    pub(crate) fn limits(&self) -> &HeaderLimits {
        &self.limits
    }

    /// What the labels of rules stand for: `<policy>.<rule>`, by [`RuleId::label`](crate::RuleId::label).
    pub(crate) fn rule_labels(&self) -> &[String] {
        self.rules.labels()
    }

    /// Checks everything. `default_model` is the model of requests that name none; `routes`, whether the routing stage
    /// will read the headers as well.
    pub(crate) fn check<'a, 'p>(
        &'p self,
        request: &RequestView<'a>,
        default_model: Option<&str>,
        routes: bool,
    ) -> Checked<'a, 'p> {
        let protocol = Protocol::of(request, &self.protocols);
        let mut findings = Findings::new(self.report_only.as_ref(), self.refusal.status, routes);
        if protocol == Protocol::Passed {
            return self.check_passed(request, findings);
        }
        protocol.check_served(&mut findings);
        let known = scan::scan(self, request, protocol, &mut findings);
        protocol.check(&known, &mut findings);
        self.check_method(&known, protocol, &mut findings);
        inference::check(&known, &mut findings);
        if !findings.is_flood() {
            let caller = Caller::new(request.peer());
            self.rules.check(request, &known, default_model, &caller, &mut findings);
        }
        findings.finish(known)
    }

    /// Plain HTTP that goes on undecided. What is denied is denied to it too: a server may take a call for gRPC whatever its
    /// content type says.
    fn check_passed<'a, 'p>(&'p self, request: &RequestView<'a>, mut findings: Findings<'p>) -> Checked<'a, 'p> {
        let is_path = |(name, _): &&(&[u8], &[u8])| *name == headers::PATH.as_bytes();
        let known = Known {
            path: request.headers().iter().find(is_path).map(|(_, value)| *value),
            ..Known::default()
        };
        self.check_method(&known, Protocol::Passed, &mut findings);
        let mut checked = findings.finish(known);
        if matches!(checked.outcome, Outcome::Proceed(_)) {
            checked.outcome = Outcome::Pass;
        }
        checked
    }

    /// Without the validation stage: only what the routing stage itself leans on.
    pub(crate) fn check_for_routing<'a, 'p>(&'p self, request: &RequestView<'a>) -> Checked<'a, 'p> {
        if Protocol::of(request, &self.protocols) == Protocol::Passed {
            return Checked {
                outcome: Outcome::Pass,
                reported: Vec::new(),
            };
        }
        let mut findings = Findings::new(self.report_only.as_ref(), self.refusal.status, true);
        let known = scan::scan_for_routing(request, &mut findings);
        inference::check_for_routing(&known, &mut findings);
        findings.finish(known)
    }
}

/// The methods as the scope of one rule, so that a long list costs no more than a short one.
fn index(methods: &[MethodPattern]) -> RuleIndex {
    let scope = Scope {
        subjects: Vec::new(),
        methods: methods.iter().map(text).collect(),
    };
    // A scope without methods would mean all of them.
    RuleIndex::build((!methods.is_empty()).then_some(scope))
}

/// What a path is, or begins with.
fn text(pattern: &MethodPattern) -> &str {
    match pattern {
        MethodPattern::Method(text) | MethodPattern::Service(text) => text,
    }
}
