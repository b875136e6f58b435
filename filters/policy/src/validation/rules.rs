//! The declared rules on single headers.

use std::fmt;

use regex_lite::Regex;

use super::findings::{Broken, Findings};
use super::{content, grammar};
use crate::caller::{Caller, CallerGroups, Callers};
use crate::config::{ContentClass, HeaderRule, LengthRange, NumberRange, RuleAction};
use crate::decision::{GrpcStatus, RefusalReason, RuleId};
use crate::known::Known;
use crate::policy::DeclaredRule;
use crate::request::{RequestView, without_query};
use crate::rule_index::{RuleIndex, Scope};

/// How many rules have a metric label of their own: a time series costs memory in every Envoy, and rules may be thousands.
/// The others share one.
const OWN_LABELS: usize = 256;
/// Longest value that a pattern is tried on where the rule's `length` does not say: matching takes time in proportion to
/// the value and to the pattern, and clients choose the value.
const PATTERN_BYTES: usize = 512;
/// What the others share.
const SHARED_LABEL: &str = "other";

/// All rules of all ValidationPolicies, in the order of documents and within each as declared.
#[derive(Clone, Debug, Default)]
pub(super) struct Rules {
    rules: Vec<Rule>,
    /// By model and method.
    index: RuleIndex,
    labels: Vec<String>,
}

#[derive(Clone, Debug)]
struct Rule {
    id: RuleId,
    header: String,
    required: bool,
    pattern: Option<Regex>,
    length: Option<LengthRange>,
    /// Sorted.
    one_of: Vec<String>,
    range: Option<NumberRange>,
    forbid: Vec<ContentClass>,
    /// `None`: everybody may send it.
    callers: Option<Callers>,
    reports: bool,
    status: Option<GrpcStatus>,
}

impl Rules {
    pub(super) fn compile(declared: &[DeclaredRule<'_>], callers: &CallerGroups) -> Self {
        let scopes = declared.iter().map(|declared| Scope {
            subjects: declared
                .rule
                .match_
                .models
                .iter()
                .map(|model| model.clone().into_bytes())
                .collect(),
            methods: declared.rule.match_.methods.iter().map(super::text).collect(),
        });
        let index = RuleIndex::build(scopes);
        let ids = declared.iter().enumerate().map(|(at, declared)| RuleId {
            policy: declared.document.name().to_owned(),
            name: declared.rule.name.clone(),
            label: at.min(OWN_LABELS),
        });
        let rules: Vec<_> = declared
            .iter()
            .zip(ids)
            .map(|(declared, id)| Rule::compile(declared.rule, id, callers))
            .collect();
        let own = rules
            .iter()
            .take(OWN_LABELS)
            .map(|rule| format!("{}.{}", rule.id.policy, rule.id.name));
        let shared = (rules.len() > OWN_LABELS).then(|| SHARED_LABEL.to_owned());
        let labels = own.chain(shared).collect();
        Self { rules, index, labels }
    }

    /// `<policy>.<rule>` by label.
    pub(super) fn labels(&self) -> &[String] {
        &self.labels
    }

    /// Every rule that applies to the request.
    pub(super) fn check<'p>(
        &'p self,
        request: &RequestView<'_>,
        known: &Known<'_>,
        default_model: Option<&str>,
        caller: &Caller<'_>,
        findings: &mut Findings<'p>,
    ) {
        if self.rules.is_empty() {
            return;
        }
        let model = known.model.or(default_model.map(str::as_bytes));
        let path = known.path.map(without_query).unwrap_or_default();
        for rule in self.index.find(model, path).filter_map(|at| self.rules.get(at)) {
            if findings.is_full() {
                return;
            }
            rule.check(request, caller, findings);
        }
    }
}

impl Rule {
    fn compile(rule: &HeaderRule, id: RuleId, callers: &CallerGroups) -> Self {
        let mut one_of = rule.one_of.clone();
        one_of.sort_unstable();
        Self {
            id,
            header: rule.header.clone(),
            required: rule.required,
            // A pattern that came out of a document compiles: reading it has tried.
            pattern: rule.pattern.as_ref().and_then(|pattern| pattern.compile().ok()),
            length: rule.length,
            one_of,
            range: rule.range,
            forbid: rule.forbid.clone(),
            callers: (!rule.callers.is_empty()).then(|| callers.named(&rule.callers)),
            reports: rule.action == RuleAction::Report,
            status: rule.status,
        }
    }

    fn check<'p>(&'p self, request: &RequestView<'_>, caller: &Caller<'_>, findings: &mut Findings<'p>) {
        let headers = request.headers().iter();
        let mut values = headers
            .filter(|(name, _)| *name == self.header.as_bytes())
            .map(|(_, value)| *value);
        let Some(first) = values.next() else {
            if self.required {
                findings.add_broken(&self.broken(), format_args!("is required by rule {}", self.id.name));
            }
            return;
        };
        if let Some(callers) = &self.callers
            && request.replayed().is_none()
            && !callers.admit(caller)
        {
            let broken = Broken {
                reason: RefusalReason::CallerNotAllowed,
                status: self.status.or(Some(GrpcStatus::PermissionDenied)),
                ..self.broken()
            };
            let message = format_args!("may be sent only by callers whom rule {} admits", self.id.name);
            findings.add_broken(&broken, message);
        }
        let is_known = !request.is_hashed(self.header.as_bytes());
        for value in std::iter::once(first).chain(values) {
            if self.check_value(value, is_known, findings) || findings.is_full() {
                // One value says what is wrong; a hundred more of them say no more.
                return;
            }
        }
    }

    /// Whether the value breaks a condition. Of one that is not known but by its length, nothing else is asked; nor of one
    /// that breaks `length`, which thereby bounds what the others cost: a regular expression with many states may take
    /// microseconds a byte.
    fn check_value<'p>(&'p self, value: &[u8], is_known: bool, findings: &mut Findings<'p>) -> bool {
        let mut is_broken = false;
        let mut ensure = |holds: bool, message: &dyn fmt::Display| {
            if !holds {
                is_broken = true;
                let message = format_args!("{message} (rule {})", self.id.name);
                findings.add_broken(&self.broken(), message);
            }
        };
        if let Some(LengthRange { min, max, .. }) = self.length {
            let holds = (min as usize..=max as usize).contains(&value.len());
            ensure(
                holds,
                &format_args!("must be {min} to {max} bytes long, is {}", value.len()),
            );
            if !holds {
                return true;
            }
        }
        if !is_known {
            return is_broken;
        }
        if let Some(pattern) = &self.pattern {
            if self.length.is_none() && value.len() > PATTERN_BYTES {
                let message = format_args!("is longer than {PATTERN_BYTES} bytes, the most that a pattern is tried on");
                ensure(false, &message);
                return true;
            }
            let holds = std::str::from_utf8(value).is_ok_and(|value| pattern.is_match(value));
            ensure(holds, &"does not match the pattern");
        }
        if !self.one_of.is_empty() {
            let holds = self.one_of.binary_search_by(|one| one.as_bytes().cmp(value)).is_ok();
            ensure(holds, &format_args!("must be one of {}", Listed(&self.one_of)));
        }
        if let Some(range) = &self.range {
            let holds = grammar::decimal(value).is_some_and(|number| range.contains(number));
            ensure(holds, &format_args!("must be a decimal number {}", Ends(range)));
        }
        if !self.forbid.is_empty()
            && let Some(class) = content::find(&self.forbid, value)
        {
            ensure(false, &format_args!("holds what looks like {}", class.as_str()));
        }
        is_broken
    }

    fn broken(&self) -> Broken<'_> {
        Broken {
            rule: &self.id,
            reason: RefusalReason::RuleViolated,
            field: &self.header,
            reports: self.reports,
            status: self.status,
        }
    }
}

/// Values from a policy, as many as a message can hold.
struct Listed<'l>(&'l [String]);

impl fmt::Display for Listed<'_> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        const SHOWN: usize = 8;
        const LONGEST: usize = 64;
        for (at, one) in self.0.iter().take(SHOWN).enumerate() {
            let comma = if at == 0 { "" } else { ", " };
            write!(f, "{comma}`{one:.LONGEST$}`")?;
        }
        match self.0.len().saturating_sub(SHOWN) {
            0 => Ok(()),
            more => write!(f, " and {more} more"),
        }
    }
}

struct Ends<'r>(&'r NumberRange);

impl fmt::Display for Ends<'_> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match (self.0.min, self.0.max) {
            (Some(min), Some(max)) => write!(f, "from {min} to {max}"),
            (Some(min), None) => write!(f, "of at least {min}"),
            (None, Some(max)) => write!(f, "of at most {max}"),
            (None, None) => Ok(()),
        }
    }
}
