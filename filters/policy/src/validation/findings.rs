//! Gathers what is wrong with a request, and says what follows from it.

use std::fmt;

use super::{Checked, Outcome};
use crate::config::ReportOnly;
use crate::decision::{Finding, GrpcStatus, MAX_FINDINGS, Reached, Refusal, RefusalReason, RuleId};
use crate::headers;
use crate::known::Known;

/// Empty for an honest request, and then free of allocations.
pub(super) struct Findings<'p> {
    report_only: Option<&'p ReportOnly>,
    /// Of built-in checks.
    status: GrpcStatus,
    /// Whether routing reads the headers as well.
    routes: bool,
    enforced: Vec<Finding<'p>>,
    /// Of the first enforced one.
    first_status: GrpcStatus,
    reported: Vec<Finding<'p>>,
    flood: bool,
}

impl<'p> Findings<'p> {
    pub(super) fn new(report_only: Option<&'p ReportOnly>, status: GrpcStatus, routes: bool) -> Self {
        Self {
            report_only,
            status,
            routes,
            enforced: Vec::new(),
            first_status: status,
            reported: Vec::new(),
            flood: false,
        }
    }

    /// A built-in check failed. Of one header the first failure says enough.
    pub(super) fn add(&mut self, reason: RefusalReason, field: &str, message: impl fmt::Display) {
        let status = match reason {
            RefusalReason::MethodNotAllowed => GrpcStatus::PermissionDenied,
            _ => self.status,
        };
        let reports = self.only_reports(reason, field);
        let list = if reports { &self.reported } else { &self.enforced };
        if list.len() < MAX_FINDINGS && !list.iter().any(|finding| finding.field == field) {
            self.keep(Finding::new(reason, field, message), reports, status);
        }
    }

    /// A built-in check of one header: its value, if it has one, must hold.
    pub(super) fn ensure(
        &mut self,
        value: Option<&[u8]>,
        holds: fn(&[u8]) -> bool,
        reason: RefusalReason,
        field: &str,
        message: &str,
    ) {
        if !value.is_none_or(holds) {
            self.add(reason, field, message);
        }
    }

    /// The same as [`Findings::add`] for what would make later checks costly: if it is enforced, rules are not asked any more.
    pub(super) fn add_flood(&mut self, reason: RefusalReason, field: &str, message: impl fmt::Display) {
        self.flood |= !self.only_reports(reason, field);
        self.add(reason, field, message);
    }

    fn only_reports(&self, reason: RefusalReason, field: &str) -> bool {
        let routing_needs_it = self.routes && headers::is_read_by_routing(field);
        !routing_needs_it && self.report_only.is_some_and(|report_only| report_only.covers(reason))
    }

    /// A rule is broken.
    pub(super) fn add_broken(&mut self, broken: &Broken<'p>, message: impl fmt::Display) {
        let list = if broken.reports { &self.reported } else { &self.enforced };
        if list.len() < MAX_FINDINGS {
            let mut finding = Finding::new(broken.reason, broken.field, message);
            finding.rule = Some(broken.rule);
            self.keep(finding, broken.reports, broken.status.unwrap_or(self.status));
        }
    }

    fn keep(&mut self, finding: Finding<'p>, reports: bool, status: GrpcStatus) {
        if reports {
            self.reported.push(finding);
        } else {
            if self.enforced.is_empty() {
                self.first_status = status;
            }
            self.enforced.push(finding);
        }
    }

    /// Whether it is refused for its size.
    pub(super) fn is_flood(&self) -> bool {
        self.flood
    }

    /// Whether a refusal could not tell more.
    pub(super) fn is_full(&self) -> bool {
        self.enforced.len() >= MAX_FINDINGS
    }

    pub(super) fn finish<'a>(self, known: Known<'a>) -> Checked<'a, 'p> {
        let outcome = match self.enforced.first() {
            None => Outcome::Proceed(known),
            Some(first) => Outcome::Refuse(Refusal {
                status: self.first_status,
                reason: first.reason,
                field: first.field.clone(),
                message: first.message.clone(),
                violations: self.enforced,
                reached: Reached::default(),
                retry_after: None,
                limited: None,
            }),
        };
        Checked {
            outcome,
            reported: self.reported,
        }
    }
}

/// What is the same of all conditions of a broken rule.
pub(super) struct Broken<'p> {
    pub(super) rule: &'p RuleId,
    pub(super) reason: RefusalReason,
    pub(super) field: &'p str,
    pub(super) reports: bool,
    /// `None`: that of built-in checks.
    pub(super) status: Option<GrpcStatus>,
}
