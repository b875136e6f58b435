//! `kilocard explain`: what the mesh does with a request, stage by stage, and why.

use crate::args::ExplainArgs;
use crate::failure::Failure;
use crate::in_force::{self, InForce};
use crate::outcome::Outcome;
use crate::request::{Request, Sender};
use crate::shares::Share;
use kilocard_policy::record::Record;
use kilocard_policy::{Decision, Finding, Policy, Refusal, RequestView, RouteReason, Stages, Verdict};
use kilocard_registry::connect::EtcdArgs;
use serde_json::{Value, json};
use std::fmt::Write;

mod route;
#[cfg(test)]
pub(crate) mod tests;

use route::RouteInContext;

/// Runs the command.
///
/// # Errors
/// [`Failure`] if there are no policies to ask; a refused request is a good outcome.
pub async fn run(etcd: &EtcdArgs, args: &ExplainArgs) -> Result<Outcome, Failure> {
    let in_force = in_force::load(etcd, &args.files).await?;
    let mut request = Request::new(&args.path, &args.headers);
    request.sender = Sender {
        address: args.from,
        spiffe: args.spiffe.clone(),
    };
    Ok(explain(&in_force, &request, args.random))
}

/// Explains one request.
pub fn explain(in_force: &InForce, request: &Request, random: Option<u64>) -> Outcome {
    let policy = &in_force.policy;
    let pairs = request.pairs();
    let view = RequestView::new(&pairs).from_peer(&request.sender);
    let validated = policy.decide_stages(Stages::VALIDATION, &view, 0);
    let valid = !matches!(validated.verdict, Verdict::Refuse(_));
    let decision = policy.decide(&view, random.unwrap_or(0));
    let (validation, routing) = match (&decision.verdict, valid) {
        (_, false) => ("refused", "not run"),
        (Verdict::Refuse(_), true) => ("passed", "refused"),
        (Verdict::Route(_), true) => ("passed", "decided"),
        (Verdict::Pass, true) => ("passed", "not run"),
    };
    let mut explained = match &decision.verdict {
        Verdict::Refuse(refusal) => explain_refusal(refusal),
        Verdict::Route(route) => RouteInContext {
            in_force,
            request,
            route,
            random,
        }
        .explain(),
        Verdict::Pass => Explained {
            text: "forwarded undecided: this protocol is passed\n".to_owned(),
            data: json!({"action": "pass"}),
            shares: Vec::new(),
        },
    };
    let record = record(policy, &decision, random);
    if let Some(record) = &record {
        let _ = writeln!(explained.text, "  record   {record}");
    }
    let text = format!(
        "policies    {}\n{}{}\nvalidation  {validation}\nrouting     {routing}\n\n{}{}",
        in_force.source,
        request.sender.describe(),
        request.describe(),
        explained.text,
        describe_findings(&decision)
    );
    let data = json!({
        "policies": in_force.source,
        "request": request.to_json(),
        "caller": {"address": request.sender.address, "spiffe": request.sender.spiffe},
        "stages": [
            {"stage": "validation", "result": validation},
            {"stage": "routing", "result": routing.replace(' ', "_")},
        ],
        "decision": explained.data,
        "record": record,
        "shares": explained.shares.iter().map(Share::to_json).collect::<Value>(),
        "reported": decision.findings.iter().map(finding_json).collect::<Value>(),
    });
    Outcome::new(text, data).with_warnings(in_force.warnings.clone())
}

/// The line for the access log. There is none to tell of a draw that was not made.
fn record(policy: &Policy, decision: &Decision<'_>, random: Option<u64>) -> Option<String> {
    match &decision.verdict {
        Verdict::Route(route) if route.reason == RouteReason::Weighted && random.is_none() => None,
        _ => Some(Record::of(policy.revision(), decision).to_string()),
    }
}

struct Explained {
    text: String,
    data: Value,
    shares: Vec<Share>,
}

/// `RULE_VIOLATED by rule default/user-required`.
fn why(finding: &Finding<'_>) -> String {
    match finding.rule {
        Some(rule) => format!("{} by rule {}/{}", finding.reason.label(), rule.policy, rule.name),
        None => finding.reason.label().to_owned(),
    }
}

fn finding_json(finding: &Finding<'_>) -> Value {
    json!({
        "reason": finding.reason.label(), "field": finding.field, "message": finding.message,
        "rule": finding.rule.map(|rule| json!({"policy": rule.policy, "name": rule.name})),
    })
}

/// What is counted and logged, but not refused.
fn describe_findings(decision: &Decision<'_>) -> String {
    let mut text = String::new();
    if !decision.findings.is_empty() {
        text.push_str("\nreported and let pass\n");
    }
    for finding in &decision.findings {
        let _ = writeln!(text, "  {}: {}", why(finding), finding.message);
    }
    text
}

fn explain_refusal(refusal: &Refusal<'_>) -> Explained {
    let Refusal {
        status,
        reason,
        field,
        message,
        violations,
        reached,
        retry_after: _,
        limited: _,
    } = refusal;
    let mut text = format!(
        "refused: gRPC status {} ({}), HTTP {} for others, reason {}\n  header   {field}\n  message  {message}\n",
        status.label(),
        status.code(),
        status.http_status(),
        violations.first().map_or_else(|| reason.label().to_owned(), why)
    );
    for (name, value) in [
        ("model", reached.model),
        ("rule", reached.rule),
        ("version", reached.version),
    ] {
        if let Some(value) = value {
            let _ = writeln!(text, "  {name:<8} {value}");
        }
    }
    for violation in violations.iter().skip(1) {
        let _ = writeln!(text, "  also     {}: {}", why(violation), violation.message);
    }
    let data = json!({
        "action": "refuse", "grpc_status": status.label(), "grpc_code": status.code(),
        "http_status": status.http_status(), "reason": reason.label(), "field": field, "message": message,
        "violations": violations.iter().map(finding_json).collect::<Value>(), "reached": reached,
    });
    Explained {
        text,
        data,
        shares: Vec::new(),
    }
}
