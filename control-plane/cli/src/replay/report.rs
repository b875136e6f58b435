//! What a replay found.

use super::limits::LimitsReport;
use super::tally::{Groups, Origin};
use crate::failure::Failure;
use crate::table::{Table, printable};
use kilocard_policy::{Decision, Finding, Refusal, Route, Verdict};
use serde_json::{Value, json};
use std::fmt;
use std::rc::Rc;

/// Most malformed lines that are named.
const NAMED: usize = 5;

/// Why a request is refused or reported: the reason's label and the validation rule, if it was one.
type Why = (&'static str, Option<String>);

/// What a replay found.
#[derive(Debug, Default)]
pub struct Report {
    files: Vec<Rc<str>>,
    /// Captured requests that were decided.
    requests: u64,
    /// Lines without a captured request.
    pub(super) other: u64,
    /// Captured requests of which headers are missing.
    truncated: u64,
    malformed: u64,
    first_malformed: Vec<(String, String)>,
    not_evaluable: Groups<String>,
    moved: Groups<(String, String)>,
    refused: Groups<Why>,
    admitted: Groups<Why>,
    refused_otherwise: Groups<(Why, Why)>,
    gpu: Groups<(String, String)>,
    reported: Groups<Why>,
    /// What their limits make of them, if one of the policies has any.
    pub(super) limits: Option<LimitsReport>,
}

impl Report {
    /// Lines of this file will follow.
    pub(super) fn begin(&mut self, file: &Rc<str>) {
        self.files.push(file.clone());
    }

    /// That it can be the ground of a verdict.
    ///
    /// # Errors
    /// [`Failure::Usage`] if no request was replayed; lines that could not be read are told, and a log may end in one.
    pub(crate) fn ensure_sound(&self) -> Result<(), Failure> {
        if self.requests > 0 {
            return Ok(());
        }
        let message = format!(
            "--fail-on cannot answer, for there are 0 captured requests in {}; is it the access log of proxies under a \
             MeshPolicy with `capture`?",
            self.files.join(", ")
        );
        Err(Failure::Usage(message))
    }

    /// A line that should hold a captured request and does not.
    pub(super) fn malformed(&mut self, origin: &Origin, why: String) {
        self.malformed += 1;
        if self.first_malformed.len() < NAMED {
            self.first_malformed.push((origin.place(), why));
        }
    }

    /// A request of which the capture keeps too little for a rule.
    pub(super) fn not_evaluable(&mut self, origin: &Origin, rule: String) {
        self.not_evaluable.add(rule, origin, String::new);
    }

    /// A request that both policies decided.
    pub(super) fn decided(&mut self, origin: &Origin, old: &Decision<'_>, new: &Decision<'_>, is_truncated: bool) {
        self.requests += 1;
        self.truncated += u64::from(is_truncated);
        match (&old.verdict, &new.verdict) {
            (Verdict::Refuse(old), Verdict::Refuse(new)) => {
                let (before, after) = (why(old), why(new));
                if before != after {
                    self.refused_otherwise
                        .add((before, after), origin, || new.message.clone());
                }
            }
            (_, Verdict::Refuse(refusal)) => self.refused.add(why(refusal), origin, || refusal.message.clone()),
            (Verdict::Refuse(refusal), _) => self.admitted.add(why(refusal), origin, || refusal.message.clone()),
            (old, new) => {
                let (from, to) = (target(old), target(new));
                if from != to {
                    self.moved.add((from.to_owned(), to.to_owned()), origin, || note(new));
                }
                let (from, to) = (gpu(old), gpu(new));
                if from != to {
                    self.gpu.add((from.to_owned(), to.to_owned()), origin, || note(new));
                }
            }
        }
        for finding in &new.findings {
            if !old.findings.iter().any(|known| why_of(known) == why_of(finding)) {
                self.reported.add(why_of(finding), origin, || finding.message.clone());
            }
        }
    }

    /// How many requests are refused that were not before, by limits too.
    pub fn newly_refused(&self) -> u64 {
        let by_limits = self.limits.as_ref().map_or(0, LimitsReport::newly_refused);
        self.refused.requests().saturating_add(by_limits)
    }

    /// How many requests get another version.
    pub fn moved(&self) -> u64 {
        self.moved.requests()
    }

    /// For `--output json`.
    pub fn to_json(&self) -> Value {
        let why = |why: &Why| json!({"reason": why.0, "rule": why.1});
        let from_to = |(from, to): &(String, String)| json!({"from": from, "to": to});
        let malformed = |(place, why): &(String, String)| json!({"at": place, "why": why});
        json!({
            "files": self.files.iter().map(|file| &**file).collect::<Vec<_>>(),
            "requests": self.requests, "truncated": self.truncated, "other_lines": self.other,
            "malformed": {"lines": self.malformed, "first": self.first_malformed.iter().map(malformed).collect::<Value>()},
            "not_evaluable": self.not_evaluable.to_json(|rule| json!({"rule": rule})),
            "moved": self.moved.to_json(from_to),
            "newly_refused": self.refused.to_json(why),
            "no_longer_refused": self.admitted.to_json(why),
            "refused_otherwise": self.refused_otherwise.to_json(|(old, new)| json!({"from": why(old), "to": why(new)})),
            "gpu_changed": self.gpu.to_json(from_to),
            "newly_reported": self.reported.to_json(why),
            "limits": self.limits.as_ref().map(LimitsReport::to_json),
        })
    }
}

fn why(refusal: &Refusal<'_>) -> Why {
    let rule = refusal.violations.first().and_then(|violation| violation.rule);
    (
        refusal.reason.label(),
        rule.map(|rule| format!("{}/{}", rule.policy, rule.name)),
    )
}

fn why_of(finding: &Finding<'_>) -> Why {
    (
        finding.reason.label(),
        finding.rule.map(|rule| format!("{}/{}", rule.policy, rule.name)),
    )
}

fn route<'v, 'p>(verdict: &'v Verdict<'p>) -> Option<&'v Route<'p>> {
    match verdict {
        Verdict::Route(route) => Some(route),
        Verdict::Pass | Verdict::Refuse(_) => None,
    }
}

/// Where the request goes; what is passed undecided goes nowhere in particular.
fn target<'v>(verdict: &'v Verdict<'_>) -> &'v str {
    route(verdict).map_or("undecided", |route| route.route_key)
}

fn gpu<'v>(verdict: &'v Verdict<'_>) -> &'v str {
    route(verdict)
        .and_then(|route| route.gpu.as_ref())
        .map_or("any", |wish| &wish.label)
}

fn note(verdict: &Verdict<'_>) -> String {
    let Some(route) = route(verdict) else {
        return String::new();
    };
    let rule = route.rule.map_or(String::new(), |rule| format!(" by rule {rule}"));
    format!("{}{rule}", route.reason.label())
}

fn worded(why: &Why) -> String {
    match &why.1 {
        Some(rule) => format!("{} by rule {rule}", why.0),
        None => why.0.to_owned(),
    }
}

impl fmt::Display for Report {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let files: Vec<&str> = self.files.iter().map(|file| &**file).collect();
        writeln!(
            f,
            "replayed {} captured requests of {} ({} other lines)",
            self.requests,
            printable(&files.join(", ")),
            self.other
        )?;
        if self.truncated > 0 {
            writeln!(
                f,
                "{} of them miss headers, for they were too long to be captured whole",
                self.truncated
            )?;
        }
        if self.malformed > 0 {
            writeln!(f, "{} lines should hold a captured request and do not:", self.malformed)?;
            for (place, why) in &self.first_malformed {
                writeln!(f, "  {place}: {}", printable(why))?;
            }
        }
        let from_to = |(from, to): &(String, String)| format!("{from} → {to}");
        table(f, "get another version", &self.moved, from_to)?;
        table(f, "are newly refused", &self.refused, worded)?;
        table(f, "are no longer refused", &self.admitted, worded)?;
        let otherwise = |(old, new): &(Why, Why)| format!("{} → {}", worded(old), worded(new));
        table(f, "are refused for another reason", &self.refused_otherwise, otherwise)?;
        table(f, "get another GPU class", &self.gpu, from_to)?;
        table(f, "are newly reported (and let pass)", &self.reported, worded)?;
        let hashed = "times a rule was left out: it is about a value that was not kept, or about the caller";
        table(f, hashed, &self.not_evaluable, Clone::clone)?;
        match &self.limits {
            Some(limits) => limits.fmt(f),
            None => Ok(()),
        }
    }
}

fn table<K: Ord>(
    f: &mut fmt::Formatter<'_>,
    title: &str,
    groups: &Groups<K>,
    wording: impl Fn(&K) -> String,
) -> fmt::Result {
    if groups.is_empty() {
        return writeln!(f, "0 {title}");
    }
    writeln!(f, "{} {title}, of {} users:", groups.requests(), groups.users())?;
    let mut table = Table::new(&["WHAT", "REQUESTS", "USERS", "FOR EXAMPLE"]).indented(2);
    for (key, group) in groups.largest_first() {
        table.row([
            wording(key),
            group.requests.to_string(),
            group.users().to_string(),
            group.example(),
        ]);
    }
    write!(f, "{table}")
}
